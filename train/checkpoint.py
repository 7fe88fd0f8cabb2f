"""A run's folder: what tells where the run stands, so that it can be resumed."""

import csv
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from train import weights
from tumour_segmenter import files

CHECKPOINT, WEIGHTS = "last.pt", "weights.safetensors"  # while a run trains, and once it is done


def check_folder(out: Path) -> None:
    """Raise ValueError where a file is in the way of a run's folder."""
    there = next((path for path in (out, *out.parents) if path.exists()), out)
    if there.exists() and not there.is_dir():
        raise ValueError(f"{there} is a file, expected the folder of a run")


@contextmanager
def alone_in(out: Path) -> Iterator[None]:
    """Make the folder and hold it. Raises ValueError where another process is at work in it."""
    out.mkdir(parents=True, exist_ok=True)
    try:
        with files.locked(out, wait=False):
            yield
    except BlockingIOError as error:
        raise ValueError(
            f"{out}: another process trains here; wait for its end, or choose another --out"
        ) from error


def facts_in(out: Path) -> dict[str, str]:
    """The facts of the run in a folder, done or not; empty where there is none. Raises
    ValueError."""
    if (out / WEIGHTS).exists():
        return weights.load(out / WEIGHTS).facts
    return load(out)["facts"] if (out / CHECKPOINT).exists() else {}


def save(out: Path, state: dict) -> None:
    """Write the checkpoint, then log.csv. A kill or a full disk leaves the old file or the new one.
    Raises OSError."""
    content = io.BytesIO()  # given a file, torch calls a full disk some RuntimeError
    torch.save(state, content)
    files.write(out / CHECKPOINT, content.getvalue())
    with files.replacing(out / "log.csv") as partial, partial.open("w", newline="") as file:
        writer = csv.DictWriter(file, state["log"][-1])
        writer.writeheader()
        writer.writerows(state["log"])


def load(out: Path) -> dict:
    """What `save` wrote, on the CPU. Raises ValueError where it cannot be read."""
    path = out / CHECKPOINT
    if not path.is_file():
        raise ValueError(f"{path} does not exist; start the run without --resume")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(f"{path}: cannot be read as a checkpoint ({error})") from error
    if not isinstance(state, dict) or not {"config", "facts", "log", "steps"} <= state.keys():
        raise ValueError(f"{path}: is no checkpoint of this version; start the run again")
    return state

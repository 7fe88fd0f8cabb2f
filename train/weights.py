"""The file of a trained network, and what it says about how it was trained.

`artifacts/weights/fold-K.safetensors` are such files, from which the ONNX files are derived.
"""

import hashlib
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from train.canonical import Upright
from train.network import UNet
from tumour_segmenter import files

PROJECT = Path(__file__).resolve().parent.parent
UPRIGHT = "upright"  # name of the tensor that the network's Upright needs
FACTS = "facts"  # name of the entry of the file's metadata that holds the facts, as JSON
_COUNTERS = "num_batches_tracked"  # of batch norms; nothing uses them


@dataclass(frozen=True)
class Weights:
    """network: in evaluation mode; facts: what made it, text by name (fold, seed, steps,
    data_fingerprint, training_commit, trained_on, settings); upright: of its training images."""

    network: UNet
    facts: dict[str, str]
    upright: Upright


def _tensors(network: UNet) -> dict[str, Tensor]:
    state = network.state_dict()
    return {name: value.detach().cpu() for name, value in state.items() if _COUNTERS not in name}


def save(path: Path, network: UNet, facts: dict[str, str], upright: Upright) -> None:
    """One safetensors file, whole or not at all. Filters become float16; norms and all else of one
    dimension stay float32, as variances exceed what float16 can hold. Raises ValueError where a
    number is not finite, OSError where the file cannot be written."""
    tensors = {
        name: value.to(torch.float16 if value.ndim > 1 else torch.float32).contiguous()
        for name, value in _tensors(network).items()
    }
    tensors[UPRIGHT] = upright.weights.detach().cpu().float().contiguous()
    if bad := [name for name, value in tensors.items() if not value.isfinite().all()]:
        raise ValueError(f"{path}: not written, {bad[0]} is not finite: training has diverged")
    path.parent.mkdir(parents=True, exist_ok=True)
    # One entry: of several the format fixes no order, and the same weights are the same bytes.
    files.write(path, safetensors.torch.save(tensors, metadata={FACTS: json.dumps(facts)}))


def load(path: Path) -> Weights:
    """Read what `save` wrote. Raises ValueError where the file is missing or is something else."""
    tensors = {}
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            facts = json.loads((file.metadata() or {}).get(FACTS, "{}"))
            for name in file.keys():  # noqa: SIM118, it is no dictionary
                tensors[name] = file.get_tensor(name).float()
    except (OSError, safetensors.SafetensorError) as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else str(error)
        raise ValueError(f"{path}: cannot be read as safetensors ({reason})") from error
    network = UNet()
    wanted = {name: value.shape for name, value in _tensors(network).items()}
    upright = tensors.pop(UPRIGHT, None)
    if upright is None or {name: value.shape for name, value in tensors.items()} != wanted:
        raise ValueError(f"{path}: holds another network, expected a file that train.fit wrote")
    network.load_state_dict(tensors, strict=False)
    return Weights(network.eval(), facts, Upright(upright.tolist()))


def source_commit(*folders: str) -> str:
    """The commit, "-dirty" where files of the folders differ; "unknown" outside a checkout."""

    def git(*words: str) -> str:
        return subprocess.check_output(["git", *words], cwd=PROJECT, text=True, stderr=-3).strip()

    try:
        commit = git("rev-parse", "--short=12", "HEAD")
        return f"{commit}-dirty" if git("status", "--porcelain", "--", *folders) else commit
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def sha256(path: Path) -> str:
    """Of a file's content. Raises OSError."""
    return hashlib.sha256(path.read_bytes()).hexdigest()

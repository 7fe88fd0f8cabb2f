"""The model as one call, pixels -> mask, and the challenge's threshold baseline with the same call.

The artifact is the whole function: inverting, scaling, padding, the network and its threshold live
in the ONNX graph, so nothing is computed here.
"""

from __future__ import annotations

import hashlib
import json
import shlex
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tumour_segmenter.errors import ContractError, UsageError

BASELINE_THRESHOLD = 50
# What an artifact must look like: name, element type and number of dimensions.
INPUT = ("pixels", "tensor(uint8)", 2)
OUTPUT = ("mask", "tensor(uint8)", 2)
# It may also have this: an initializer that can be fed, so that it has a default.
MINIMUM = ("minimum_probability", "tensor(float)", 0)
FOREVER = float("inf")
# A challenge image has 400,000 at most. What a larger one took of memory is given back after it.
PIXELS_TO_KEEP = 1_000_000


def call(until: float, function: Callable, *args: object) -> Any:
    """Return what `function` does; `until` is when it should be done."""
    return function(*args)


class ArtifactError(Exception):
    """A model file that cannot be served; the message says in one line what to do."""


class Baseline:
    """The challenge's own baseline: whatever is darker than grey 50 is called tumour."""

    def __init__(self) -> None:
        self.metadata = {"name": "baseline", "threshold": f"grey < {BASELINE_THRESHOLD}"}
        self.operating_points: dict[str, dict[str, float]] = {}
        self.trained_on: list[str] = []

    def __call__(
        self, pixels: np.ndarray, until: float = FOREVER, operating_point: str | None = None
    ) -> np.ndarray:
        """Turn grey pixels, uint8 H×W, dark = hot, into a mask, uint8 H×W of 0 and 255.

        It has no operating points: any name raises `ContractError`.
        """
        check_operating_point(self.operating_points, operating_point)
        return np.where(pixels < BASELINE_THRESHOLD, np.uint8(255), np.uint8(0))


class Segmenter:
    """An artifact, opened once: `segmenter(pixels)` gives the mask.

    `metadata` is what the file says about itself, without long lists, and its sha256.
    `operating_points` maps names to {"minimum_probability": ..., "dice": ..., ...}, empty where the
    file offers none. `trained_on` lists the `contract.image_hash` of the images it was trained on.
    """

    def __init__(self, session, metadata: dict[str, str | int]) -> None:
        self.trained_on = _listed(metadata, "trained_on", list)
        # Half a minimum is no operating point: both the names and the input must be there.
        offered = _listed(metadata, "operating_points", dict)
        self.operating_points = offered if _can_be_fed(session) else {}
        self.metadata = {key: text for key, text in metadata.items() if key != "trained_on"}
        if self.trained_on:
            self.metadata["trained_on_images"] = len(self.trained_on)
        self._session = session
        self.call = call  # how a run is called, so that a server can go on with other work

    @classmethod
    def load(cls, path: Path | str, threads: int = 1) -> Segmenter:
        """Open the ONNX file at `path`, to be run by `threads` threads.

        Raises `ArtifactError` if the file is missing, does not have the checksum written in
        `<path>.sha256`, or cannot be opened, see `open`.
        """
        return cls.open(read_checked(path), path, threads)

    @classmethod
    def open(cls, model: bytes, path: Path | str, threads: int = 1) -> Segmenter:
        """Open a model that was read from `path`, to be run by `threads` threads.

        Raises `ArtifactError` if this onnxruntime cannot run it, or if it has other inputs and
        outputs than `pixels` and `mask`, both uint8 [height, width].
        """
        # Imported here so that the file can be checked where no session is wanted.
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # A thread that waits for work must not take the core from another worker.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # The arena keeps memory from one image to the next, which saves a fifth of the time; a
        # pattern for each size would only keep more.
        options.enable_cpu_mem_arena = True
        options.enable_mem_pattern = False
        options.log_severity_level = 4  # an error is raised, and needs no line in the log as well
        try:
            session = onnxruntime.InferenceSession(
                model, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's exceptions have no common base
            why = str(error).strip().splitlines()[0]
            raise ArtifactError(
                f"{path} cannot be run by onnxruntime {onnxruntime.__version__} ({why}); "
                "export it again, or install the version in requirements-serve.txt"
            ) from error
        found = [
            [(value.name, value.type, len(value.shape or ())) for value in values]
            for values in (session.get_inputs(), session.get_outputs())
        ]
        if found != [[INPUT], [OUTPUT]]:
            raise ArtifactError(
                f"{path} has inputs {found[0]} and outputs {found[1]}, expected {INPUT} and "
                f"{OUTPUT}; export it with python -m export"
            )
        said = session.get_modelmeta().custom_metadata_map
        try:
            return cls(session, said | {"sha256": hashlib.sha256(model).hexdigest()})
        except ValueError as error:
            raise ArtifactError(
                f"{path} has metadata that make no sense ({error}); export it again"
            ) from error

    def __call__(
        self, pixels: np.ndarray, until: float = FOREVER, operating_point: str | None = None
    ) -> np.ndarray:
        """Turn grey pixels, uint8 H×W, dark = hot, into a mask, uint8 H×W of 0 and 255.

        operating_point: one of `operating_points`, None for the file's default; another name raises
        `ContractError`. Raises `TimeoutError` if the mask is not done at `until`, a time of
        `time.monotonic`. Safe to call from several threads, though each call wants all the cores
        and memory there are.
        """
        check_operating_point(self.operating_points, operating_point)
        inputs = {INPUT[0]: pixels}
        if operating_point is not None:
            minimum = self.operating_points[operating_point]["minimum_probability"]
            inputs[MINIMUM[0]] = np.array(minimum, np.float32)
        import onnxruntime

        options = onnxruntime.RunOptions()
        if pixels.size > PIXELS_TO_KEEP:
            options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        run = self._session.run
        if until == FOREVER:
            return run([OUTPUT[0]], inputs, options)[0]
        clock = threading.Timer(until - time.monotonic(), setattr, (options, "terminate", True))
        clock.start()
        try:
            return self.call(until, run, [OUTPUT[0]], inputs, options)[0]
        except Exception as error:  # onnxruntime's exceptions have no common base
            if options.terminate:
                raise TimeoutError("the model did not finish in time") from error
            raise
        finally:
            clock.cancel()


def load_model(path: Path | str | None, threads: int = 1) -> Segmenter | Baseline:
    """Open the model file at `path`, as `Segmenter.load` does; None is the baseline."""
    return Segmenter.load(path, threads) if path else Baseline()


def check_operating_point(offered: dict[str, dict[str, float]], name: object) -> None:
    """Raise `ContractError` unless `name` is one of `offered`, or None for the default."""
    if name is None or (isinstance(name, str) and name in offered):
        return
    names = ", ".join(offered) if offered else "none, leave it out"
    raise ContractError(
        "bad_operating_point", f"the operating points of this model are: {names}", 400
    )


def check_option(offered: dict[str, dict[str, float]], name: str | None) -> None:
    """Raise `UsageError` unless `--operating-point` is in `offered`, or None for the default."""
    try:
        check_operating_point(offered, name)
    except ContractError as error:
        raise UsageError(f"--operating-point {name}: {error}") from error


def _listed(metadata: dict[str, str], key: str, kind: type) -> list | dict:
    """Return the JSON under `key`, which must be of `kind`; empty where it is missing."""
    found = json.loads(metadata.get(key, "null")) or kind()
    if not isinstance(found, kind):
        raise ValueError(f"{key} is no JSON {kind.__name__}")
    if kind is dict:
        for name, point in found.items():
            minimum = point.get(MINIMUM[0]) if isinstance(point, dict) else None
            if not isinstance(minimum, int | float) or not 0 <= minimum <= 1:
                raise ValueError(f"{key} has no {MINIMUM[0]} from 0 to 1 for {name}")
    return found


def _can_be_fed(session) -> bool:
    return any(
        (value.name, value.type, len(value.shape or ())) == MINIMUM
        for value in session.get_overridable_initializers()
    )


def _unreadable(path: Path, checksum: Path, error: OSError) -> str:
    what = f"cannot read {error.filename} ({error.strerror})"
    if path.is_file() and not checksum.exists():
        folder, name, written = map(shlex.quote, (str(path.parent), path.name, checksum.name))
        command = f"(cd {folder} && sha256sum {name} > {written})"
        return f"{what}; if you trust the model, make its checksum: {command}"
    return (
        f"{what}; correct MODEL, restore the file with git checkout, make it with "
        "python -m export, or set MODEL=baseline"
    )


def read_checked(path: Path | str) -> bytes:
    """Return the bytes of the file at `path`, which must have the checksum in `<path>.sha256`.

    That file is what `sha256sum` writes. Raises `ArtifactError`.
    """
    path = Path(path)
    checksum = path.with_name(path.name + ".sha256")
    try:
        model = path.read_bytes()
        expected = checksum.read_text(encoding="ascii", errors="replace").split()[:1]
    except OSError as error:
        raise ArtifactError(_unreadable(path, checksum, error)) from error
    if [hashlib.sha256(model).hexdigest()] != expected:
        raise ArtifactError(
            f"{path} does not have the checksum in {checksum.name}, so it is damaged or was "
            "changed; restore both with git checkout or export again"
        )
    return model

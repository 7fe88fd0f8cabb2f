"""The model as one call, pixels -> mask, and the challenge's threshold baseline with the same call.

The artifact is the whole function: inverting, scaling, padding, the networks and their threshold
live in the ONNX graph, so nothing is computed here.
"""

from __future__ import annotations

import hashlib
import json
import os
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tumour_segmenter.errors import ArtifactError, ContractError, UsageError
from tumour_segmenter.model_file import SHIPPED, model_path, read_checked

if TYPE_CHECKING:
    import onnxruntime

BASELINE_THRESHOLD = 50
# What an artifact must look like: names, element types and numbers of dimensions.
INPUT = ("pixels", "tensor(uint8)", 2)
MASK, PROBABILITY = ("mask", "tensor(uint8)", 2), ("probability", "tensor(uint8)", 2)
# What an operating point sets: initializers that can be fed, so that they have a default.
MINIMUM, FACTOR = "minimum_probability", "threshold_factor"
# A challenge image has 400,000 at most. What a larger one took of memory is given back after it.
PIXELS_TO_KEEP = 1_000_000


class Prediction(NamedTuple):
    """What a model makes of an image; both are uint8 [height, width]."""

    mask: np.ndarray  # 255 = tumour, 0 = not
    probability: np.ndarray | None  # round(255 p) of the calibrated probability, where asked for


class Baseline:
    """The challenge's own baseline: whatever is darker than grey 50 is called tumour."""

    def __init__(self) -> None:
        self.metadata = {"name": "baseline", "threshold": f"grey < {BASELINE_THRESHOLD}"}
        self.operating_points: dict[str, dict[str, float]] = {}
        self.trained_on: list[str] = []
        self.has_probability = False

    def __call__(self, pixels: np.ndarray, operating_point: str | None = None) -> np.ndarray:
        """Turn `pixels` into a mask, as `Segmenter` does; it has no operating points."""
        return self.run(pixels, operating_point).mask

    def probability(self, pixels: np.ndarray) -> np.ndarray:
        """Raise `ContractError`: a threshold knows no probability."""
        raise _no_probability()

    def run(
        self,
        pixels: np.ndarray,
        operating_point: str | None = None,
        probability: bool = False,
        options: object = None,
    ) -> Prediction:
        """Do what `Segmenter.run` does; raises `ContractError` for an operating point or a
        probability."""
        pixels = _checked(pixels)
        check_operating_point(self.operating_points, operating_point)
        if probability:
            raise _no_probability()
        return Prediction(np.where(pixels < BASELINE_THRESHOLD, np.uint8(255), np.uint8(0)), None)

    def run_options(self, pixels: np.ndarray) -> None:
        """Return None: a threshold needs no options, and is over before it could be stopped."""


class Segmenter:
    """An artifact, opened once: `segmenter(pixels)` gives the mask.

    `metadata` is what the file says about itself, without long lists, and its sha256.
    `operating_points` maps names to {"minimum_probability": ..., "threshold_factor": ...,
    "dice": ..., ...}, empty where the file offers none. `trained_on` lists the
    `contract.image_hash` of the images it was trained on. `has_probability` says whether it
    outputs one.
    """

    def __init__(self, model: bytes, path: str | os.PathLike[str], threads: int = 1) -> None:
        """Open a model that was read from `path`, to be run by `threads` threads.

        Raises `ArtifactError` if this onnxruntime cannot run it, or if it has other inputs and
        outputs than `pixels`, `mask` and `probability`, all uint8 [height, width].
        """
        # Imported here so that a file can be checked where no session is wanted.
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
        inputs, outputs = (
            [(value.name, value.type, len(value.shape or ())) for value in values]
            for values in (session.get_inputs(), session.get_outputs())
        )
        if inputs != [INPUT] or outputs not in ([MASK], [MASK, PROBABILITY]):
            raise ArtifactError(
                f"{path} has inputs {inputs} and outputs {outputs}, expected {INPUT}, {MASK} and "
                f"{PROBABILITY}; export it with python -m export"
            )
        self._session = session
        self.has_probability = PROBABILITY in outputs
        metadata = session.get_modelmeta().custom_metadata_map
        try:
            self.trained_on: list[str] = _listed(metadata, "trained_on", list)
            offered = _listed(metadata, "operating_points", dict)
            _check_points(offered)
        except ValueError as error:
            raise ArtifactError(
                f"{path} has metadata that make no sense ({error}); export it again"
            ) from error
        # A number that cannot be fed is no operating point: both names and inputs must be there.
        fed = {value.name for value in session.get_overridable_initializers()}
        self.operating_points = offered if MINIMUM in fed else {}
        self.metadata = {key: text for key, text in metadata.items() if key != "trained_on"}
        if self.trained_on:
            self.metadata["trained_on_images"] = len(self.trained_on)
        self.metadata["sha256"] = hashlib.sha256(model).hexdigest()

    def __call__(self, pixels: np.ndarray, operating_point: str | None = None) -> np.ndarray:
        """Turn `pixels`, uint8 [height, width], dark = hot, into a mask of that shape, 0 or 255.

        operating_point: one of `operating_points`, None for the file's default. Raises `ValueError`
        for another array or another name. Safe to call from several threads, though each call
        wants all the cores and memory there are.
        """
        return self.run(pixels, operating_point).mask

    def probability(self, pixels: np.ndarray) -> np.ndarray:
        """Return how probable it is that each pixel is tumour: float32 [height, width], 0 to 1.

        It is calibrated (see artifacts/RESULTS.md) and comes in steps of 1/255. Raises `ValueError`
        as `segmenter(pixels)` does, and where the file outputs none.
        """
        found = self.run(pixels, probability=True).probability
        return found.astype(np.float32) / 255

    def run(
        self,
        pixels: np.ndarray,
        operating_point: str | None = None,
        probability: bool = False,
        options: onnxruntime.RunOptions | None = None,
    ) -> Prediction:
        """Return the mask, and the probability if it is asked for, of `pixels`.

        options: what `run_options` gives, for who wants to end the run from another thread; then
        onnxruntime's own exception is raised.
        """
        pixels = _checked(pixels)
        check_operating_point(self.operating_points, operating_point)
        if probability and not self.has_probability:
            raise _no_probability()
        inputs = {INPUT[0]: pixels}
        if operating_point is not None:
            point = self.operating_points[operating_point]
            inputs |= {
                name: np.array(point[name], np.float32)
                for name in (MINIMUM, FACTOR)
                if name in point
            }
        outputs = [MASK[0], PROBABILITY[0]] if probability else [MASK[0]]
        found = self._session.run(outputs, inputs, options or self.run_options(pixels))
        return Prediction(found[0], found[1] if probability else None)

    def run_options(self, pixels: np.ndarray) -> onnxruntime.RunOptions:
        """Return the options for a run on `pixels`; its `terminate = True` ends that run."""
        import onnxruntime

        options = onnxruntime.RunOptions()
        # The graph computes only what the outputs that are asked for need.
        options.only_execute_path_to_fetches = True
        if pixels.size > PIXELS_TO_KEEP:
            options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        return options


def open_model(
    name: str | os.PathLike[str] = SHIPPED, threads: int = 1, content: bytes | None = None
) -> Segmenter | Baseline:
    """Open "shipped", "fast", "baseline" or the ONNX file at a path.

    threads: how many run one image; content: the file's bytes, where `read_checked` has read them
    before. Raises `ArtifactError` if the file is missing, does not have the checksum in
    `<path>.sha256`, or cannot be opened.
    """
    path = model_path(name)
    if path is None:
        return Baseline()
    return Segmenter(content or read_checked(path), path, threads)


def check_operating_point(offered: dict[str, dict[str, float]], name: object) -> None:
    """Raise `ContractError` unless `name` is one of `offered`, or None for the default."""
    if name is None or (isinstance(name, str) and name in offered):
        return
    names = ", ".join(offered) if offered else "none, leave it out"
    raise ContractError("bad_operating_point", f"the operating points of this model are: {names}")


def check_option(offered: dict[str, dict[str, float]], name: str | None) -> None:
    """Raise `UsageError` unless `--operating-point` is in `offered`, or None for the default."""
    try:
        check_operating_point(offered, name)
    except ContractError as error:
        raise UsageError(f"--operating-point {name}: {error}") from error


def _checked(pixels: np.ndarray) -> np.ndarray:
    """Return the array as a model takes it: it has no header that says what it is."""
    found = np.asarray(pixels)
    if found.dtype != np.uint8 or found.ndim != 2 or not found.size:
        raise ValueError(
            f"the image is {found.dtype} {list(found.shape)}, expected uint8 [height, width], "
            "0 = highest uptake, 255 = none"
        )
    return np.ascontiguousarray(found)


def _no_probability() -> ContractError:
    return ContractError(
        "no_probability", "this model outputs no probability; ask the shipped one, or leave it out"
    )


def _listed(metadata: dict[str, str], key: str, kind: type) -> list | dict:
    """Return the JSON under `key`, which must be of `kind`; empty where it is missing."""
    found = json.loads(metadata.get(key, "null")) or kind()
    if not isinstance(found, kind):
        raise ValueError(f"{key} is no JSON {kind.__name__}")
    return found


def _check_points(points: dict[str, dict[str, float]]) -> None:
    for name, point in points.items():
        for key, highest in ((MINIMUM, 1), (FACTOR, float("inf"))):
            if key == FACTOR and key not in point:
                continue
            value = point.get(key) if isinstance(point, dict) else None
            if not isinstance(value, int | float) or not 0 <= value <= highest:
                raise ValueError(f"operating_points has no {key} from 0 to {highest} for {name}")

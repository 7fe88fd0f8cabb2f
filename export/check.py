"""The check of an exported file: it does what the network does, or it is not written."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime

from export.graph import INPUT, OUTPUTS, ExportError, PixelsToMask
from train.dataset import Case
from train.operating_point import OperatingPoint
from tumour_segmenter import contract
from tumour_segmenter.folders import counted
from tumour_segmenter.phantom import phantom

SIZES = ((1, 1), (1, 400), (64, 64), (98, 131), (426, 400), (489, 400), (991, 400))  # phantoms
MOST_FLIPPED = 1e-4  # share of a phantom's pixels, by rounding right at the threshold; or one
LEAST_AGREEMENT = 0.97  # mean Dice between the masks of float32 and INT8 in what is compared
MOST_LOST = 0.005  # mean Dice that INT8 may lose against float32 on patients
MOST_PATIENTS = 48
FEWEST_PIXELS = 50  # of tumour in a phantom: in fewer, the Dice hangs on a few boundary pixels
MOST_LEVELS = 1  # of 255 that a pixel's probability may differ by, torch against onnxruntime
MOST_OFF = 0.05  # mean difference of the probabilities of float32 and INT8, where they are not 0


def open_session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    """An onnxruntime session of the graph as the server runs it, on one CPU core."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    providers = ["CPUExecutionProvider"]
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=providers)


def run(session: onnxruntime.InferenceSession, pixels: np.ndarray) -> list[np.ndarray]:
    """uint8 H×W grey, dark = hot -> mask, at the file's own operating point, and probability."""
    return session.run(OUTPUTS, {INPUT: pixels})


@dataclass(frozen=True)
class Row:
    """One phantom: tumour pixels of torch; mask pixels that float32 has otherwise, and the most
    levels, of 255, that a pixel's probability differs by; the Dice between float32's and INT8's
    masks (None: too little tumour), and the mean difference of their probabilities, 0..1."""

    height: int
    width: int
    tumour: int
    flipped: int
    levels: int
    agreement: float | None
    off: float

    @property
    def allowed(self) -> int:
        return max(1, int(MOST_FLIPPED * self.height * self.width))

    def __str__(self) -> str:
        agreement = "-" if self.agreement is None else f"{self.agreement:.4f}"
        flipped = f"{self.flipped} flipped (at most {self.allowed})"
        size = f"{self.height}×{self.width}: tumour pixels {self.tumour}"
        levels = f"probability within {self.levels} of 255"
        eight = f"float32 and INT8: Dice {agreement}, probability {self.off:.3f} apart"
        return f"{size}, {flipped}, {levels}; {eight}"


def compare(
    module: PixelsToMask, point: OperatingPoint, float32: onnx.ModelProto, int8: onnx.ModelProto
) -> list[Row]:
    """Run all three on a phantom of each size; point: the default of the files. Raises ExportError
    where a mask has no such form."""
    sessions = [open_session(model) for model in (float32, int8)]
    rows = []
    for height, width in SIZES:
        pixels, _ = phantom(height, width)
        expected = module.of_image(pixels, point)
        given = [run(session, pixels) for session in sessions]
        for name, output in [pair for of in given for pair in zip(OUTPUTS, of, strict=True)]:
            if output.shape != pixels.shape or output.dtype != np.uint8:
                raise ExportError(
                    f"{height}×{width}: the exported {name} is {output.dtype} {output.shape}, "
                    f"expected uint8 {pixels.shape}"
                )
        masks, (plain, eight) = zip(*given, strict=True)
        tumour, flipped = int((expected[0] > 0).sum()), int((masks[0] != expected[0]).sum())
        agreement = contract.dice(*masks) if tumour >= FEWEST_PIXELS else None
        levels = int(_apart(plain, expected[1]).max())
        above = np.maximum(plain, eight) > 0
        off = float(_apart(plain, eight)[above].mean()) / 255 if above.any() else 0.0
        rows.append(Row(height, width, tumour, flipped, levels, agreement, off))
    return rows


def _apart(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """uint8 pixels -> how far each is from the other."""
    return np.maximum(a, b) - np.minimum(a, b)


def judge(rows: Sequence[Row]) -> None:
    """Raise ExportError, with number and limit, where the file does not do what torch does."""
    for r in rows:
        if r.flipped > r.allowed:
            raise ExportError(
                f"in the phantom of {r.height}×{r.width} pixels {r.flipped} mask pixels of torch "
                f"and onnxruntime differ, at most {r.allowed} may; use the versions of "
                "requirements-train.txt, and train again if the weights are not of this version"
            )
        if r.levels > MOST_LEVELS:
            raise ExportError(
                f"in the phantom of {r.height}×{r.width} pixels probabilities of torch and "
                f"onnxruntime differ by {r.levels} of 255, at most {MOST_LEVELS} may; use the "
                "versions of requirements-train.txt"
            )
    compared = [r.agreement for r in rows if r.agreement is not None]
    if not compared:
        most = max(r.tumour for r in rows)
        raise ExportError(
            f"the network marks at most {most} pixels of a phantom, at least {FEWEST_PIXELS} are "
            "needed to compare anything; train longer, or give operating points fitted on it"
        )
    _judge_agreement(float(np.mean(compared)), counted(len(compared), "phantom"))
    marked = [r.off for r in rows if r.agreement is not None]
    if (off := float(np.mean(marked))) > MOST_OFF:
        raise ExportError(
            f"the probabilities of float32 and INT8 differ by {off:.3f} on "
            f"{counted(len(marked), 'phantom')}, at most {MOST_OFF} may; train longer, or give "
            "--data with more images, on which the INT8 ranges are measured"
        )


def on_patients(float32: onnx.ModelProto, int8: onnx.ModelProto, cases: Sequence[Case]) -> str:
    """Both on up to MOST_PATIENTS patients, in one line; ExportError where INT8 loses too much."""
    patients = [case for case in cases if case.is_patient]
    patients = patients[:: -(-len(patients) // MOST_PATIENTS)]
    sessions = [open_session(model) for model in (float32, int8)]
    scores = []
    for case in patients:
        a, b = (run(session, case.grey)[0] for session in sessions)
        pairs = ((case.truth, a), (case.truth, b), (a, b))
        scores.append([contract.dice(*pair) for pair in pairs])
    of = counted(len(patients), "patient")
    plain, eight, agreement = np.mean(scores, axis=0)
    if plain - eight > MOST_LOST:
        raise ExportError(
            f"INT8 loses {plain - eight:.4f} of Dice on {of}, at most {MOST_LOST} is "
            "allowed; give --data with more varied training images"
        )
    _judge_agreement(agreement, of)
    return f"{agreement:.4f} between the masks of float32 and INT8 of {of}"


def _judge_agreement(agreement: float, what: str) -> None:
    if agreement < LEAST_AGREEMENT:
        raise ExportError(
            f"the masks of float32 and INT8 agree to a Dice of {agreement:.4f} on {what}, at least "
            f"{LEAST_AGREEMENT} is needed; train longer, or give --data with more images, on which "
            "the INT8 ranges are measured"
        )

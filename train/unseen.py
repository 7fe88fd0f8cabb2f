"""Whom a network was shown, so that nobody is judged by one that knows them.

What a run goes on from, or is taught by, must never have been shown whom the run holds out, and
neither must what that came from in turn. So folds.json holds a digest of each image and, as
`shown_before`, those of all images that its predecessors were shown; null where that is not known.
"""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from train import checkpoint, warm_start
from train.dataset import Case


def digests(cases: Iterable[Case]) -> dict[str, str]:
    """By name, what tells each image from any other; the label does not matter."""
    return {case.name: _digest(case) for case in cases}


def _digest(case: Case) -> str:
    pixels = f"{case.uptake.shape}".encode() + case.uptake.tobytes()
    return hashlib.sha256(pixels).hexdigest()[:16]


def same_folds(folds: dict, facts: dict) -> bool:
    """Whether two folds.json of any version deal the same people into the same folds."""
    return all(folds.get(key) == facts[key] for key in ("data", "seed"))


def shown_by(paths: Iterable[Path], fold: int | None, facts: dict) -> list[str] | None:
    """Digests of the images that networks and their predecessors were shown, for `shown_before`.

    paths: of finished runs or ONNX files; facts: the folds.json of the run that is to hold out
    `fold`. None where nobody is held out and one does not say. Raises ValueError where one was, or
    may have been, shown someone of that fold.
    """
    held_out = {facts["images"][name] for name, dealt in facts["folds"].items() if dealt == fold}
    shown, all_say = set(), True
    for path in paths:
        folds, without = told_by(path)
        if folds.get("shown_before") is not None:
            of_path = _shown(folds, without)
            if known := len(of_path & held_out):
                raise ValueError(
                    f"{path}: was shown {known} of the {len(held_out)} people of fold {fold}, who "
                    "are to be held out; only what held out the same fold may have a say, or hold "
                    "out nobody (--fold none)"
                )
            shown |= of_path
        elif fold is None:
            all_say = all_say and same_folds(folds, facts)
        elif not same_folds(folds, facts) or without != fold:
            raise ValueError(
                f"{path}: does not say whom it was shown, so only a run on the same data that "
                "holds out the same fold may go on from it, or be taught by it, or one that holds "
                "out nobody (--fold none)"
            )
    return sorted(shown) if all_say else None


def _shown(folds: dict, without: int | None) -> set[str]:
    own = {folds["images"][name] for name, dealt in folds["folds"].items() if dealt != without}
    return own | set(folds["shown_before"])


def told_by(path: Path) -> tuple[dict, int | None]:
    """The folds.json of a finished run or ONNX file, and the fold that it held out.

    Of files that have none beside them it holds only `data` and `seed`; those of older versions
    have neither `images` nor `shown_before`. Raises ValueError where the network cannot be read.
    """
    file = checkpoint.file_of(path)
    if file.name == checkpoint.FILE:
        _, config, folds = checkpoint.read(file.parent)
        return folds, config.fold
    model = warm_start.read(file)
    training = warm_start.training_of(model)
    beside = file.with_name(file.name.removesuffix(".onnx").removesuffix(".int8") + ".folds.json")
    data = warm_start.facts(model).get("data_fingerprint")
    folds = {"data": data, "seed": training.get("fold_seed", 0)}
    if beside.is_file():
        found = json.loads(beside.read_text())
        folds = found if same_folds(found, folds) else folds
    return folds, training.get("fold")

"""What an exported file is told about itself: operating points, members, what made it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from export.graph import OPSET
from train.dataset import Case
from train.fitting import DEFAULT
from train.measured import Measured
from train.members import Member
from train.operating_point import Calibration, OperatingPoint
from train.results_page import dice_text
from train.weights import source_commit
from tumour_segmenter import __version__, files

NAME = "efficientnet-lite0-unet"
FIGURES = {"minimum_probability", "threshold_factor", "dice", "dice_standard_error"}
VIEWS = {1: "each network sees image or mirror image", 2: "the network sees image and mirror image"}


class NotMeasured(Exception):
    """Operating points of other networks or data than those that are exported."""


@dataclass(frozen=True)
class Points:
    """calibration; table: figures by name of the operating point; default: a name; measured_on: in
    words; by_fold: Dice and its standard error by fold, where that is known."""

    calibration: Calibration
    table: dict[str, dict[str, float]]
    default: str
    measured_on: str
    by_fold: dict[str, list[float]]

    def named(self, name: str) -> OperatingPoint:
        return _point(self.table[name])

    def choose(self, name: str | None) -> str:
        """The name, or the default one; raises ValueError where it is unknown."""
        name = self.default if name is None else name
        if name not in self.table:
            raise ValueError(f"no operating point {name}; there are {', '.join(self.table)}")
        return name


def operating_points(path: Path | None, members: Sequence[Member], cases: Sequence[Case]) -> Points:
    """Read from out_of_fold.json, or without it fitted on the cases that some member has not seen.
    Raises ValueError where the file is something else or of other networks or data, or where there
    is nothing to fit on."""
    if path is None and not cases:
        raise ValueError(
            "give --data, so that the operating points can be fitted on images that the networks "
            "were not trained on, or --operating-points with a file of python -m train.out_of_fold"
        )
    if path is None:
        measured = Measured(members, cases)
        patients = int(measured.is_patient.sum())
        table, calibration = measured.table(), measured.points.calibration
        return Points(calibration, table, DEFAULT, f"{patients} patients", {})
    try:
        content = json.loads(path.read_text())
        table = content["operating_points"]
        for name, point in table.items():
            if missing := FIGURES - point.keys():
                raise ValueError(f"{name} has no {', '.join(sorted(missing))}")
            _point(point)
        _check_measured(content, members)
        default, by_fold = content["operating_point"], content["dice_by_fold"]
        calibration = Calibration(**content["calibration"])
        patients = f"{content['figures']['patients']} patients"
        found = Points(calibration, table, default, patients, by_fold)
        found.choose(None)
        return found
    except OSError as error:
        raise ValueError(files.reason(error)) from error
    except NotMeasured as error:
        raise ValueError(
            f"{path}: is of other networks or data: {error}; measure those that are exported with "
            "python -m train.out_of_fold --weights, and give the file that it writes"
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: is not what train.out_of_fold writes ({error})") from error


def _point(figures: dict[str, float]) -> OperatingPoint:
    return OperatingPoint(*(figures[name] for name in OperatingPoint.__dataclass_fields__))


def _check_measured(content: dict, members: Sequence[Member]) -> None:
    """Raise NotMeasured where the numbers are of other networks or of other data."""
    measured = content["members"]
    known = {one["sha256"] for one in measured}
    for member in members:
        fold = member.identity["fold"]
        if member.sha256 not in known:
            raise NotMeasured(f"{member.path.name}, fold {fold}, is not among its networks")
        data = member.weights.facts.get("data_fingerprint", "unknown")
        if data != content["data_fingerprint"]:
            raise NotMeasured(
                f"it was measured on data {content['data_fingerprint'][:12]}, and "
                f"{member.path.name} was trained on {data[:12]}"
            )
    exported = {member.sha256 for member in members}
    folds = {member.identity["fold"] for member in members}
    if more := [o["file"] for o in measured if o["fold"] in folds and o["sha256"] not in exported]:
        raise NotMeasured(f"it averages {more[0]} with a network of the same fold")


def trained_on(members: Sequence[Member], cases: Sequence[Case]) -> list[Case]:
    """Those cases that some member was trained on; all where there is none."""
    hashes = set().union(*(member.trained_on for member in members))
    return [case for case in cases if case.hash in hashes] or list(cases)


def metadata(
    members: Sequence[Member], passes: int, points: Points, name: str, source: str
) -> dict[str, str]:
    """The metadata_props; passes: networks times views; name: of the default operating point;
    source: of the INT8 ranges."""

    def facts(key: str) -> str:
        return ", ".join(dict.fromkeys(m.weights.facts.get(key, "unknown") for m in members))

    folds = sorted({member.identity["fold"] for member in members})
    several = len(members) > 1
    dice = f"{dice_text(points.table[name])} at {name}, out of fold on {points.measured_on}"
    if several:
        dice += "; of single networks that see both views, not of their average"
    elif name == points.default and str(folds[0]) in points.by_fold:
        mean, error, patients = points.by_fold[str(folds[0])]
        dice += f"; {mean:.4f} ± {error:.4f} on the {patients} patients of fold {folds[0]}"
    return {
        "name": f"{NAME}-x{len(members)}-int8" if several else f"{NAME}-int8",
        "version": __version__,
        "source_commit": source_commit("export", "train", "tumour_segmenter"),
        "training_commit": facts("training_commit"),
        "data_fingerprint": facts("data_fingerprint"),
        "members": json.dumps([member.identity for member in members]),
        "folds": f"{len(members)} networks, validated on folds {', '.join(map(str, folds))}",
        "passes": f"{passes}: {VIEWS[passes // len(members)]}",
        "calibration": json.dumps(vars(points.calibration)),
        "operating_point": name,
        "operating_points": json.dumps(points.table),
        "dice": dice,
        "opset": str(OPSET),
        "int8_ranges": source,
        "trained_on": json.dumps(sorted(set().union(*(member.trained_on for member in members)))),
    }

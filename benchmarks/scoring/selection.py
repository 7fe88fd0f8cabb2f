"""Which of the cases are scored: those that a file names, or those of a fold."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path

from benchmarks.running.program import read_text
from benchmarks.scoring.cases import CONTROL, PATIENT, Case
from tumour_segmenter.errors import UsageError


def named_in(given: str, cases: list[Case]) -> set[str]:
    """The names of `cases` that the file `given` holds, be it plain text, CSV or JSON.

    Where there is no such file, `given` is the name of one case. Names count whole, with or
    without a folder and .png. Raises UsageError for a patient that is not among the cases.
    """
    known = {case.name for case in cases}
    if not Path(given).is_file():
        if bare(given) in known:
            return {bare(given)}
        raise UsageError(f"cannot read {given}: neither a file nor a case of the data")
    names: set[str] = set()
    for text in texts(Path(given)):
        names |= {bare(text)} if bare(text) in known else set(map(bare, text.split()))
    _check_known({name for name in names if name.startswith(f"{PATIENT}_")}, cases)
    if not any(case.name in names for case in cases if case.group == "patient"):
        raise UsageError(f"{given} names no patient of the data")
    return names & known


def _check_known(names: set[str], cases: list[Case]) -> None:
    if missing := names - {case.name for case in cases}:
        raise UsageError(
            f"{len(missing)} of those chosen are not in the data, such as {min(missing)}"
        )


def bare(text: str) -> str:
    """A case's name without a folder and .png around it."""
    name = text.strip().replace("\\", "/").rpartition("/")[2]
    return name[:-4] if name.lower().endswith(".png") else name


def texts(path: Path) -> Iterator[str]:
    """The strings in a JSON file, the `case` column of a table that has one, or all fields."""
    content = read_text(path)
    try:
        yield from _strings(json.loads(content))
    except ValueError:
        rows = list(csv.reader(content.splitlines()))
        if rows and "case" in rows[0]:
            column = rows[0].index("case")
            rows = [row[column : column + 1] for row in rows[1:]]
        yield from (field for row in rows for field in row)


def _strings(content: object) -> Iterator[str]:
    if isinstance(content, str):
        yield content
    elif isinstance(content, dict):
        yield from map(str, content)
        for value in content.values():
            yield from _strings(value)
    elif isinstance(content, list):
        for value in content:
            yield from _strings(value)


def in_fold(path: Path, fold: int, cases: list[Case], controls: set[str]) -> set[str]:
    """Names of the patients and controls that the file `path` puts into `fold`.

    The file is artifacts/out_of_fold.json or a training run's folds.json. Raises UsageError if it
    has neither form, puts no patient there, or one that is not among `cases`: a mean over fewer
    would look like another. `controls` are those in the data, scored or not.
    """
    try:
        folds = _folds(json.loads(read_text(path)))
        names = {name for name, number in folds.items() if number == fold}
        known = sorted({number for number in folds.values() if number is not None})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            f"{path} is neither artifacts/out_of_fold.json nor a training run's folds.json"
        ) from error
    if not names - controls:
        raise UsageError(f"{path} puts no patient into fold {fold}; it has {known}")
    if "control" not in {case.group for case in cases}:  # not scored
        names = {name for name in names - controls if not name.startswith(f"{CONTROL}_")}
    _check_known(names, cases)
    return names


def _folds(content: dict) -> dict[str, int]:
    """Name -> fold, of {"folds": {name: fold}} or {"patients": {name: {"fold": fold}}, ...}."""
    if "folds" in content:
        return dict(content["folds"])
    groups = [content["patients"], content["controls"]]
    return {name: case["fold"] for group in groups for name, case in group.items()}


def select(cases: list[Case], names: set[str]) -> list[Case]:
    """The patients of `cases` that are in `names`; of controls too, if any is named, else all."""
    every_control = not any(case.name in names for case in cases if case.group == "control")
    return [
        case for case in cases if case.name in names or (case.group == "control" and every_control)
    ]

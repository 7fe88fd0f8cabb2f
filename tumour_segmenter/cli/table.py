"""The table of `--csv`, one row for each image, and `merge` for those of several shards."""

from __future__ import annotations

import csv
import io
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path

from tumour_segmenter import files
from tumour_segmenter.cli.tasks import Outcome, Provenance
from tumour_segmenter.errors import UsageError
from tumour_segmenter.folders import named

COLUMNS = (
    "image", "mask", "height", "width", "lesions", "tumour_pixels", "body_pixels", "share_of_body",
    "highest_probability", "ms", "fault", "warning", "model", "version", "operating_point", "shard",
)  # fmt: skip
# Names of files that are no text stay what they are.
_AS_WRITTEN = {"encoding": "utf-8", "errors": "surrogateescape", "newline": ""}
# What must be the same in all rows that are put together.
SAME = ("model", "version", "operating_point")


def row(outcome: Outcome, provenance: Provenance, shard: str) -> str:
    """Return the line of the table for `outcome`, with its line break."""
    cells: dict[str, object] = asdict(provenance) | {
        "image": outcome.task.image,
        "mask": outcome.task.mask,
        "fault": outcome.fault,
        "warning": " | ".join(outcome.warnings),
        "shard": shard,
    }
    if counted := outcome.measures:
        cells |= asdict(counted) | {"share_of_body": f"{counted.share_of_body:.6f}"}
    if outcome.highest_probability is not None:
        cells["highest_probability"] = f"{outcome.highest_probability:.3f}"
    if outcome.seconds is not None:
        cells["ms"] = f"{1000 * outcome.seconds:.1f}"
    text = io.StringIO()
    csv.DictWriter(text, COLUMNS, lineterminator="\n").writerow(cells)
    return text.getvalue()


def write(path: Path, rows: Iterable[str]) -> None:
    """Write the header and `rows`, lines with their breaks. Raises `OSError`."""
    with files.replacing(path) as partial, partial.open("w", **_AS_WRITTEN) as file:
        file.write(",".join(COLUMNS) + "\n")
        file.writelines(rows)


def check_place(path: Path, option: str) -> None:
    """Raise `UsageError` unless a table can be written to `path`, also over an older one."""
    if path.is_dir():
        raise UsageError(f"{option} {path} is a folder")
    if path.suffix.lower() == ".png":
        raise UsageError(f"{option} {path} is the name of an image, expected one such as masks.csv")
    try:
        if path.is_file() and path.stat().st_size:
            with path.open("rb") as file:
                if not file.readline().startswith(b"image,"):
                    raise UsageError(f"{option} {path} is there and no table; choose another name")
    except OSError as error:
        raise UsageError(f"{option}: {files.reason(error)}") from error


def merge(tables: list[Path], expected: Iterable[Path] | None, out: Path) -> tuple[int, list[str]]:
    """Write the rows of `tables` to `out`, sorted by image, each image once; return (rows, faults).

    A fault is one line: images that are missing of `expected`, doubled or failed, and rows made by
    different models or of different shards. Of a doubled image the first row without a fault is
    kept. Raises `UsageError` if a file is no such table, `OSError` if `out` cannot be written.
    """
    rows: dict[str, list[str]] = {}
    fault = COLUMNS.index("fault")
    doubled: dict[str, None] = {}
    made: dict[str, dict[str, Path]] = defaultdict(dict)
    for path in tables:
        lines = _read(path)
        header = next(lines, None)
        if not header or header[0] != "image":
            raise UsageError(f"{path} is no table of python -m tumour_segmenter predict --csv")
        if header != list(COLUMNS):
            raise UsageError(f"{path} has other columns than the tables of this version")
        for cells in lines:
            if len(cells) != len(COLUMNS):
                raise UsageError(
                    f"{path} is damaged: a row has {len(cells)} of {len(COLUMNS)} cells"
                )
            image = cells[0]
            if image in rows:
                doubled[image] = None
            if image not in rows or (rows[image][fault] and not cells[fault]):
                rows[image] = cells
            for name in (*SAME, "shard"):
                made[name].setdefault(cells[COLUMNS.index(name)], path)
    with files.replacing(out) as partial, partial.open("w", **_AS_WRITTEN) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(rows[image] for image in sorted(rows))

    faults = []
    if expected is not None:
        names = Counter(Path(image).name for image in rows)
        missing = [path.name for path in expected if not names[path.name]]
        if missing:
            faults.append(f"{len(missing)} missing: {named(missing)}")
        doubled |= {name: None for name, count in names.items() if count > 1}
    if doubled:
        faults.append(f"{len(doubled)} in more than one row: {named(list(doubled))}")
    if failed := [image for image, cells in rows.items() if cells[fault]]:
        faults.append(f"{len(failed)} without a mask, see the column fault: {named(failed)}")
    for name in SAME:
        if len(values := made[name]) > 1:
            each = ", ".join(f"{value or 'none'} in {path}" for value, path in values.items())
            faults.append(f"made by more than one {name.replace('_', ' ')}: {each}")
    faults += _missing_shards(list(made["shard"]), len(tables), expected is not None)
    return len(rows), faults


def _missing_shards(shards: list[str], tables: int, is_complete: bool) -> list[str]:
    counts = {shard.partition("/")[2] for shard in shards}
    if len(counts) > 1:
        return [f"of different numbers of shards: {named(sorted(shards))}"]
    text = next(iter(counts), "")
    count = int(text) if text.isdigit() else 0
    missing = [f"{i}/{count}" for i in range(count) if f"{i}/{count}" not in shards]
    # A shard without images has a table without rows.
    if is_complete or not missing or tables >= count:
        return []
    return [f"no rows of {len(missing)} of {count} shards: {named(missing)}"]


def _read(path: Path) -> Iterator[list[str]]:
    try:
        with path.open(**_AS_WRITTEN) as file:
            yield from csv.reader(file)
    except (OSError, csv.Error) as error:
        why = files.reason(error) if isinstance(error, OSError) else f"{path}: {error}"
        raise UsageError(why) from error

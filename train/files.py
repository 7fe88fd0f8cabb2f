"""Files that appear whole or not at all."""

import csv
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a path beside `path` to write to; what was written is then renamed into place.

    A kill or a full disk leaves the old file or the new one, never half of one.
    """
    partial = path.with_name(f"{path.stem}.partial{path.suffix}")
    yield partial
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    partial.replace(path)


def write_json(path: Path, content: object) -> None:
    """Write a JSON file whole."""
    with replacing(path) as partial:
        partial.write_text(json.dumps(content, indent=1) + "\n")


def write_csv(path: Path, columns: tuple[str, ...], rows: list[dict]) -> None:
    """Write a CSV file whole, with a line of column names."""
    with replacing(path) as partial, partial.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows of what write_csv wrote."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))

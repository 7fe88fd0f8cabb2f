"""What is to be made of which image file, how it went, and the table of that."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from serve.errors import UsageError
from serve.measure import Measures

COLUMNS = (
    "image",
    "mask",
    "height",
    "width",
    "lesions",
    "tumour_pixels",
    "body_pixels",
    "share_of_body",
    "ms",
    "fault",
)


@dataclass(frozen=True)
class Task:
    """Where an image is and where its mask, and its overlay if wanted, go."""

    image: Path
    mask: Path
    overlay: Path | None

    @property
    def is_done(self) -> bool:
        """Whether all files are there and none is older than the image."""
        try:
            born = self.image.stat().st_mtime
            return all(path.stat().st_mtime >= born for path in self.outputs)
        except OSError:
            return False

    def stamp(self) -> None:
        """Make the files no older than the image, even if its clock was ahead of ours."""
        born = self.image.stat().st_mtime_ns
        for path in self.outputs:
            if path.stat().st_mtime_ns < born:
                os.utime(path, ns=(born, born))

    @property
    def outputs(self) -> list[Path]:
        # The mask last, so that a mask that is there means that all is.
        return [self.overlay, self.mask] if self.overlay else [self.mask]


@dataclass(frozen=True)
class Outcome:
    """How a task went: `fault` says in one line what was wrong, else all the rest is there.

    `seconds` is the time for the mask alone, None where it was there before.
    """

    task: Task
    fault: str = ""
    shape: tuple[int, int] | None = None
    measures: Measures | None = None
    seconds: float | None = None


def find_tasks(given: Iterable[Path], out: Path, overlay: bool) -> list[Task]:
    """Return a task for each image of `given`, files and folders, with masks in `out`.

    Raises `UsageError` if there is no image, or if two files would be written to one place.
    """
    images: list[Path] = []
    for path in given:
        if path.is_dir():
            found = sorted(p for p in path.iterdir() if p.suffix.lower() == ".png" and p.is_file())
            if not found:
                raise UsageError(f"{path} holds no PNG file")
            images += found
        elif path.is_file():
            images.append(path)
        else:
            raise UsageError(f"{path}: no such file or folder")
    taken = {image.resolve(): image for image in images}
    tasks = [
        Task(i, out / f"{i.stem}.png", out / f"{i.stem}_overlay.png" if overlay else None)
        for i in images
    ]
    for task in tasks:
        for path in task.outputs:
            other = taken.setdefault(path.resolve(), task.image)
            if other.resolve() == path.resolve():
                raise UsageError(f"{path} would be written over an image; choose another --out")
            if other is not task.image:
                raise UsageError(f"{task.image} and {other} would both become {path}")
    return tasks


def write(path: Path, data: bytes) -> None:
    """Write beside `path`, then rename: a file that is there is whole. Raises `OSError`."""
    part = path.with_name(f"{path.name}.part")
    try:
        part.write_bytes(data)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_table(path: Path, outcomes: Iterable[Outcome]) -> None:
    """Write one row of CSV for each of `outcomes`. Raises `OSError`."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for outcome in outcomes:
        row = {"image": outcome.task.image, "mask": outcome.task.mask, "fault": outcome.fault}
        if counted := outcome.measures:
            row["height"], row["width"] = outcome.shape
            row["lesions"] = counted.lesions
            row["tumour_pixels"], row["body_pixels"] = counted.tumour_pixels, counted.body_pixels
            row["share_of_body"] = f"{counted.share_of_body:.6f}"
        if outcome.seconds is not None:
            row["ms"] = f"{1000 * outcome.seconds:.1f}"
        writer.writerow(row)
    write(path, text.getvalue().encode())

"""What is to be made of which image file, and how it is known that it was made."""

from __future__ import annotations

import hashlib
import json
import os
import struct
import zlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from tumour_segmenter.errors import ContractError, UsageError
from tumour_segmenter.folders import counted
from tumour_segmenter.measure import Measures
from tumour_segmenter.png import SIGNATURE, decode_png

LONGEST_NAME = 255  # bytes, on all usual file systems
# A text chunk of the masks and overlays, right after the header: where it ends, and its keyword.
HEADER = len(SIGNATURE) + 25
KEYWORD = b"tumour-segmenter\0"


@dataclass(frozen=True)
class Provenance:
    """What makes a mask: SHA-256 of the model file (or its name), version, operating point."""

    model: str
    version: str
    operating_point: str

    def record(self, image: Path) -> str:
        """Return what a file made of `image`, as it is now, says of itself. Raises `OSError`."""
        found = image.stat()
        return self.record_of(found.st_size, found.st_mtime_ns)

    def record_of(self, size: int, mtime_ns: int) -> str:
        """Return the same of an image of `size` bytes that was last changed at `mtime_ns`."""
        return json.dumps(asdict(self) | {"image_size": size, "image_mtime_ns": mtime_ns})


@dataclass(frozen=True, slots=True)
class Task:
    """An image, the folder `out` for its mask, and whether an overlay is wanted beside it."""

    image: Path
    out: Path
    with_overlay: bool = False

    @property
    def mask(self) -> Path:
        return self.out / _fitting(self.image.stem, ".png")

    @property
    def overlay(self) -> Path:
        return self.out / _fitting(self.image.stem, "_overlay.png")

    @property
    def outputs(self) -> list[Path]:
        # The mask last, so that a mask that is there means that all is.
        return [self.overlay, self.mask] if self.with_overlay else [self.mask]

    def is_done(self, provenance: Provenance) -> bool:
        """Whether all files are there, made by `provenance` of the image as it is now."""
        try:
            expected = provenance.record(self.image)
            return all(read_record(path) == expected for path in self.outputs)
        except OSError:
            return False


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a task went: `fault` says in one line what was wrong, else all the rest is there.

    `seconds` is the time for the mask alone, None where it was there before. After a `fatal` fault
    all other tasks would fail as well. `faulty` is the file that the fault is about.
    """

    task: Task
    fault: str = ""
    fatal: bool = False
    measures: Measures | None = None
    seconds: float | None = None
    warnings: tuple[str, ...] = ()


def make_tasks(images: Iterable[Path], out: Path, overlay: bool) -> list[Task]:
    """Return a task for each image, with masks in `out`.

    Raises `UsageError` if two images would become one mask.
    """
    taken: dict[str, Path] = {}
    tasks = []
    for image in images:
        if (other := taken.setdefault(image.stem, image)) is not image:
            if other == image:
                continue  # named twice, such as a folder and a file in it
            raise UsageError(f"{other} and {image} would both become {out / image.stem}.png")
        tasks.append(Task(image, out, overlay))
    return tasks


def check_foreign(tasks: Iterable[Task]) -> None:
    """Raise `UsageError` if a PNG that this program did not write stands where a mask goes."""
    foreign = [path for task in tasks for path in task.outputs if _is_foreign(path)]
    if foreign:
        count = counted(len(foreign), "image")
        raise UsageError(
            f"{foreign[0].parent} holds {count} that this command did not write, such as "
            f"{foreign[0].name}, and would write over; choose another --out, or remove them"
        )


def _is_foreign(path: Path) -> bool:
    if not path.is_file() or read_record(path):
        return False
    try:
        decode_png(path.read_bytes(), 2**31)
    except (ContractError, OSError):
        return False  # what a crash left
    return True


def add_record(png: bytes, record: str) -> bytes:
    """Return `png` with `record`, ASCII, as a text chunk after its header."""
    content = b"tEXt" + KEYWORD + record.encode("ascii")
    chunk = struct.pack(">I", len(content) - 4) + content + struct.pack(">I", zlib.crc32(content))
    return png[:HEADER] + chunk + png[HEADER:]


def read_record(path: Path) -> str:
    """Return what `add_record` wrote into the file at `path`, empty if nothing is there."""
    try:
        with path.open("rb") as file:
            begin = file.read(2048)[HEADER:]
    except OSError:
        return ""
    if begin[4:8] != b"tEXt" or not begin[8:].startswith(KEYWORD):
        return ""
    length = int.from_bytes(begin[:4], "big")
    return begin[8 + len(KEYWORD) : 8 + length].decode("ascii", "replace")


def _fitting(stem: str, ending: str) -> str:
    """Return a file name of `stem` and `ending`, cut and told apart by a hash if too long."""
    encoded = os.fsencode(stem)
    if len(encoded) + len(ending) <= LONGEST_NAME:
        return stem + ending
    ending = f"~{hashlib.sha256(encoded).hexdigest()[:8]}{ending}"
    return encoded[: LONGEST_NAME - len(ending)].decode("utf-8", "ignore") + ending

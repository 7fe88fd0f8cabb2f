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
from tumour_segmenter.png import SIGNATURE, read_image

LONGEST_NAME = 255  # bytes, on all usual file systems
# What is made of an image, and how the names of these files end.
MASK, OVERLAY, PROBABILITY = "mask", "overlay", "probability"
ENDINGS = {MASK: ".png", OVERLAY: "_overlay.png", PROBABILITY: "_probability.png"}
# A text chunk of these files, right after the header: where it ends, and its keyword.
HEADER = len(SIGNATURE) + 25
KEYWORD = b"tumour-segmenter\0"


@dataclass(frozen=True)
class Provenance:
    """What makes a mask: SHA-256 of the model file (or its name), version, operating point."""

    model: str
    version: str
    operating_point: str

    def record(self, image_sha256: str, kind: str = MASK) -> str:
        """Return what a file of `kind`, made of the image file of this hash, says of itself."""
        return json.dumps({"kind": kind} | asdict(self) | {"image_sha256": image_sha256})


@dataclass(frozen=True, slots=True)
class Task:
    """An image, the folder `out` for what is made of it, and the kinds of files to make."""

    image: Path
    out: Path
    kinds: tuple[str, ...] = (MASK,)

    def path(self, kind: str) -> Path:
        """Return the file of `kind`."""
        return self.out / _file_name(self.image.stem, ENDINGS[kind])

    @property
    def mask(self) -> Path:
        return self.path(MASK)

    @property
    def outputs(self) -> list[Path]:
        return [self.path(kind) for kind in self.kinds]

    def is_made(self, provenance: Provenance, image_sha256: str) -> bool:
        """Whether all files are there, made by `provenance` of the image file of this hash."""
        return all(
            read_record(self.path(kind)) == provenance.record(image_sha256, kind)
            for kind in self.kinds
        )

    def is_done(self, provenance: Provenance) -> bool:
        """Whether all files are there, made by `provenance` of the image as it is now.

        The image is read only if all are there: one without a mask is read by who makes it.
        """
        try:
            return all(map(read_record, self.outputs)) and self.is_made(
                provenance, sha256(self.image.read_bytes())
            )
        except OSError:
            return False


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a task went: `fault` says in one line what was wrong, else all the rest is there.

    `seconds` is the time for the model alone, None where the mask was there before.
    `highest_probability` is 0 to 1, None where none was asked for. After a `fatal` fault all other
    tasks would fail as well.
    """

    task: Task
    fault: str = ""
    fatal: bool = False
    measures: Measures | None = None
    highest_probability: float | None = None
    seconds: float | None = None
    warnings: tuple[str, ...] = ()


def make_tasks(
    images: Iterable[Path], out: Path, overlay: bool = False, probability: bool = False
) -> list[Task]:
    """Return a task for each image: a mask in `out`, and what is wanted beside it.

    Raises `UsageError` if two images would become one mask.
    """
    # The mask last, so that a mask that is there means that all is.
    kinds = (OVERLAY,) * overlay + (PROBABILITY,) * probability + (MASK,)
    taken: dict[str, Path] = {}
    tasks = []
    for image in images:
        if (other := taken.setdefault(image.stem, image)) is not image:
            if other == image:
                continue  # named twice, such as a folder and a file in it
            raise UsageError(f"{other} and {image} would both become {out / image.stem}.png")
        tasks.append(Task(image, out, kinds))
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
        read_image(path.read_bytes(), 2**31)
    except (ContractError, OSError):
        return False  # what a crash left
    return True


def sha256(content: bytes) -> str:
    """Return the hash of a file with this content, as 64 hex digits."""
    return hashlib.sha256(content).hexdigest()


def add_record(png: bytes, record: str) -> bytes:
    """Return `png` with `record`, ASCII, as a text chunk after its header."""
    content = b"tEXt" + KEYWORD + record.encode("ascii")
    chunk = struct.pack(">I", len(content) - 4) + content + struct.pack(">I", zlib.crc32(content))
    return png[:HEADER] + chunk + png[HEADER:]


def read_record(path: Path) -> str:
    """Return what `add_record` wrote into the file at `path`, empty if nothing is there."""
    try:
        with path.open("rb") as file:
            return record_of(file.read(2048))
    except OSError:
        return ""


def record_of(png: bytes) -> str:
    """Return what `add_record` wrote into `png`, or into what it begins with; empty if nothing."""
    begin = png[HEADER:]
    if begin[4:8] != b"tEXt" or not begin[8:].startswith(KEYWORD):
        return ""
    length = int.from_bytes(begin[:4], "big")
    return begin[8 + len(KEYWORD) : 8 + length].decode("ascii", "replace")


def is_outdated(path: Path, record: str) -> bool:
    """Whether the file at `path` is of the kind that `record` begins with, but made otherwise."""
    found = read_record(path)
    return found != record and found.startswith(record.partition(",")[0])


def _file_name(stem: str, ending: str) -> str:
    """Return a file name of `stem` and `ending`, cut and told apart by a hash if too long."""
    encoded = os.fsencode(stem)
    if len(encoded) + len(ending) <= LONGEST_NAME:
        return stem + ending
    ending = f"~{hashlib.sha256(encoded).hexdigest()[:8]}{ending}"
    return encoded[: LONGEST_NAME - len(ending)].decode("utf-8", "ignore") + ending

"""Finds the PET series in a folder (searched deep), a ZIP or a NIfTI file."""

from __future__ import annotations

import hashlib
import io
import os
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

from .errors import ScanError, tag

PET = "1.2.840.10008.5.1.4.1.1.128"
MULTI_FRAME = {
    "1.2.840.10008.5.1.4.1.1.128.1": "Legacy Converted Enhanced PET",
    "1.2.840.10008.5.1.4.1.1.130": "Enhanced PET",
}
DICOMDIR = "1.2.840.10008.1.3.10"
HEAD = ["SOPClassUID", "SOPInstanceUID", "Modality", "SeriesInstanceUID", "SeriesType"]
GIB = 2**30
# A ZIP that unpacks to more than this is refused before anything is unpacked. A whole study with
# its CT is 1 to 3 GiB; empty slices shrink a thousandfold, but a large file never does.
MOST_UNPACKED, MOST_MEMBERS = 16 * GIB, 200_000
LARGE_MEMBER, LARGEST_MEMBER, LARGE_RATIO = 64 * 2**20, 2 * GIB, 100


@dataclass(frozen=True)
class File:
    """A file in a folder or a ZIP: its name for messages, and how to open it."""

    name: str
    folder: str
    open: Callable[[], BinaryIO]

    @property
    def kind(self) -> tuple[str, str]:
        """Its folder, and its name without digits, which files of a series have in common."""
        return self.folder, re.sub(r"\d+", "", self.name.removeprefix(self.folder))

    def hash(self) -> str:
        """SHA-256 of its content. Raises `ScanError`."""
        try:
            with self.open() as stream:
                return hashlib.file_digest(stream, "sha256").hexdigest()
        except (OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise ScanError(f"damaged or unreadable ({type(error).__name__})", self.name) from error


@dataclass
class Series:
    """One PET series as found, not yet read.

    uid: Series Instance UID, "" for NIfTI; files: (SOP Instance UID, file) of each slice, or the
    one NIfTI file; fault: why it is refused already; at_fault: the file that is, for the terminal.
    """

    source: Path
    uid: str = ""
    files: list[tuple[str, File]] = field(default_factory=list)
    fault: str = ""
    at_fault: str = ""

    @property
    def where(self) -> str:
        """The series in words, for the terminal."""
        return f"{self.source}: series {self.uid}" if self.uid else str(self.source)

    @cached_property
    def fingerprint(self) -> str:
        """Of the content of all files, wherever they lie. Raises `ScanError`."""
        lines = sorted(file.hash() for _, file in self.files)
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]

    @property
    def name(self) -> str:
        """Of its folder of results, by its content. Raises `ScanError`.

        Names of files may be a patient's, and the UIDs of two patients may be the same.
        """
        return f"{'pet' if self.uid else 'nifti'}-{self.fingerprint}"


def is_nifti(path: Path) -> bool:
    """Whether the name is that of a NIfTI file."""
    return path.name.lower().endswith((".nii", ".nii.gz"))


def find(source: Path, out: Path | None = None) -> list[Series]:
    """Return the PET series of `source`, with their faults where they are known already.

    out: a folder that is not searched, for results of earlier runs may lie there. Raises
    `ScanError` where there is no PET, or `source` cannot be read.
    """
    if source.is_dir():
        return _find_dicom(source, _walk(source, out))
    if is_nifti(source):
        return [Series(source, files=[("", _file(source))])]
    if _is_zip(source):
        try:
            # It stays open for as long as a file of it may be read: its list may be long.
            return _find_dicom(source, _members(source, zipfile.ZipFile(source)))
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
            raise ScanError(f"the ZIP is damaged or truncated: {error}", str(source)) from error
    return find_loose([source])


def is_loose(path: Path) -> bool:
    """Whether `path` is a file that can only be one of many: neither NIfTI nor ZIP."""
    return path.is_file() and not is_nifti(path) and not _is_zip(path)


def _is_zip(path: Path) -> bool:
    """Whether it is a ZIP, by its content, or a broken one, by its name."""
    return path.name.lower().endswith(".zip") or zipfile.is_zipfile(path)


def find_loose(paths: list[Path]) -> list[Series]:
    """Return the PET series of files that are named one by one. Raises `ScanError`."""
    return _find_dicom(
        paths[0] if len(paths) == 1 else paths[0].parent, (_file(path) for path in paths)
    )


def _file(path: Path) -> File:
    return File(str(path), str(path.parent), lambda: path.open("rb"))


def _walk(folder: Path, out: Path | None) -> Iterator[File]:
    """All files below `folder`, in a fixed order; links to folders are not followed."""
    for where, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not _is(Path(where, name), out))
        for name in sorted(names):
            path = Path(where, name)
            if path.is_file():
                yield _file(path)


def _is(path: Path, other: Path | None) -> bool:
    return other is not None and path.resolve() == other.resolve()


def _members(source: Path, archive: zipfile.ZipFile) -> Iterator[File]:
    """All files in a ZIP, after a look at the sizes that it says it has. Raises `ScanError`."""
    members = [member for member in archive.infolist() if not member.is_dir()]
    unpacked = sum(member.file_size for member in members)
    if len(members) > MOST_MEMBERS or unpacked > MOST_UNPACKED:
        raise ScanError(
            f"the ZIP would unpack to {len(members):,} files of {unpacked / GIB:.1f} GiB (at most "
            f"{MOST_MEMBERS:,} of {MOST_UNPACKED // GIB} are taken); unpack it yourself and give "
            "the folder",
            str(source),
        )
    if any(member.flag_bits & 1 for member in members):
        raise ScanError("the ZIP is encrypted; unpack it yourself", str(source))
    for member in members:
        large = member.file_size > LARGE_MEMBER
        if member.file_size > LARGEST_MEMBER or (
            large and member.file_size > LARGE_RATIO * max(1, member.compress_size)
        ):
            raise ScanError(
                f"a file in the ZIP would unpack from {member.compress_size:,} to "
                f"{member.file_size:,} bytes, as in a ZIP bomb; unpack it yourself if it is none",
                str(source),
            )
    for member in members:
        folder = member.filename.rpartition("/")[0]
        name = f"{source}:{member.filename}"
        yield File(name, f"{source}:{folder}", _opener(archive, member))


def _opener(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Callable[[], BinaryIO]:
    def opened() -> BinaryIO:
        # A member is never longer than its header says: reading stops there.
        with archive.open(member) as stream:
            return io.BytesIO(stream.read())

    return opened


def _find_dicom(source: Path, files: Iterator[File]) -> list[Series]:
    series: dict[str, Series] = {}
    others: Counter[str] = Counter()
    other_series: set[tuple[str, str]] = set()
    damaged: dict[str, str] = {}  # folder -> one damaged PET file in it
    unread: list[File] = []
    for file in files:
        head = _head(file)
        if head is None:
            unread.append(file)
            nifti = file.name.lower().endswith((".nii", ".nii.gz"))
            others["NIfTI (which is taken if it is named itself)" if nifti else "non-DICOM"] += 1
            continue
        kind, modality = head.get("SOPClassUID", ""), head.get("Modality") or "?"
        uid = head.get("SeriesInstanceUID", "")
        if kind == DICOMDIR:
            others["DICOMDIR"] += 1
            continue
        projection = "REPROJECTION" in head.get("SeriesType", "")
        if not uid and (modality in ("PT", "?") or kind == PET or kind in MULTI_FRAME):
            damaged.setdefault(file.folder, file.name)
        elif (kind == PET and not projection) or kind in MULTI_FRAME:
            found = series.setdefault(uid, Series(source, uid))
            found.files.append((head["SOPInstanceUID"], file))
            if kind in MULTI_FRAME:
                found.fault = (
                    f"it is {MULTI_FRAME[kind]} (multi-frame), which is not read; export it as "
                    "single-frame PET Image Storage, or convert it to NIfTI in SUV"
                )
        else:
            name = "PT projection" if projection else modality
            others[name] += 1
            other_series.add((name, uid))
    # What is named as the slices beside it are, and is no DICOM file, was one.
    slices = {file.kind for found in series.values() for _, file in found.files}
    for file in unread:
        if file.kind in slices:
            damaged.setdefault(file.folder, file.name)
    for found in series.values():
        for folder in sorted({file.folder for _, file in found.files} & set(damaged)):
            if not found.fault:
                found.fault, found.at_fault = "a file beside it is damaged", damaged[folder]
    if not series:
        if damaged:
            raise ScanError("damaged or truncated DICOM", next(iter(damaged.values())))
        counts = Counter(name for name, _ in other_series)
        what = [
            f"{others[name]} {name} file{'s' * (others[name] != 1)}"
            + (f" in {counts[name]} series" if counts[name] > 1 else "")
            for name in sorted(others)
        ]
        raise ScanError(
            f"no PET series (DICOM files with {tag('Modality')} PT); found "
            + (", ".join(what) or "no file"),
            str(source),
        )
    return list(series.values())


def _head(file: File) -> dict[str, str] | None:
    """The few elements of a DICOM file that tell what it is; None where it is none.

    Empty where it is one, but cannot be read.
    """
    from pydicom import dcmread

    try:
        with file.open() as stream:
            start = stream.read(132)
            # Without a preamble: the first element is of group 2, or 8 in either byte order.
            little = start[:2] in (b"\x02\x00", b"\x08\x00") and start[3:4] == b"\x00"
            bare = little or start[:3] == b"\x00\x08\x00"
            if start[128:] != b"DICM" and not bare:
                return None
            stream.seek(0)
            head = dcmread(stream, stop_before_pixels=True, specific_tags=list(HEAD), force=bare)
        found = {keyword: str(head.get(keyword) or "") for keyword in HEAD}
        # Only the meta header of a DICOMDIR says what it is.
        found["SOPClassUID"] = found["SOPClassUID"] or str(
            head.file_meta.get("MediaStorageSOPClassUID", "")
        )
        return found
    except Exception:  # pydicom and zipfile have no base for what damaged files raise
        return {}

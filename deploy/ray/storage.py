"""Folders on a disk and in object storage, read and written alike through pyarrow."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from pyarrow import fs

from tumour_segmenter import files
from tumour_segmenter.errors import UsageError
from tumour_segmenter.folders import APPLE, FOLDERS, HIDDEN, OTHERS, Listing

SCHEMES = ("s3", "gs", "gcs", "file")


@dataclass(frozen=True)
class Place:
    """A folder: `text` as it was given, and where pyarrow finds it."""

    text: str
    filesystem: fs.FileSystem
    path: str

    @classmethod
    def of(cls, text: str) -> Place:
        """Open a folder or a URI such as s3://bucket/folder; raises `UsageError`.

        What else the storage needs is part of the URI (`?region=`, `?endpoint_override=`); keys
        come from where the cloud's own tools look for them: environment, files, the machine's role.
        """
        scheme = urlsplit(text).scheme if "://" in text else ""
        if scheme and scheme not in SCHEMES:
            raise UsageError(f"{text}: only folders and {', '.join(SCHEMES)} are known")
        if not scheme:
            return cls(text, fs.LocalFileSystem(), os.path.abspath(text))
        try:
            filesystem, path = fs.FileSystem.from_uri(text)
        except (OSError, ValueError) as error:
            raise UsageError(f"{text} cannot be opened: {first_line(error)}") from error
        return cls(text, filesystem, path.rstrip("/"))

    @property
    def is_local(self) -> bool:
        return isinstance(self.filesystem, fs.LocalFileSystem)

    def join(self, name: str) -> str:
        return f"{self.path}/{name}"

    def files(self, folder: str = "") -> dict[str, fs.FileInfo]:
        """Return name -> what is known of each file and folder directly in it; {} if missing."""
        path = self.join(folder) if folder else self.path
        found = self.filesystem.get_file_info(fs.FileSelector(path, allow_not_found=True))
        return {info.base_name: info for info in found}

    def read(self, name: str) -> bytes:
        """Raises `OSError`."""
        with self.filesystem.open_input_stream(self.join(name)) as file:
            return file.read()

    def write(self, name: str, data: bytes) -> None:
        """Write a file whole or not at all. Raises `OSError`."""
        if self.is_local:  # object storage shows nothing before all of it is there
            path = Path(self.join(name))
            path.parent.mkdir(parents=True, exist_ok=True)
            files.write(path, data)
            return
        with self.filesystem.open_output_stream(self.join(name)) as file:
            file.write(data)

    def delete(self, name: str) -> None:
        """Raises `OSError`."""
        self.filesystem.delete_file(self.join(name))


def list_images(source: Place) -> tuple[dict[str, fs.FileInfo], Listing]:
    """Return name -> what is known of each PNG file in `source`, and what is ignored and why.

    The rules are those of `tumour_segmenter.folders`. Raises `UsageError` if there is none.
    """
    images: dict[str, fs.FileInfo] = {}
    listing = Listing()
    try:
        found = sorted(source.files().items())
    except OSError as error:
        raise UsageError(f"{source.text} cannot be read: {first_line(error)}") from error
    for name, info in found:
        path = Path(name)
        if name.startswith("._"):
            listing.ignore(path, APPLE)
        elif name.startswith("."):
            listing.ignore(path, HIDDEN)
        elif info.type == fs.FileType.Directory:
            listing.ignore(path, FOLDERS)
        elif path.suffix.lower() != ".png":
            listing.ignore(path, OTHERS)
        else:
            images[name] = info
    if not images:
        raise UsageError("; ".join([f"{source.text} holds no PNG file", *listing.notes()]))
    return images, listing


def first_line(error: BaseException) -> str:
    """Return what `error` says, cut to its first line."""
    return str(error).strip().partition("\n")[0] or type(error).__name__

"""Which images are in files and folders: what is taken, what is ignored and why."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tumour_segmenter.errors import UsageError

MOST_NAMED = 3

APPLE = "AppleDouble files of macOS (._*)"
HIDDEN = "hidden files"
FOLDERS = "folders inside, which are not searched (name them as well)"
MISSING = "links to nowhere"
OTHERS = "files that are not named *.png"


@dataclass
class Listing:
    """The images that were found, and reason -> the files that are ignored for it."""

    images: list[Path] = field(default_factory=list)
    ignored: dict[str, list[Path]] = field(default_factory=dict)

    def ignore(self, path: Path, why: str) -> None:
        """Count `path` as ignored; `why` is a plural, such as "files without a label"."""
        self.ignored.setdefault(why, []).append(path)

    def notes(self) -> list[str]:
        """Return one line for each reason: why, how many files, and which."""
        return [
            f"ignored {why}: {len(paths)} ({named([path.name for path in paths])})"
            for why, paths in self.ignored.items()
        ]


def named(names: list[str]) -> str:
    """Return the first few of `names` and how many more there are."""
    more = len(names) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def counted(count: int | str, noun: str) -> str:
    """Return such as "1 image" or "2 images"."""
    return f"{count} {noun}{'' if str(count) == '1' else 's'}"


def list_images(folder: Path) -> Listing:
    """List the PNG files directly in `folder`, sorted by name, whatever the case of their ending.

    A file counts as PNG by its name. Raises `OSError` if the folder cannot be read.
    """
    found = Listing()
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            path = folder / entry.name
            if entry.name.startswith("._"):
                found.ignore(path, APPLE)
            elif entry.name.startswith("."):
                found.ignore(path, HIDDEN)
            elif entry.is_symlink() and leads_nowhere(path):
                found.ignore(path, MISSING)
            elif entry.is_dir():
                found.ignore(path, FOLDERS)
            elif path.suffix.lower() != ".png":
                found.ignore(path, OTHERS)
            else:
                found.images.append(path)
    return found


def leads_nowhere(link: Path) -> bool:
    """Whether what a symbolic link names does not exist, or leads back to the link."""
    try:
        link.stat()
    except OSError as error:
        return error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
    return False


def find_images(given: Iterable[Path]) -> Listing:
    """List the images of `given`: files as they are, and the PNG files of folders.

    Raises `UsageError` if one of them does not exist or is a folder without PNG files.
    """
    found = Listing()
    for path in given:
        try:
            inside = list_images(path) if path.is_dir() else None
        except OSError as error:
            raise UsageError(f"{path} cannot be read: {error.strerror}") from error
        if inside:
            if not inside.images:
                raise UsageError("; ".join([f"{path} holds no PNG file", *inside.notes()]))
            found.images += inside.images
            for why, paths in inside.ignored.items():
                found.ignored.setdefault(why, []).extend(paths)
        elif not path.exists():
            raise UsageError(f"{path}: no such file or folder")
        elif path.name.startswith("._"):
            found.ignore(path, APPLE)
        else:
            found.images.append(path)
    if not found.images:
        raise UsageError("; ".join(["no image is left", *found.notes()]))
    return found

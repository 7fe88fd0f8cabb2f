"""Files that appear whole or not at all, and outputs that are never an input."""

from __future__ import annotations

import errno
import json
import os
import secrets
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import lru_cache
from pathlib import Path

from tumour_segmenter.errors import UsageError

try:
    import fcntl
except ImportError:  # not a POSIX system
    fcntl = None

FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
PARTIAL = ".tumour-segmenter-part-"  # nobody else's, so that leftovers may be removed
LONGEST_SUFFIX = 16  # bytes; with it a temporary name stays far below the 255 of file systems
STALE = 3600  # seconds after which a temporary file belongs to a process that was killed


@contextmanager
def replacing(path: Path, ending: str | None = None) -> Iterator[Path]:
    """Yield a new path beside `path` to write to; on success it is renamed to `path`.

    A kill, a power cut or a full disk leaves the old file or the new one, never half of one. The
    temporary file is removed on any failure. Its name is hidden, short, its own for each call, and
    has the `ending`, by default that of `path`, because some writers go by it. What is no regular
    file, such as /dev/stdout, is written to directly. Raises `OSError` that names `path`.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        yield path
        return
    if ending is None:
        ending = path.suffix if len(os.fsencode(path.suffix)) <= LONGEST_SUFFIX else ""
    partial = path.with_name(f"{PARTIAL}{secrets.token_hex(6)}{ending}")
    try:
        yield partial
        with partial.open("r+b") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        if error.filename in (None, os.fspath(partial)):
            error.filename, error.filename2 = os.fspath(path), None
        raise
    finally:
        with suppress(OSError):  # the first failure is the one to report
            partial.unlink(missing_ok=True)


@contextmanager
def locked(folder: Path, wait: bool = True) -> Iterator[None]:
    """Hold `folder`, which exists, for this process; another that asks waits, or is refused.

    The system lets go of it when the process ends, however that happens. Without file locks, as
    on Windows, nothing is held. Raises `BlockingIOError` that names the folder.
    """
    if fcntl is None:
        yield
        return
    held = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield
    except BlockingIOError as error:
        error.filename = os.fspath(folder)
        raise
    finally:
        os.close(held)


def write(path: Path, data: bytes | str) -> None:
    """Write `data`, text as UTF-8, whole or not at all. Raises `OSError`."""
    with replacing(path, ending="") as partial:  # what a kill leaves looks like no image
        partial.write_bytes(data.encode() if isinstance(data, str) else data)


def write_together(contents: dict[Path, bytes | str]) -> None:
    """Write what belongs together: all are on the disk before the first is renamed."""
    with ExitStack() as stack:
        for path, data in contents.items():
            with stack.enter_context(replacing(path, ending="")).open("wb") as file:
                file.write(data.encode() if isinstance(data, str) else data)
                file.flush()
                os.fsync(file.fileno())


def write_json(path: Path, content: object) -> None:
    """Write `content` as JSON, whole or not at all. Raises `OSError`."""
    write(path, json.dumps(content, indent=1) + "\n")


def remove_stale(folder: Path) -> None:
    """Remove the temporary files that killed processes left in `folder` over an hour ago."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(PARTIAL):
                with suppress(OSError):
                    if entry.stat().st_mtime < time.time() - STALE:
                        os.unlink(entry.path)


def check_outputs(inputs: Iterable[Path], outputs: Iterable[Path], kind: str = "an input") -> None:
    """Raise `UsageError` if an output is an input or another output, also through links.

    kind: what the message calls the inputs.
    """
    real_folder = lru_cache(64)(os.path.realpath)  # a folder's files come one after the other

    def place(path: Path) -> str:
        if path.is_symlink() or path.name in ("", ".."):
            return os.path.realpath(path)  # Path.resolve raises where links go round in a circle
        return os.path.join(real_folder(path.parent), path.name)

    read: dict[str | tuple[int, int] | None, Path] = {}
    for path in inputs:
        read[place(path)] = read[_inode(path)] = path
    read.pop(None, None)
    written: dict[str, Path] = {}
    for path in outputs:
        if (same := read.get(place(path)) or read.get(_inode(path))) is not None:
            also = "" if same == path else f" ({same} is the same file)"
            raise UsageError(f"{path} would be written over {kind}{also}; choose another place")
        if place(path) in written:
            raise UsageError(f"{path} would be written twice; choose another place")
        written[place(path)] = path


def reason(error: OSError) -> str:
    """Return in one line which file could not be read or written, and why."""
    if error.errno in FULL:
        why = "the disk is full" if error.errno == errno.ENOSPC else "the disk quota is used up"
        return f"{why}: {error.filename} could not be written" if error.filename else why
    why = error.strerror or str(error) or type(error).__name__
    return f"{error.filename}: {why}" if error.filename else why


def _inode(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino

"""Which code and which files a run or an artifact comes from."""

import hashlib
import subprocess
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent


def source_commit(*folders: str) -> str:
    """The commit checked out, with "-dirty" where files of the folders differ from it; "unknown"
    outside a git checkout."""

    def git(*words: str) -> str:
        return subprocess.check_output(["git", *words], cwd=PROJECT, text=True, stderr=-3).strip()

    try:
        commit = git("rev-parse", "--short=12", "HEAD")
        return f"{commit}-dirty" if git("status", "--porcelain", "--", *folders) else commit
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def sha256(path: Path) -> str:
    """Of a file's content; raises ValueError where it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from error

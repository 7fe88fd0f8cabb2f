"""A bar on a terminal: which source, and how much of its series is read."""

from __future__ import annotations

import sys
from pathlib import Path

WIDTH = 24


class Progress:
    """On anything but a terminal no bar is shown, only the lines."""

    def __init__(self, sources: int) -> None:
        self._sources, self._source = sources, 0
        self._name, self._files, self._read = "", 0, 0
        self._shown = sys.stderr.isatty()

    def begin(self, source: Path) -> None:
        """Call before the search in each source."""
        self._source, self._name, self._files = self._source + 1, source.name, 0
        self._draw()

    def reading(self, files: int) -> None:
        """Call before a series of so many files is read."""
        self._files, self._read = files, 0
        self._draw()

    def step(self) -> None:
        """Call after each file."""
        self._read += 1
        self._draw()

    def say(self, line: str, error: bool = False) -> None:
        """Print a line that stays, above the bar."""
        self._clear()
        print(line, file=sys.stderr if error else sys.stdout, flush=True)
        self._draw()

    def close(self) -> None:
        self._clear()
        self._shown = False

    def _clear(self) -> None:
        if self._shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)

    def _draw(self) -> None:
        if not self._shown or not self._source:
            return
        filled = WIDTH * self._read // self._files if self._files else 0
        what = f"{self._read}/{self._files} files" if self._files else "searching"
        line = f"[{'#' * filled}{'.' * (WIDTH - filled)}] {what}"
        line += f"  source {self._source}/{self._sources}: {self._name[:30]}"
        print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)

"""One process of several says what all of them would."""

from __future__ import annotations

import os


class Speaker:
    """Made before a fork; `first` is true once, in one of the processes."""

    def __init__(self) -> None:
        self._read, write = os.pipe()
        os.set_blocking(self._read, False)
        os.write(write, b"1")
        os.close(write)

    def first(self) -> bool:
        """Return whether nobody asked before."""
        return bool(os.read(self._read, 1))

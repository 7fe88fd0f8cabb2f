"""The documents of the project, and the code blocks in them.

A comment before a block, which no rendered page shows, says what is special about it:

    <!-- not run: why -->  it takes long, or needs root, a cluster or the network
    <!-- server -->        it starts a server, which answers as long as the page is read
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from tests.conftest import PROJECT

FOLDERS = (PROJECT, PROJECT / "docs", PROJECT / "artifacts")
DOCUMENTS = sorted(path for folder in FOLDERS for path in folder.glob("*.md"))
BLOCK = re.compile(
    r"(?:^ *<!-- ([^\n]*?) -->\n+)?^ *```(\w*)\n(.*?)^ *```", re.MULTILINE | re.DOTALL
)


class Block(NamedTuple):
    """A code block: its language, the comment before it ("" if there is none), its text."""

    language: str
    mark: str
    code: str

    @property
    def runs(self) -> bool:
        return not self.mark.startswith("not run: ")


def blocks(document: Path, *languages: str) -> list[Block]:
    """Return the code blocks of a document in these languages, in their order."""
    found = [Block(language, mark, code) for mark, language, code in BLOCK.findall(read(document))]
    return [block for block in found if block.language in languages]


def read(document: Path) -> str:
    return document.read_text(encoding="utf-8")


def inline(document: Path) -> list[str]:
    """Return what stands in backticks within the sentences."""
    return re.findall(r"`([^`\n]+)`", read(document))

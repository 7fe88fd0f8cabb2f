"""atheris feeds `decode_png` bytes; started by fuzz.py with libFuzzer's own arguments.

The decoder may refuse bytes with a ContractError or give uint8 H×W within the limit, nothing else.
"""

from __future__ import annotations

import struct
import sys
import zlib
from pathlib import Path

# Run as a script, Python looks for modules beside the script and not in the project's root.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import atheris

with atheris.instrument_imports(include=["serve", "PIL"]):
    from serve.contract import ContractError, decode_png

LIMIT = 100_000  # pixels: small images are fuzzed faster


def mend(data: bytes) -> bytes:
    """Right the checksums, which no mutation would ever hit, so that more lies open."""
    out, at = [data[:8]], 8
    while len(data) >= at + 12:
        (length,) = struct.unpack_from(">I", data, at)
        content = data[at + 4 : at + 8 + length]
        if len(content) < 4 + length:
            break
        out.append(data[at : at + 4] + content + struct.pack(">I", zlib.crc32(content)))
        at += 12 + length
    return b"".join([*out, data[at:]])


def one(data: bytes) -> None:
    for png in (data, mend(data)):
        try:
            pixels = decode_png(png, LIMIT)
        except ContractError:
            continue
        assert pixels.ndim == 2
        assert pixels.dtype == "uint8"
        assert 0 < pixels.size <= LIMIT


if __name__ == "__main__":
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()

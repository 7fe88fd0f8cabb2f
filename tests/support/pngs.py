"""Writes PNGs chunk by chunk: every colour type and depth, and every kind of damage."""

import struct
import zlib

import numpy as np

SIGNATURE = b"\x89PNG\r\n\x1a\n"
GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6
SAMPLES = {GREY: 1, RGB: 3, PALETTE: 1, GREY_ALPHA: 2, RGBA: 4}
ADAM7 = ["0088", "4088", "0448", "2044", "0224", "1022", "0112"]


def chunk(kind: bytes, content: bytes = b"") -> bytes:
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def header(width, height, depth=8, colour=GREY, packing=0, filtering=0, interlaced=0) -> bytes:
    fields = (width, height, depth, colour, packing, filtering, interlaced)
    return chunk(b"IHDR", struct.pack(">IIBBBBB", *fields))


def rows(samples: np.ndarray, depth: int) -> bytes:
    """Pack samples, H×W×N, as unfiltered rows."""
    values = samples.reshape(len(samples), -1)
    if depth == 16:
        packed = np.ascontiguousarray(values.astype(">u2")).view(np.uint8)
    elif depth == 8:
        packed = values.astype(np.uint8)
    else:
        bits = np.unpackbits(values.astype(np.uint8)[..., None], axis=2)[..., 8 - depth :]
        packed = np.packbits(bits.reshape(len(values), -1), axis=1)
    return np.pad(packed, ((0, 0), (1, 0))).tobytes()  # in front of each row: not filtered


def png(samples, depth=8, colour=GREY, interlaced=False, extra=b"", data=None) -> bytes:
    """Return a PNG of samples, H×W×N or H×W; `extra` chunks stand before the pixels."""
    samples = np.asarray(samples)
    samples = samples.reshape(*samples.shape[:2], SAMPLES[colour])
    height, width = samples.shape[:2]
    if data is None and interlaced:
        passes = [[int(digit) for digit in p] for p in ADAM7]
        data = b"".join(
            rows(part, depth) for x, y, dx, dy in passes if (part := samples[y::dy, x::dx]).size
        )
    elif data is None:
        data = rows(samples, depth)
    return (
        SIGNATURE
        + header(width, height, depth, colour, interlaced=int(interlaced))
        + extra
        + chunk(b"IDAT", zlib.compress(data))
        + chunk(b"IEND")
    )

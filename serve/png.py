"""Bytes of a PNG from anyone -> grey pixels.

Nothing is unpacked before the size in the header was found acceptable, and only the chunks that
make the pixels are unpacked at all: text, profiles and animation are dropped unread.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from PIL import Image

from serve.errors import ContractError

MAX_PIXELS = 4_000_000
# A network pads both sides to its stride: without a limit here, an image one pixel wide and
# millions high would grow to many times its size in there.
MAX_SIDE = 65_535
MAX_CHUNKS = 65_536

SIGNATURE = b"\x89PNG\r\n\x1a\n"
OTHER_FORMATS = {
    b"\xff\xd8\xff": "JPEG",
    b"GIF8": "GIF",
    b"BM": "BMP",
    b"RIFF": "WebP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"%PDF": "PDF",
    b"\x1f\x8b": "gzip",
}
PALETTE = 3
# Colour type -> (samples a pixel, bit depths); PNG specification, table 11.1.
COLOUR_TYPES = {
    0: (1, (1, 2, 4, 8, 16)),
    2: (3, (8, 16)),
    PALETTE: (1, (1, 2, 4, 8)),
    4: (2, (8, 16)),
    6: (4, (8, 16)),
}
WHOLE = [(0, 0, 1, 1)]
# Adam7, the seven passes of an interlaced image: first column, first row, steps between them.
ADAM7 = [
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
]


class Header(NamedTuple):
    """The IHDR chunk."""

    width: int
    height: int
    depth: int
    colour: int
    packing: int
    filtering: int
    interlaced: int

    @property
    def bytes_unpacked(self) -> int:
        """The length of the pixel stream, with one filter byte in front of each row."""
        bits = COLOUR_TYPES[self.colour][0] * self.depth
        total = 0
        for left, top, step_x, step_y in ADAM7 if self.interlaced else WHOLE:
            columns = -(-(self.width - left) // step_x)
            rows = -(-(self.height - top) // step_y)
            if columns > 0 and rows > 0:
                total += rows * (1 + -(-columns * bits // 8))
        return total


def decode_png(data: bytes, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Turn the bytes of a PNG into grey pixels, uint8 H×W, dark = hot.

    Every colour type and bit depth of PNG is understood: 16 bits keep their high byte, colours
    become luminance (ITU-R 601), transparent pixels are laid over white, which is no uptake.
    Gamma and colour profiles are not applied, since the challenge compares raw values; of an
    animation the still image is taken. Raises `ContractError`.
    """
    header = read_header(data, max_pixels)
    chunks = _chunks(data)
    if header.colour == PALETTE and b"PLTE" not in chunks:
        raise _broken("its palette is missing")
    try:
        with Image.open(io.BytesIO(_join(chunks)), formats=["PNG"]) as image:
            image.load()
            # Pillow fills up a stream that ends early with zeros, and zeros would be hot rows.
            last_row = image.crop((0, header.height - 1, header.width, header.height))
            if header.interlaced or not np.asarray(last_row).any():
                _check_length(header, chunks[b"IDAT"])
            return _grey(image, header, chunks)
    except ContractError:
        raise
    except (OSError, SyntaxError, ValueError, zlib.error, Image.DecompressionBombError) as error:
        raise _broken(str(error)) from error


def _broken(why: str) -> ContractError:
    return ContractError("broken_png", f"the PNG is damaged: {why}")


def read_header(data: bytes, max_pixels: int = MAX_PIXELS) -> Header:
    """Return what a PNG that begins with `data`, 33 bytes at least, says about its pixels.

    Raises `ContractError` if it is no PNG, makes no sense, or is larger than what is taken.
    """
    if not data:
        raise ContractError("not_a_png", "the image is empty, expected a PNG")
    if not data.startswith(SIGNATURE):
        formats = (name for magic, name in OTHER_FORMATS.items() if data.startswith(magic))
        found = next(formats, "something else")
        raise ContractError("not_a_png", f"expected a PNG, the image is {found}")
    if len(data) < 33 or data[8:16] != b"\0\0\0\rIHDR":
        raise _broken("it does not begin with a header")
    header = Header._make(struct.unpack(">IIBBBBB", data[16:29]))
    _, depths = COLOUR_TYPES.get(header.colour, (0, ()))
    if header.depth not in depths or header.packing or header.filtering or header.interlaced > 1:
        raise _broken("its header makes no sense")
    if not header.width or not header.height:
        raise _broken("its width or height is zero")
    if header.width * header.height > max_pixels or max(header.width, header.height) > MAX_SIDE:
        raise ContractError(
            "image_too_large",
            f"the image is {header.width}×{header.height} pixels, at most {max_pixels:,} pixels "
            f"and {MAX_SIDE:,} a side are taken",
            413,
        )
    return header


def _chunks(data: bytes) -> dict[bytes, list[memoryview]]:
    """Return the chunks that make the pixels: kind -> whole chunks, lengths and checksums right."""
    chunks: dict[bytes, list[memoryview]] = {}
    view, at = memoryview(data), len(SIGNATURE)
    for _ in range(MAX_CHUNKS):
        if len(data) < at + 12:
            raise _broken("it ends too early")
        length, kind = struct.unpack_from(">I4s", data, at)
        chunk = view[at : at + 12 + length]
        if len(chunk) < 12 + length:
            raise _broken("it ends too early")
        if kind in (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"):
            if zlib.crc32(chunk[4:-4]) != int.from_bytes(chunk[-4:], "big"):
                raise _broken("a checksum is wrong")
            chunks.setdefault(kind, []).append(chunk)
        elif not kind[0] & 0x20:  # a capital letter: says of itself that it must not be skipped
            raise _broken("it holds a chunk of an unknown kind")
        if kind == b"IEND":
            break
        at += len(chunk)
    else:
        raise _broken(f"it has more than {MAX_CHUNKS:,} chunks")
    if b"IDAT" not in chunks:
        raise _broken("it holds no pixels")
    if any(len(chunks.get(kind, [])) > 1 for kind in (b"IHDR", b"PLTE", b"tRNS")):
        raise _broken("a chunk that may stand there once stands there twice")
    return chunks


def _join(chunks: dict[bytes, list[memoryview]]) -> bytes:
    order = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
    return SIGNATURE + b"".join(chunk for kind in order for chunk in chunks.get(kind, []))


def _content(chunk: memoryview) -> memoryview:
    return chunk[8:-4]


def _check_length(header: Header, packed: list[memoryview]) -> None:
    """Raise `ContractError` if there are fewer pixels than the header promises."""
    found = sum(len(piece) for piece in _unpack(packed, header.bytes_unpacked))
    if found < header.bytes_unpacked:
        raise _broken("rows of pixels are missing")


def _unpack(packed: list[memoryview], enough: int) -> Iterator[bytes]:
    """Yield the unpacked pixel stream in small pieces, so that no bomb is ever held in memory."""
    unpacker = zlib.decompressobj()
    for chunk in packed:
        rest: bytes | memoryview = _content(chunk)
        while rest and enough > 0:
            piece = unpacker.decompress(rest, 2**16)
            rest = unpacker.unconsumed_tail
            enough -= len(piece)
            yield piece


def _grey(image: Image.Image, header: Header, chunks: dict[bytes, list[memoryview]]) -> np.ndarray:
    if header.colour == PALETTE:
        if image.getextrema()[1] >= len(_content(chunks[b"PLTE"][0])) // 3:
            raise _broken("a colour is not in its palette")
        image = image.convert("RGBA")  # with the palette's transparency
    if image.mode == "I;16":
        grey = (np.asarray(image) >> 8).astype(np.uint8)
    else:
        grey = np.asarray(image.convert("L"))
    if image.mode in ("LA", "RGBA"):
        alpha = image.getchannel("A")
        if alpha.getextrema() == (255, 255):
            return grey
        opacity = np.asarray(alpha).astype(np.uint16)
        return (255 - (opacity * (255 - grey) + 127) // 255).astype(np.uint8)
    if b"tRNS" in chunks:
        return np.where(_is_transparent(image, header, chunks[b"tRNS"][0]), 255, grey).astype(
            np.uint8
        )
    return grey


def _is_transparent(image: Image.Image, header: Header, chunk: memoryview) -> np.ndarray:
    """Return bool H×W: the pixels of the one colour that a grey or RGB image calls transparent."""
    samples = COLOUR_TYPES[header.colour][0]
    content = _content(chunk)
    if len(content) != 2 * samples:
        raise _broken("its transparency makes no sense")
    colour = np.frombuffer(content, ">u2")
    pixels = np.asarray(image.convert("L") if image.mode == "1" else image)
    if header.depth == 16 and samples == 3:
        colour = colour >> 8  # Pillow keeps the high bytes only
    elif header.depth < 8:
        colour = colour * (255 // (2**header.depth - 1))
    return (pixels.reshape(*pixels.shape[:2], samples) == colour).all(axis=2)

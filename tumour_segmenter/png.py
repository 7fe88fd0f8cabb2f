"""Bytes of a PNG from anyone -> grey pixels.

Nothing is unpacked before the size in the header was found acceptable, and only the chunks that
make the pixels are unpacked at all: text, profiles and animation are dropped unread.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeVar

import numpy as np
from PIL import Image

from tumour_segmenter.errors import ContractError

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
GREY, PALETTE = 0, 3
RGB_TYPES = (2, PALETTE, 6)  # three samples a pixel once a palette is looked up
# Colour type -> (samples a pixel, bit depths); PNG specification, table 11.1.
COLOUR_TYPES = {
    0: (1, (1, 2, 4, 8, 16)),
    2: (3, (8, 16)),
    PALETTE: (1, (1, 2, 4, 8)),
    4: (2, (8, 16)),
    6: (4, (8, 16)),
}
# Depths of scanners and viewers that are saved in files of 16 bits.
SMALLER_DEPTHS = (8, 10, 12)
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


T = TypeVar("T")


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


class GreyImage(NamedTuple):
    """What was read: grey pixels, uint8 H×W, dark = hot, and one line for each doubt about them."""

    pixels: np.ndarray
    notes: list[str]


class Samples(NamedTuple):
    """A PNG's own values: `colours` H×W×1 or H×W×3, 16-bit colours cut to their high byte.

    `opacity` is uint8 H×W, 255 = opaque.
    """

    header: Header
    colours: np.ndarray
    opacity: np.ndarray


def read_image(data: bytes, max_pixels: int = MAX_PIXELS) -> GreyImage:
    """Turn the bytes of a PNG into grey pixels, uint8 H×W, dark = hot, and doubts about them.

    Every colour type and bit depth of PNG is understood: 16 bits keep their high byte, colours
    become luminance (ITU-R 601), transparent pixels are laid over white, which is no uptake.
    Gamma, colour profiles and orientation are not applied, since the challenge compares raw
    values; of an animation the still image is taken. Grey values of 16 bits that stay under 4,096
    (8-, 10- and 12-bit values in a larger file) are scaled by the bits they use, which is noted,
    as are images that cannot be a projection on a light ground. Raises `ContractError`.
    """
    image = _load(data, max_pixels, _grey)
    return image._replace(notes=image.notes + _doubts(image.pixels))


def read_samples(data: bytes, max_pixels: int = MAX_PIXELS) -> Samples:
    """Return a PNG's own values, which no meaning was given yet. Raises `ContractError`."""
    return _load(data, max_pixels, _samples)


def _load(data: bytes, max_pixels: int, read: Callable[..., T]) -> T:
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
            if header.colour == PALETTE:
                if image.getextrema()[1] >= len(_content(chunks[b"PLTE"][0])) // 3:
                    raise _broken("a colour is not in its palette")
                image = image.convert("RGBA")  # with the palette's transparency
            return read(image, header, chunks)
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
            f"(the server's setting MAX_PIXELS) and {MAX_SIDE:,} a side are taken",
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


def _grey(image: Image.Image, header: Header, chunks: dict[bytes, list[memoryview]]) -> GreyImage:
    notes = []
    if image.mode == "I;16":
        values = np.asarray(image)
        highest = int(values.max())
        bits = next((bits for bits in SMALLER_DEPTHS if highest < 2**bits), 16)
        if bits < 16 and highest:
            notes.append(
                f"a 16-bit PNG whose values stay under {2**bits:,}: they were taken for "
                f"{bits}-bit values, {2**bits - 1:,} = white"
            )
        grey = (values >> (bits - 8)).astype(np.uint8)
    else:
        grey = np.asarray(image.convert("L"))
        if header.depth == 16 and 0 < int(grey.max()) < 16:
            notes.append(
                "a 16-bit colour PNG whose values stay under 4,096 is almost black: save it as grey"
            )
    opacity = _opacity(image, header, chunks)
    if opacity is not None:
        grey = (255 - (opacity.astype(np.uint16) * (255 - grey) + 127) // 255).astype(np.uint8)
    return GreyImage(grey, notes)


def _doubts(pixels: np.ndarray) -> list[str]:
    lowest, highest = int(pixels.min()), int(pixels.max())
    if lowest == highest:
        return [f"every pixel has the same value, {highest}: there is nothing to see in this image"]
    if np.count_nonzero(pixels < 128) > pixels.size / 2:  # at most a fifth of a real one
        return ["most of the image is dark, expected dark uptake on white: is it inverted?"]
    return []


def _samples(image: Image.Image, header: Header, chunks: dict[bytes, list[memoryview]]) -> Samples:
    opacity = _opacity(image, header, chunks)
    if opacity is None:
        opacity = np.full((header.height, header.width), 255, np.uint8)
    if image.mode in ("LA", "RGBA"):
        image = image.convert(image.mode[:-1])
    elif image.mode == "1":
        image = image.convert("L")
    values = np.asarray(image)
    return Samples(header, values.reshape(header.height, header.width, -1), opacity)


def _opacity(
    image: Image.Image, header: Header, chunks: dict[bytes, list[memoryview]]
) -> np.ndarray | None:
    """Return uint8 H×W, 255 = opaque; None where all pixels are."""
    if image.mode in ("LA", "RGBA"):
        alpha = np.asarray(image.getchannel("A"))
        return None if alpha.min() == 255 else alpha
    if b"tRNS" not in chunks:
        return None
    return np.where(_is_transparent(image, header, chunks[b"tRNS"][0]), 0, 255).astype(np.uint8)


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

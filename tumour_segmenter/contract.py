"""What the challenge's scorer and this server agreed on: images and masks as base64 PNG, and Dice.

An image is a maximum intensity projection of an FDG-PET scan as uint8 H×W, 0 (black) = highest
uptake, 255 (white) = none. A mask is uint8 H×W, 255 = tumour, 0 = not. The contract is that of
the DM-i-AI-2023 challenge, folder tumor-segmentation (`utils.py` there).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import re
import zlib

import numpy as np
from PIL import Image

from tumour_segmenter.errors import ContractError
from tumour_segmenter.png import MAX_PIXELS, GreyImage, read_header, read_image

DATA_URL = re.compile(r"\s*data:([^,;]*)([^,]*),", re.IGNORECASE)
URL_SAFE_TO_PLAIN = bytes.maketrans(b"-_", b"+/")
WHITE_SPACE = b" \t\r\n\f\v"
# Characters of base64 that hold a PNG's header, and those among which they stand at the latest.
HEADER, BEGINNING = 64, 1000


def max_characters(max_pixels: int = MAX_PIXELS) -> int:
    """Return the longest base64 text that `decode` takes for images of up to `max_pixels`.

    It holds any 8-bit RGB image of that many pixels, even one that cannot be compressed
    (3 bytes a pixel, 4 characters for 3 bytes), and a mebibyte for line breaks and headers.
    """
    return 4 * max_pixels + 2**20


def decode(img: str, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Turn a base64 PNG into grey pixels, uint8 H×W, dark = hot; see `decode_image`."""
    return decode_image(img, max_pixels).pixels


def decode_image(img: str, max_pixels: int = MAX_PIXELS) -> GreyImage:
    """Turn a base64 PNG into grey pixels, uint8 H×W, dark = hot, and doubts about them.

    See `unpack` for what is understood. Raises `ContractError`.
    """
    return read_image(unpack(img, max_pixels), max_pixels)


def decode_png(data: bytes, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Turn the bytes of a PNG into grey pixels, uint8 H×W, dark = hot; see `png.read_image`."""
    return read_image(data, max_pixels).pixels


def unpack(img: str, max_pixels: int = MAX_PIXELS) -> bytes:
    """Turn base64 into the bytes of a PNG of at most `max_pixels`, as far as its header says.

    Plain base64 is expected; a `data:image/png;base64,` prefix, white space, the url-safe
    alphabet and missing padding are understood. Raises `ContractError`.
    """
    if not isinstance(img, str):
        raise ContractError("bad_image_type", "the image must be a string: a PNG in base64")
    longest = max_characters(max_pixels)
    if len(img) > longest:
        raise ContractError(
            "image_too_large",
            f"the image is {len(img):,} characters of base64, at most {longest:,} are taken",
            413,
        )
    if prefix := DATA_URL.match(img[:200]):
        if prefix[1].lower() != "image/png" or not prefix[2].lower().endswith(";base64"):
            raise ContractError(
                "not_a_png",
                "a data URL must begin with data:image/png;base64, because only PNG is taken",
            )
        img = img[prefix.end() :]
    beginning = _plain(img[:BEGINNING])[:HEADER]
    if len(beginning) == HEADER:  # before memory is spent on what will be refused
        read_header(_unpack(beginning), max_pixels)
    text = _plain(img)
    return _unpack(text + b"=" * (-len(text) % 4))


def _plain(img: str) -> bytes:
    """Return base64 in the plain alphabet, without white space."""
    try:
        return img.encode("ascii").translate(URL_SAFE_TO_PLAIN, delete=WHITE_SPACE)
    except UnicodeEncodeError as error:
        raise _bad_base64() from error


def _unpack(text: bytes) -> bytes:
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except binascii.Error as error:
        raise _bad_base64() from error


def _bad_base64() -> ContractError:
    return ContractError("bad_base64", "the image is not valid base64, expected a PNG in base64")


def encode(mask: np.ndarray) -> str:
    """Turn a mask, uint8 H×W of 0 and 255, into a base64 PNG with three equal channels."""
    return base64.b64encode(encode_png(mask)).decode("ascii")


def encode_png(mask: np.ndarray) -> bytes:
    """Turn a mask, uint8 H×W of 0 and 255, into the bytes of a PNG with three equal channels.

    Other values are kept as well.
    """
    return _png(Image.merge("RGB", [Image.fromarray(mask)] * 3))


def encode_grey_png(pixels: np.ndarray) -> bytes:
    """Turn pixels, uint8 H×W, such as a probability, into the bytes of a PNG with one channel."""
    return _png(Image.fromarray(pixels))


def _png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    # Most is zeros: run lengths pack them smaller and faster than a search for repetitions.
    image.save(file, "PNG", compress_type=zlib.Z_RLE)
    return file.getvalue()


def image_hash(pixels: np.ndarray) -> str:
    """Return 16 hex digits that name an image by its grey pixels, uint8 H×W, as decoded.

    The same pixels have the same hash whatever file they were saved in.
    """
    height, width = pixels.shape
    data = f"{height}x{width}:".encode() + np.ascontiguousarray(pixels, np.uint8).tobytes()
    return hashlib.sha256(data).hexdigest()[:16]


def check_mask(mask: np.ndarray, shape: tuple[int, ...]) -> None:
    """Raise `ContractError` unless `mask` would pass the challenge's own validator.

    `mask` is an answer as unpacked from its PNG. It must be uint8 H×W×3 with the height and width
    of `shape` (H×W or H×W×3), hold only 0 and 255, and have three equal channels.
    """
    expected = (*shape[:2], 3)
    if mask.shape != expected:
        raise ContractError("bad_mask", f"the mask has shape {mask.shape}, expected {expected}")
    if mask.dtype != np.uint8:
        raise ContractError("bad_mask", f"the mask is {mask.dtype}, expected uint8")
    others = np.setdiff1d(mask, [0, 255])
    if others.size:
        raise ContractError(
            "bad_mask", f"the mask holds the value {others[0]}, only 0 and 255 are allowed"
        )
    if (mask != mask[:, :, :1]).any():
        raise ContractError("bad_mask", "the mask's three channels differ, expected equal ones")


def dice(truth: np.ndarray, prediction: np.ndarray) -> float:
    """Return the Sorensen-Dice coefficient 2|A∩B| / (|A|+|B|), 0.0 to 1.0; nonzero = tumour.

    Two empty masks give 1.0: nothing was there and nothing was found, which is a perfect answer.
    The challenge's own function divides by zero there, but each of its patients has a tumour.
    Raises ValueError if the shapes differ.
    """
    if truth.shape != prediction.shape:
        raise ValueError(f"masks of shapes {truth.shape} and {prediction.shape} do not compare")
    truth, prediction = truth != 0, prediction != 0
    total = np.count_nonzero(truth) + np.count_nonzero(prediction)
    return float(2 * np.count_nonzero(truth & prediction) / total) if total else 1.0

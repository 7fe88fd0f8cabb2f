"""Which file a model's name means, and its bytes, checked against the checksum beside it."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
from pathlib import Path

from tumour_segmenter.errors import ArtifactError

PACKAGE = Path(__file__).resolve().parent
PROJECT = PACKAGE.parent
# An installed package has its artifacts inside, a clone beside the package.
ARTIFACTS = (PACKAGE if (PACKAGE / "artifacts").is_dir() else PROJECT) / "artifacts"
SHIPPED, FAST, BASELINE = "shipped", "fast", "baseline"
FILES = {SHIPPED: ARTIFACTS / "model.onnx", FAST: ARTIFACTS / "fast.onnx"}
# How every ONNX file begins: ir_version, the first field of its ModelProto, and the tag of another.
# A safetensors file may have the first byte too: it begins with a length, of which zeros follow.
ONNX_BEGINS = re.compile(rb"\x08[\x01-\x7f][\x12\x1a\x22\x28\x32\x3a\x42\x72]")


def model_path(name: str | os.PathLike[str]) -> Path | None:
    """Return the file that "shipped", "fast" or a path means; None for "baseline"."""
    if name == BASELINE:
        return None
    return FILES.get(os.fspath(name)) or Path(name)


def read_checked(path: Path) -> bytes:
    """Return the bytes of the ONNX file at `path`, which must have the checksum in `<path>.sha256`.

    That file is what `sha256sum` writes. Raises `ArtifactError`.
    """
    checksum = path.with_name(path.name + ".sha256")
    try:
        model = path.read_bytes()
    except OSError as error:
        raise ArtifactError(_unreadable(error)) from error
    if not ONNX_BEGINS.match(model):
        raise ArtifactError(
            f"{path} is no ONNX file; name one that python -m export made, or set MODEL=shipped"
        )
    try:
        expected = checksum.read_text(encoding="ascii", errors="replace").split()[:1]
    except FileNotFoundError as error:
        folder, name, written = map(shlex.quote, (str(path.parent), path.name, checksum.name))
        command = f"(cd {folder} && sha256sum {name} > {written})"
        raise ArtifactError(
            f"{path} has no checksum beside it; if you trust the model, make it: {command}"
        ) from error
    except OSError as error:
        raise ArtifactError(_unreadable(error)) from error
    if [hashlib.sha256(model).hexdigest()] != expected:
        raise ArtifactError(
            f"{path} does not have the checksum in {checksum.name}, so it is damaged or was "
            "changed; restore both with git checkout or export again"
        )
    return model


def _unreadable(error: OSError) -> str:
    return (
        f"cannot read {error.filename} ({error.strerror}); correct MODEL, restore the file with "
        "git checkout, make it with python -m export, or set MODEL=baseline"
    )

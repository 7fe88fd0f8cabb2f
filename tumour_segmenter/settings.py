"""Environment variables: how they are read, and those that the library's own commands heed."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from tumour_segmenter.errors import SettingsError
from tumour_segmenter.model_file import SHIPPED
from tumour_segmenter.png import MAX_PIXELS as MOST_PIXELS


class Variable(NamedTuple):
    """One row of the table: a whole number where a range is given, else text."""

    name: str
    default: str
    help: str
    lowest: int | None = None
    highest: int | None = None


MODEL = Variable("MODEL", SHIPPED, "shipped, fast, baseline (a threshold), or a model file")
MAX_PIXELS = Variable(
    "MAX_PIXELS", str(MOST_PIXELS), "largest image, width × height", 1, 100_000_000
)
API_KEY = Variable("API_KEY", "", "key that clients must send; empty: everyone is served")


def read(
    variables: Iterable[Variable], environ: Mapping[str, str] = os.environ
) -> dict[str, str | int | None]:
    """Return the value of each variable by its name in lower case; empty is the same as not set.

    A number without a default that is not set is None. Raises `SettingsError`.
    """
    values: dict[str, str | int | None] = {}
    for variable in variables:
        text = environ.get(variable.name, "").strip() or variable.default
        values[variable.name.lower()] = text if variable.lowest is None else _number(variable, text)
    return values


def named_model(environ: Mapping[str, str] = os.environ) -> str:
    """Return the model that the environment names: "shipped", "fast", "baseline" or a path."""
    return str(read([MODEL], environ)["model"])


def _number(variable: Variable, text: str) -> int | None:
    if not text:
        return None
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 20 else -1
    if not variable.lowest <= number <= variable.highest:
        raise SettingsError(
            f"{variable.name}={text!r} is not a whole number from {variable.lowest} to "
            f"{variable.highest}"
        )
    return number

"""Whose image is whose: an optional table, so that nobody is trained on and validated on.

`persons.csv` in the data folder has the columns `person,image`, for example `A7,patient_012` and
`A7,control_003`. Images that it does not list are of a person of their own.
"""

import csv
from collections.abc import Collection
from pathlib import Path

TABLE = "persons.csv"
COLUMNS = ["person", "image"]


class DataError(ValueError):
    """The data folder cannot be trained on; the message names each file at fault."""


def persons(root: Path, images: Collection[str]) -> dict[str, str]:
    """Image -> person of the table in `root`, empty where there is none. Raises DataError that
    names the first line at fault; images: the names that it may list, without .png."""
    path = root / TABLE
    if not path.exists():
        return {}
    try:
        # As spreadsheets write it: perhaps with a mark of the encoding, perhaps with semicolons.
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeError) as error:
        raise DataError(f"{path}: cannot be read as UTF-8 text ({error})") from error
    found: dict[str, str] = {}
    delimiter = ";" if ";" in text.partition("\n")[0] else ","
    for number, row in enumerate(csv.reader(text.splitlines(), delimiter=delimiter), start=1):
        cells = [cell.strip() for cell in row]
        if number == 1 and cells != COLUMNS:
            raise DataError(f"{path}: its first line is {row}, expected {','.join(COLUMNS)}")
        if number == 1 or not any(cells):
            continue
        if len(cells) != len(COLUMNS) or not all(cells):
            raise DataError(f"{path}, line {number}: expected a person and an image")
        person, image = cells[0], cells[1].removesuffix(".png")
        if image not in images:
            raise DataError(f"{path}, line {number}: there is no image {image}")
        if found.setdefault(image, person) != person:
            raise DataError(f"{path}, line {number}: {image} has two persons")
    return found

"""The table of a run: parts while it goes on, one Parquet file at its end, no image twice."""

from __future__ import annotations

import io
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import NamedTuple

import pyarrow as pa
from pyarrow import parquet

from deploy.ray.storage import Place
from tumour_segmenter.cli.tasks import Provenance

TABLE, PARTS = "table.parquet", "table-parts"
SCHEMA = pa.schema(
    [
        ("image", pa.string()),
        ("mask", pa.string()),
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("lesions", pa.int32()),
        ("tumour_pixels", pa.int64()),
        ("body_pixels", pa.int64()),
        ("share_of_body", pa.float64()),
        ("highest_probability", pa.float64()),  # null where none was asked for
        ("ms", pa.float64()),  # of the mask alone
        ("fault", pa.string()),  # empty: there is a mask
        ("warning", pa.string()),
        ("model", pa.string()),
        ("version", pa.string()),
        ("operating_point", pa.string()),
        ("image_size", pa.int64()),  # in bytes; with the time of change it tells another image
        ("image_mtime_ns", pa.int64()),
    ]
)
ROWS_A_PART = 2_000
SECONDS_A_PART = 30.0


class Version(NamedTuple):
    """What tells whether an image changed."""

    size: int
    mtime_ns: int


class Parts:
    """Rows on their way to the table: a driver that dies loses those of half a minute at most."""

    def __init__(self, out: Place) -> None:
        self._out, self._rows, self._held = out, [], 0
        self._began = time.monotonic()
        self._name, self._count = f"{time.time_ns():020d}", 0

    def add(self, rows: pa.Table) -> None:
        """Raises `OSError` if a part is due and cannot be written."""
        self._rows.append(rows.select(SCHEMA.names).cast(SCHEMA))
        self._held += rows.num_rows
        if self._held >= ROWS_A_PART or time.monotonic() - self._began > SECONDS_A_PART:
            self.flush()

    def flush(self) -> None:
        """Write what is held as a part. Raises `OSError`."""
        if self._held:
            name = f"{PARTS}/{self._name}-{self._count:06d}.parquet"
            self._out.write(name, packed(pa.concat_tables(self._rows)))
            self._count += 1
        self._rows, self._held, self._began = [], 0, time.monotonic()


def read(out: Place) -> tuple[pa.Table, list[str]]:
    """Return the last row of each image, and the names of the parts that were read.

    Raises `OSError`.
    """
    parts = sorted(name for name in out.files(PARTS) if name.endswith(".parquet"))
    parts = [f"{PARTS}/{name}" for name in parts if not name.startswith(".")]
    names = [TABLE] * (TABLE in out.files()) + parts
    tables = [parquet.read_table(pa.BufferReader(out.read(name))) for name in names]
    if not tables:
        return SCHEMA.empty_table(), parts
    rows = pa.concat_tables(table.select(SCHEMA.names).cast(SCHEMA) for table in tables)
    last = {image: number for number, image in enumerate(rows["image"].to_pylist())}
    return rows.take(pa.array(sorted(last.values()), pa.int64())), parts


def finish(out: Place) -> pa.Table:
    """Put table and parts together as one table, sorted by image; return it. Raises `OSError`."""
    rows, parts = read(out)
    rows = rows.sort_by("image")
    out.write(TABLE, packed(rows))
    for name in parts:  # only now: until here they are what a next run would go by
        out.delete(name)
    return rows


def done(
    out: Place, images: Mapping[str, Version], provenance: Provenance, probability: bool = False
) -> set[str]:
    """Return which of `images` have their mask by `provenance` already, of the image as it is now.

    probability: whether they must have that as well. Raises `OSError`.
    """
    rows, _ = read(out)
    masks = set(out.files())
    mine = asdict(provenance)
    found = set()
    for batch in rows.to_batches(max_chunksize=10_000):
        for row in batch.to_pylist():
            same = images.get(row["image"]) == Version(row["image_size"], row["image_mtime_ns"])
            made = not row["fault"] and row["mask"] in masks
            if probability:
                made = made and row["highest_probability"] is not None
            if same and made and all(row[name] == value for name, value in mine.items()):
                found.add(row["image"])
    return found


def packed(rows: pa.Table) -> bytes:
    """Return `rows` as the bytes of a Parquet file."""
    sink = io.BytesIO()
    parquet.write_table(rows, sink, compression="zstd")
    return sink.getvalue()


def of(rows: Iterable[dict]) -> pa.Table:
    """Return `rows`, one dictionary each, as a table; what a row leaves out is null."""
    return pa.Table.from_pylist(list(rows), schema=SCHEMA)

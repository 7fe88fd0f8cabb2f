"""The table of a run: parts while it goes on, one Parquet file at its end, no image twice."""

from __future__ import annotations

import io
import time
from collections.abc import Iterable

import pyarrow as pa
from pyarrow import parquet

from deploy.ray.storage import Place

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
        ("ms", pa.float64()),  # of the mask alone
        ("fault", pa.string()),  # empty: there is a mask
        ("image_version", pa.string()),  # length and time of change
        ("made_by", pa.string()),  # model and settings
    ]
)
ROWS_A_PART = 2_000
SECONDS_A_PART = 30.0


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


def done(out: Place, versions: dict[str, str], made_by: str) -> set[str]:
    """Return which images of `versions` (name -> version) have their mask by this model already.

    Raises `OSError`.
    """
    rows, _ = read(out)
    masks = set(out.files())
    columns = (rows[name].to_pylist() for name in ("image", "mask", "fault", "image_version"))
    by = rows["made_by"].to_pylist()
    return {
        image
        for image, mask, fault, version, who in zip(*columns, by, strict=True)
        if not fault and who == made_by and versions.get(image) == version and mask in masks
    }


def packed(rows: pa.Table) -> bytes:
    """Return `rows` as the bytes of a Parquet file."""
    sink = io.BytesIO()
    parquet.write_table(rows, sink, compression="zstd")
    return sink.getvalue()


def of(rows: Iterable[dict]) -> pa.Table:
    """Return `rows`, one dictionary each, as a table; what a row leaves out is null."""
    return pa.Table.from_pylist(list(rows), schema=SCHEMA)

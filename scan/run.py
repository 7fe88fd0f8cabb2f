"""All series of a command, one after the other; a broken one never stops the rest."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tumour_segmenter import files
from tumour_segmenter.cli.shards import Shard, parse
from tumour_segmenter.errors import UsageError
from tumour_segmenter.progress import bar

from .errors import ScanError, first_line
from .model import Model
from .options import Options
from .report import is_table, row, table
from .source import Series, find, find_loose, is_loose
from .work import done, process, run_of

DONE, BEFORE, FAILED = "done", "done before", "failed"


@dataclass(frozen=True)
class Share:
    """Which series this command does: those of --series, and of them those of --shard."""

    only: list[str] | None
    shard: Shard | None

    def takes(self, series: Series) -> bool:
        return self.shard is None or self.shard.takes(series.uid or series.source.name)

    def reports(self, source: Path) -> bool:
        """Whether it is this shard that reports what is wrong with a whole source."""
        return self.shard is None or self.shard.takes(source.name)


def run(arguments: argparse.Namespace) -> int:
    """Do what `python -m scan` was asked for; return the exit code.

    Raises `UsageError`, `ArtifactError` and `SettingsError` before anything was written.
    """
    sources, out, csv = _checked(arguments)
    share = Share(arguments.series, parse(arguments.shard) if arguments.shard else None)
    options, model = Options.of(arguments), Model.load(arguments.operating_point)
    for folder in filter(None, (out, csv and csv.parent)):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"cannot make the folder {folder}: {error.strerror}") from error
    rows: list[dict] = []
    ended: Counter[str] = Counter()
    interrupted = False
    try:
        # What a damaged header makes pydicom warn of may hold names; faults are found here anyway.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for number, found in _found(sources, out, share):
                how, new = _one(number, found, out, options, model, rows)
                ended[how] += 1
                rows.append(new)
    except KeyboardInterrupt:
        interrupted = True
    now, before, failed = (ended[how] for how in (DONE, BEFORE, FAILED))
    print(f"{now} series done, {before} were done before, {failed} failed")
    if csv:
        try:
            files.write(csv, table(rows))
        except OSError as error:
            print(f"error: {files.reason(error)}", file=sys.stderr)
            failed += 1
    if interrupted:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    return 1 if failed else 0


def _checked(arguments: argparse.Namespace) -> tuple[list[Path], Path, Path | None]:
    """Return (sources without doubles, out, csv); raises `UsageError`."""
    sources: dict[Path, Path] = {}
    for source in arguments.sources:
        if not os.path.exists(source):  # Path.exists raises where a name is too long
            raise UsageError(f"{source}: no such file or folder")
        sources.setdefault(source.resolve(), source)
    if arguments.dicom_patient and not arguments.dicom:
        raise UsageError("--dicom-patient is about the files of --dicom; add --dicom")
    if arguments.out.exists() and not arguments.out.is_dir():
        raise UsageError(f"--out {arguments.out} is no folder")
    if arguments.csv and arguments.csv.is_dir():
        raise UsageError(f"--csv {arguments.csv} is a folder")
    if arguments.csv:
        files.check_outputs(sources, [arguments.csv])
        if not is_table(arguments.csv):
            raise UsageError(f"--csv {arguments.csv} is there and no table of series; remove it")
    return list(sources.values()), arguments.out, arguments.csv


def _found(
    sources: list[Path], out: Path, share: Share
) -> Iterator[tuple[int, Series | Exception]]:
    """Yield the number of each source, from 1, with each of its series, or why it has none."""
    loose = [source for source in sources if is_loose(source)]
    others = set(loose[1:])
    for number, source in enumerate(sources, 1):
        if source in others:  # done with the first of them: together they are one source
            continue
        try:
            found = find_loose(loose) if loose and source is loose[0] else find(source, out)
            if share.only:
                found = [series for series in found if series.uid in share.only]
                if not found:
                    raise ScanError("it holds none of the series of --series", str(source))
        except (ScanError, OSError) as error:
            if share.reports(source):
                yield number, error
            continue
        for series in filter(share.takes, found):
            yield number, series


def _one(
    number: int,
    series: Series | Exception,
    out: Path,
    options: Options,
    model: Model,
    rows: list[dict],
) -> tuple[str, dict]:
    """Do one series; return how it ended, and its row. rows: of those before."""
    if isinstance(series, Exception):
        return FAILED, row(number, "", None, fault=_failed(series, ""))
    try:
        folder = out / series.name
        if any(other.get("folder") == series.name for other in rows):
            raise ScanError(f"{folder.name} holds the results of this content already")
        if said := done(folder, run_of(series, options, model)):
            return BEFORE, row(number, series.name, said)
        with bar(total=len(series.files), desc=series.source.name[:30], unit="files") as shown:
            said = process(series, folder, options, model, shown.update)
    except Exception as error:  # one series never stops the others
        return FAILED, row(number, "", None, series.uid, _failed(error, series.where))
    print(f"{series.where} -> {folder}", flush=True)
    for line in said["warnings"]:
        print(f"warning: {folder.name}: {line}", file=sys.stderr)
    return DONE, row(number, series.name, said)


def _failed(error: Exception, where: str) -> str:
    """Print a failure; return its line for the table, which holds no path."""
    if isinstance(error, ScanError):
        where, line = error.where or where, str(error)
    elif isinstance(error, OSError):
        where, line = error.filename or where, error.strerror or type(error).__name__
    elif isinstance(error, MemoryError):
        line = "there is too little memory for it"
    else:
        # Its text may hold what stands in a header: for the terminal, not for the table.
        line = f"an unexpected {type(error).__name__}"
        where = f"{where}: {first_line(error)}"
    print(f"error: {where}: {line}", file=sys.stderr)
    return line

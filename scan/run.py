"""All series of a command, one after the other; a broken one never stops the rest."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tumour_segmenter import files
from tumour_segmenter.cli.shards import Shard, parse
from tumour_segmenter.errors import UsageError

from .errors import ScanError, first_line
from .model import Model
from .options import Options
from .progress import Progress
from .report import row, table
from .source import Series, find, find_loose, is_loose
from .suv import Given
from .work import done, process, run_of


@dataclass
class Counts:
    """How many series were done now, were done before, and were refused."""

    now: int = 0
    before: int = 0
    failed: int = 0


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
    options = Options(
        Given(
            weight=arguments.weight,
            dose=arguments.dose,
            half_life=arguments.half_life,
            injection_time=arguments.injection_time,
            scan_time=arguments.scan_time,
            suv_factor=arguments.suv_factor,
        ),
        arguments.suv_black,
        arguments.dicom,
        arguments.dicom_patient,
    )
    model = Model.load(arguments.operating_point)
    for folder in filter(None, (out, csv and csv.parent)):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"cannot make the folder {folder}: {error.strerror}") from error
    rows: list[dict] = []
    counts, progress, interrupted = Counts(), Progress(len(sources)), False
    try:
        # What a damaged header makes pydicom warn of may hold names; faults are found here anyway.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for item in _all(sources, out, options, model, share, counts, progress):
                rows.append(item)
    except KeyboardInterrupt:
        interrupted = True
    progress.close()
    print(f"{counts.now} series done, {counts.before} were done before, {counts.failed} failed")
    if csv:
        try:
            files.write(csv, table(rows))
        except OSError as error:
            print(f"error: {files.reason(error)}", file=sys.stderr)
            counts.failed += 1
    if interrupted:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    return 1 if counts.failed else 0


def _checked(arguments: argparse.Namespace) -> tuple[list[Path], Path, Path | None]:
    """Return (sources without doubles, out, csv); raises `UsageError`."""
    sources: dict[Path, Path] = {}
    for source in arguments.sources:
        if not source.exists():
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
    return list(sources.values()), arguments.out, arguments.csv


def _all(
    sources: list[Path],
    out: Path,
    options: Options,
    model: Model,
    share: Share,
    counts: Counts,
    progress: Progress,
) -> Iterator[dict]:
    """Do each series of each source; yield a row for each."""
    taken: dict[str, str] = {}  # name of a folder of results -> the series in it
    loose = [source for source in sources if is_loose(source)]
    others = set(loose[1:])
    for number, source in enumerate(sources, 1):
        progress.begin(source)
        if source in others:  # done with the first of them: together they are one source
            continue
        try:
            found = find_loose(loose) if loose and source is loose[0] else find(source, out)
        except (ScanError, OSError) as error:
            if not share.reports(source):
                continue
            yield row(number, "", None, fault=_failed(error, str(source), counts, progress))
            continue
        if share.only:
            found = [series for series in found if series.uid in share.only]
            if not found and share.reports(source):
                error = ScanError("it holds none of the series of --series", str(source))
                yield row(number, "", None, fault=_failed(error, str(source), counts, progress))
        for series in filter(share.takes, found):
            try:
                said = _one(series, out, options, model, taken, counts, progress)
            except Exception as error:  # one series never stops the others
                fault = _failed(error, series.where, counts, progress)
                yield row(number, "", None, series.uid, fault)
            else:
                taken[series.name] = (
                    "the same series of another source" if series.uid else "a file of this content"
                )
                yield row(number, series.name, said)


def _one(
    series: Series,
    out: Path,
    options: Options,
    model: Model,
    taken: dict[str, str],
    counts: Counts,
    progress: Progress,
) -> dict:
    folder = out / series.name
    if other := taken.get(series.name):
        raise ScanError(f"{folder.name} holds the results of {other} already")
    if said := done(folder, run_of(series, options, model)):
        counts.before += 1
        return said
    progress.reading(len(series.files))
    said = process(series, folder, options, model, progress.step)
    counts.now += 1
    progress.say(f"{series.where} -> {folder}")
    for line in said["warnings"]:
        progress.say(f"warning: {folder.name}: {line}", error=True)
    return said


def _failed(error: Exception, where: str, counts: Counts, progress: Progress) -> str:
    """Count and print a failure; return its line for the table, which holds no path."""
    counts.failed += 1
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
    progress.say(f"error: {where}: {line}", error=True)
    return line

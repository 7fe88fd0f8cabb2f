"""The command line: `python -m tumour_segmenter predict IMG|DIR ... --out DIR`, and others."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

from tumour_segmenter import __version__, files
from tumour_segmenter.cli import batch, shards, table
from tumour_segmenter.cli.batch import Plan
from tumour_segmenter.cli.tasks import Provenance, Task, check_foreign, make_tasks
from tumour_segmenter.cpus import available_cpus
from tumour_segmenter.errors import UsageError
from tumour_segmenter.folders import counted, find_images
from tumour_segmenter.progress import bar, say
from tumour_segmenter.settings import MAX_PIXELS, MODEL, read

NO_DEVICE = "Research software, not a medical device."
SETTINGS = "settings are environment variables"

PREDICT = """\
Write the tumour mask of each image as DIR/NAME.png: height and width of the
image, three equal channels, 255 = tumour, 0 = not.

  tumour-segmenter predict scan.png --out masks
  tumour-segmenter predict patients/imgs --out masks --overlay --csv masks.csv
  tumour-segmenter predict patients/imgs --out masks --url http://127.0.0.1:8000

The same without installation: python -m tumour_segmenter predict ...

Images are PNG of any colour type, dark = high uptake. Of a folder all its PNG
files are taken, but not those of folders inside it; what is ignored is named."""

MORE = f"""\
An image is skipped if its mask was made before by the same model, version and
operating point from the same file: each mask says so in a text chunk. After
an interruption the same command goes on where it ended. Files appear whole or
not at all. Masks of another model are made again; a PNG that this program did
not write is never written over.

--csv FILE gets one row for each image: image, mask, height, width, lesions
(groups of marked pixels that touch, corners included), tumour_pixels,
body_pixels (pixels darker than grey 250), share_of_body (0 to 1), ms (for the
mask alone, empty if it was there before), fault, warning, model (SHA-256 of its
file), version, operating_point, shard.

--shard I/N does a share of the images by name, the same on every machine, so
that N processes do each image once. Their tables are put together by
tumour-segmenter merge.

The model is that of the server, chosen by the same environment variables:
MODEL (shipped, fast, baseline or a file) and MAX_PIXELS. With --url
the server's model is asked, and API_KEY is sent if it is set; a busy server is
asked again.

exit codes:
  0    every image has its mask
  1    some images could not be segmented; each is named, the others are done
  2    nothing was done: wrong usage, no such file, no model, no server
  130  interrupted; what was done by then is kept

{NO_DEVICE}"""

MERGE = """\
Put the tables of several shards together: the rows of all, sorted by image,
each image once.

  tumour-segmenter merge shard-*.csv --expect patients/imgs --out masks.csv

Named are images that are missing, doubled or failed, and rows of different
models, versions, operating points or numbers of shards; the exit code is then 1."""


def main(argv: list[str] | None = None) -> int:
    """Run the command line `argv`, by default the process's own; return the exit code."""
    if (argv or sys.argv[1:])[:1] == ["serve"]:
        serve()
    arguments, unknown = _parser().parse_known_args(argv)
    if unknown:
        arguments.command.error(f"unknown: {' '.join(unknown)}; {SETTINGS}")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as tidily as Ctrl-C
    try:
        return arguments.run(arguments)
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:  # before the first image, or again while it was ending
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tumour-segmenter",
        description="Marks tumours in whole-body FDG-PET projections.",
        epilog=NO_DEVICE,
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, run, text: str, description: str, epilog: str) -> argparse.ArgumentParser:
        command = commands.add_parser(
            name,
            help=text,
            description=description,
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.set_defaults(run=run, command=command)
        return command

    command = add("predict", predict, "image files to mask files", PREDICT, MORE)
    _add_files(command)
    command.add_argument("--url", help="ask this server, such as http://127.0.0.1:8000")
    command.add_argument(
        "--operating-point",
        metavar="NAME",
        help="sensitive, balanced or specific (default: the model's own)",
    )
    command = add("merge", merge, "put the tables of several shards together", MERGE, NO_DEVICE)
    command.add_argument("tables", nargs="+", type=Path, metavar="TABLE", help="files of --csv")
    command.add_argument(
        "--expect", nargs="+", type=Path, metavar="IMG|DIR", help="images that must have a row"
    )
    command.add_argument("--out", type=Path, required=True, metavar="FILE", help="table to write")
    commands.add_parser("serve", help=f"answer HTTP requests; {SETTINGS}")
    return parser


def _add_files(command: argparse.ArgumentParser) -> None:
    command.add_argument("images", nargs="+", type=Path, metavar="IMG|DIR", help="what to segment")
    command.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for masks")
    command.add_argument(
        "--overlay", action="store_true", help="also write NAME_overlay.png, the mask in colour"
    )
    command.add_argument("--csv", type=Path, metavar="FILE", help="write what is in each mask")
    command.add_argument("--shard", metavar="I/N", help=shards.HELP)
    command.add_argument(
        "--jobs",
        type=_positive,
        metavar="N",
        help="images at once, each in a process of its own (default: one for each CPU, 2 where a "
        "server is asked)",
    )


def _positive(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) <= 256):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to 256")
    return int(text)


def serve() -> None:
    """Become the server, a door that the library does not import."""
    installed = find_spec("tumour_segmenter.serve")
    module = "tumour_segmenter.serve" if installed else "serve"
    os.execv(sys.executable, [sys.executable, "-m", module, *sys.argv[2:]])


def merge(arguments: argparse.Namespace) -> int:
    """Do what `merge` was asked for; return the exit code."""
    files.check_outputs(arguments.tables, [arguments.out], "a table")
    table.check_place(arguments.out, "--out")
    expected = find_images(arguments.expect).images if arguments.expect else None
    try:
        rows, faults = table.merge(arguments.tables, expected, arguments.out)
    except OSError as error:
        raise UsageError(files.reason(error)) from error
    print(f"{counted(rows, 'row')} of {counted(len(arguments.tables), 'table')}")
    for fault in faults:
        print(f"error: {fault}", file=sys.stderr)
    return 1 if faults else 0


def predict(arguments: argparse.Namespace) -> int:
    """Do what `predict` was asked for; return the exit code.

    Raises `UsageError` before anything was written.
    """
    shard = shards.parse(arguments.shard) if arguments.shard else None
    found = find_images(arguments.images)
    tasks = make_tasks(found.images, arguments.out, arguments.overlay)
    if shard:
        tasks = [task for task in tasks if shard.takes(task.image.name)]
        print(f"shard {shard}: {len(tasks)} of {counted(len(found.images), 'image')}")
    tables = [arguments.csv] if arguments.csv else []
    outputs = tables + [path for task in tasks for path in task.outputs]
    files.check_outputs(found.images, outputs, "an image")
    for path in tables:
        table.check_place(path, "--csv")
    settings = read([MODEL, MAX_PIXELS])
    jobs = arguments.jobs or (2 if arguments.url else available_cpus())
    plan = Plan(
        model=settings["model"],
        threads=max(1, available_cpus() // jobs),
        max_pixels=settings["max_pixels"],
        url=arguments.url,
        operating_point=arguments.operating_point,
    )
    provenance = batch.identify(plan)  # tells now what each worker would stumble over
    check_foreign(tasks)
    for folder in (arguments.out, *(path.parent for path in tables)):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            files.remove_stale(folder)
        except OSError as error:
            raise UsageError(f"cannot make the folder {folder}: {error.strerror}") from error
    for note in found.notes():
        print(f"note: {note}", file=sys.stderr)
    return _run(tasks, plan, provenance, jobs, arguments.csv, str(shard or ""))


def _run(
    tasks: list[Task], plan: Plan, provenance: Provenance, jobs: int, csv: Path | None, shard: str
) -> int:
    """Do what is not done, say how it went, write the table `csv`; return the exit code."""
    todo = [task for task in tasks if not task.is_done(provenance)]
    done, written, failed, ended, code = len(tasks) - len(todo), 0, 0, "", 0
    rows: dict[Path, str] = {}
    # What is done is only looked at again for the table.
    progress = bar(total=len(tasks if csv else todo), desc="segmenting", unit="images")
    try:
        with closing(batch.outcomes(tasks if csv else todo, plan, provenance, jobs)) as outcomes:
            for outcome in outcomes:
                image = outcome.task.image
                if csv:
                    rows[image] = table.row(outcome, provenance, shard)
                for warning in outcome.warnings:
                    say(f"warning: {image}: {warning}")
                if outcome.fault:
                    about = "" if outcome.fatal else f"{image}: "
                    say(f"error: {about}{outcome.fault}")
                    failed, code = failed + 1, 1
                written += outcome.seconds is not None
                progress.update()
                if outcome.fatal:
                    ended = "stopped"
                    break
    except KeyboardInterrupt:
        ended, code = "interrupted", 130
        # Some masks were written of which no worker could tell any more.
        written = sum(task.is_done(provenance) for task in todo)
    progress.close()
    were = f"{done} {'was' if done == 1 else 'were'} there before"
    print(f"{counted(written, 'mask')} written, {were}, {failed} failed")
    if csv:
        try:
            table.write(csv, (rows[task.image] for task in tasks if task.image in rows))
        except OSError as error:
            print(f"error: {files.reason(error)}", file=sys.stderr)
            code = code or 1
    if ended:
        print(f"{ended}; the same command goes on from here", file=sys.stderr)
    return code

"""The command line of serving: `python -m serve predict IMG|DIR ... --out DIR`."""

from __future__ import annotations

import argparse
import sys
import time
from contextlib import closing
from pathlib import Path

from serve import __version__, batch, remote
from serve.batch import Plan
from serve.cpus import available_cpus
from serve.errors import UsageError
from serve.segmenter import ArtifactError
from serve.settings import Settings, SettingsError
from serve.tasks import Outcome, Task, find_tasks, write_table

PREDICT = """\
Write the tumour mask of each image as DIR/NAME.png: height and width of the
image, three equal channels, 255 = tumour, 0 = not.

  python -m serve predict scan.png --out masks
  python -m serve predict patients/imgs --out masks --overlay --csv masks.csv
  python -m serve predict patients/imgs --out masks --url http://127.0.0.1:8000

Images are PNG of any colour type, dark = high uptake. Of a folder all its PNG
files are taken, but not those of folders inside it."""

MORE = """\
An image whose mask is there already, and not older than the image, is skipped:
after an interruption the same command goes on where it ended. Files appear
whole or not at all. To do all again, for example with another model, choose
another --out or delete it.

--csv FILE gets one row for each image: image, mask, height, width, lesions
(groups of marked pixels that touch, corners included), tumour_pixels,
body_pixels (pixels darker than grey 250), share_of_body (0 to 1), ms (for the
mask alone, empty if it was there before), fault.

The model is that of the server, chosen by the same environment variables:
MODEL (default: the shipped one; or baseline) and MAX_PIXELS. With --url
the server's model is asked, and API_KEY is sent if it is set; a busy server is
asked again.

exit codes:
  0    every image has its mask
  1    some images could not be segmented; each is named, the others are done
  2    nothing was done: wrong usage, no such file, no model, no server
  130  interrupted; what was done by then is kept

Research software, not a medical device."""


class Progress:
    """A bar on a terminal that shows how far it is; on anything else nothing at all."""

    def __init__(self, total: int) -> None:
        self._total, self._done, self._began = total, 0, time.monotonic()
        self._shown = sys.stderr.isatty()
        self._draw()

    def step(self) -> None:
        """Call after each image."""
        self._done += 1
        self._draw()

    def say(self, line: str) -> None:
        """Print a line that stays, above the bar."""
        print(f"\r\x1b[K{line}" if self._shown else line, file=sys.stderr, flush=True)
        self._draw()

    def close(self) -> None:
        if self._shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)

    def _draw(self) -> None:
        if not self._shown or not self._total:
            return
        passed = time.monotonic() - self._began
        filled = 24 * self._done // self._total
        line = f"[{'#' * filled}{'.' * (24 - filled)}] {self._done}/{self._total}"
        if self._done:
            left = round(passed / self._done * (self._total - self._done))
            line += f"  {self._done / passed:.1f} images/s  {left // 60}:{left % 60:02d} left"
        print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)


def main(argv: list[str] | None = None) -> int:
    """Run the command line `argv`, by default the process's own; return the exit code."""
    arguments = _parser().parse_args(argv)
    try:
        return predict(arguments)
    except (UsageError, ArtifactError, SettingsError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:  # before the first image, or again while it was ending
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m serve",
        description="Marks tumours in whole-body FDG-PET projections. The server itself is "
        "started by: gunicorn serve.app:app",
        epilog="Research software, not a medical device.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser(
        "predict",
        help="image files to mask files; see: python -m serve predict --help",
        description=PREDICT,
        epilog=MORE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("images", nargs="+", type=Path, metavar="IMG|DIR", help="what to segment")
    command.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for masks")
    command.add_argument(
        "--overlay", action="store_true", help="also write NAME_overlay.png, the mask in colour"
    )
    command.add_argument("--csv", type=Path, metavar="FILE", help="write what is in each mask")
    command.add_argument("--url", help="ask this server, such as http://127.0.0.1:8000")
    command.add_argument(
        "--jobs",
        type=_positive,
        metavar="N",
        help="images at once, each in a process of its own (default: one for each CPU; with "
        "--url 2)",
    )
    return parser


def _positive(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) <= 256):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to 256")
    return int(text)


def predict(arguments: argparse.Namespace) -> int:
    """Do what `python -m serve predict` was asked for; return the exit code.

    Raises `UsageError`, `ArtifactError` and `SettingsError` before anything was written.
    """
    tasks = find_tasks(arguments.images, arguments.out, arguments.overlay)
    settings = Settings.read()
    jobs = arguments.jobs or (2 if arguments.url else available_cpus())
    plan = Plan(
        model=settings.model,
        threads=max(1, available_cpus() // jobs),
        max_pixels=settings.max_pixels,
        url=arguments.url,
        api_key=settings.api_key,
    )
    if plan.url:
        remote.check(plan.url)
    else:
        batch.open_model(plan)  # tells now what each worker would stumble over
    if arguments.csv and arguments.csv.is_dir():
        raise UsageError(f"--csv {arguments.csv} is a folder")
    for folder in filter(None, (arguments.out, arguments.csv and arguments.csv.parent)):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"cannot make the folder {folder}: {error.strerror}") from error
    return _run(tasks, plan, jobs, arguments.csv)


def _run(tasks: list[Task], plan: Plan, jobs: int, table: Path | None) -> int:
    """Do what is not done, say how it went, write the `table`; return the exit code."""
    done = sum(task.is_done for task in tasks)
    # What is done is only looked at again for the table.
    todo = [task for task in tasks if table or not task.is_done]
    outcomes: dict[Task, Outcome] = {}
    code = 0
    progress = Progress(len(todo))
    try:
        with closing(batch.outcomes(todo, plan, jobs)) as finished:
            for outcome in finished:
                outcomes[outcome.task] = outcome
                if outcome.fault:
                    progress.say(f"error: {outcome.task.image}: {outcome.fault}")
                    code = 1
                progress.step()
    except KeyboardInterrupt:
        code = 130
    progress.close()
    failed = sum(bool(outcome.fault) for outcome in outcomes.values())
    # When interrupted, some masks were written of which no worker could tell any more.
    written = sum(task.is_done for task in tasks) - done
    print(f"{written} masks written, {done} were there before, {failed} failed")
    if table:
        try:
            write_table(table, (outcomes[task] for task in tasks if task in outcomes))
        except OSError as error:
            print(f"error: {table}: {error.strerror}", file=sys.stderr)
            code = code or 1
    if code == 130:
        print("interrupted; the same command goes on from here", file=sys.stderr)
    return code

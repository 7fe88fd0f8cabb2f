"""Segment a folder or bucket of any size on a Ray cluster: `python -m deploy.ray.predict`."""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

# Before Ray is imported: it reports to its makers unless told not to, and what its core has to say
# of each worker is for its log files.
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")

from tumour_segmenter import needs
from tumour_segmenter.cli import batch
from tumour_segmenter.command import exit_code, ignore_closed_output
from tumour_segmenter.errors import UsageError
from tumour_segmenter.model_file import model_path
from tumour_segmenter.settings import MAX_PIXELS, MODEL, read

try:
    import pyarrow as pa
    import ray
    import ray.data
except ImportError as missing:
    how = needs.how_to_install("cluster")
    print(f"error: {missing.name} is not installed; {how}", file=sys.stderr)
    sys.exit(2)

from deploy.ray import table
from deploy.ray.storage import Place, first_line, list_images
from deploy.ray.worker import MODEL_FOLDER, Plan, Worker, mask_name, remove_probabilities

PROJECT = Path(__file__).resolve().parents[2]
LARGEST_BLOCK = 64  # images that a worker is given at once, and does again if its node dies
BLOCKS_A_CORE = 8
NAMED_FAULTS = 20

HELP = """\
Write the tumour mask of each PNG image in SOURCE as OUT/NAME.png, and what is
in each mask as OUT/table.parquet.

  python -m deploy.ray.predict images --out masks
  python -m deploy.ray.predict s3://bucket/images --out s3://bucket/masks \\
      --address auto

SOURCE and OUT are folders that every node sees, or object storage: s3://, gs://.
Keys are taken from each node's environment or role."""

MORE = """\
One process a core runs the model on one thread. After an interruption the same
command goes on where it ended; images are done again if the model, their size
or their time of change is another: to compare contents, all would be read. A
node that dies costs time, no image. The model is chosen as for
python -m tumour_segmenter predict: MODEL and MAX_PIXELS.

exit codes:
  0    every image has its mask
  1    some images could not be segmented; the column fault says why
  2    nothing was done: wrong usage, no such folder, no model, no cluster
  130  interrupted; what was done by then is kept

Research software, not a medical device."""


def main(argv: list[str] | None = None) -> int:
    """Run the command line `argv`, by default the process's own; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m deploy.ray.predict",
        description=HELP,
        epilog=MORE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", metavar="SOURCE", help="folder or URI of the images")
    parser.add_argument("--out", required=True, help="folder or URI for masks and table")
    parser.add_argument(
        "--operating-point", metavar="NAME", help="one of the model's; default: the model's own"
    )
    parser.add_argument(
        "--probability", action="store_true", help="also write OUT/NAME_probability.png"
    )
    parser.add_argument(
        "--address",
        help="of the Ray cluster: auto on one of its nodes, or HOST:6379 (default: RAY_ADDRESS; "
        "without it Ray starts on this machine alone)",
    )
    ignore_closed_output()
    arguments = parser.parse_args(argv)
    return exit_code(
        lambda: predict(
            arguments.source,
            arguments.out,
            arguments.address,
            arguments.operating_point,
            arguments.probability,
        )
    )


def predict(
    source_text: str, out_text: str, address: str | None, point: str | None, probability: bool
) -> int:
    """Segment all images that are not done yet; return the exit code.

    Raises `UsageError`, `ArtifactError` and `SettingsError` before anything was written.
    """
    settings = read([MODEL, MAX_PIXELS])
    model = model_path(settings["model"])
    plan = Plan(
        source=absolute(source_text),
        out=absolute(out_text),
        model=model and model.name,
        max_pixels=settings["max_pixels"],
        operating_point=point,
        probability=probability,
        provenance=batch.identify(
            batch.Plan(
                settings["model"],
                1,
                settings["max_pixels"],
                operating_point=point,
                probability=probability,
            )
        ),
    )
    source, out = Place.of(plan.source), Place.of(plan.out)
    if (source.filesystem, source.path) == (out.filesystem, out.path):
        raise UsageError("--out is the folder of the images; choose another")
    found, listing = list_images(source)
    images = {name: table.Version(info.size, info.mtime_ns) for name, info in found.items()}
    check_names(list(images))
    try:
        before = table.done(out, images, plan.provenance, probability)
    except (OSError, pa.ArrowException) as error:
        raise UsageError(f"{out.text} cannot be read: {first_line(error)}") from error
    to_do = {name: version for name, version in images.items() if name not in before}
    for note in listing.notes():
        print(note, file=sys.stderr)
    failed, written = 0, 0
    if not probability:
        remove_probabilities(out, to_do)
    if to_do:
        with connected(address or os.environ.get("RAY_ADDRESS") or "local", model):
            failed, written = run(plan, to_do, out)
    table.finish(out)
    missing = len(to_do) - failed - written
    print(f"{written} masks written, {len(before)} were there before, {failed} failed", end="")
    print(f", {missing} got no answer: run the same command again" if missing else "")
    return 1 if failed or missing else 0


def run(plan: Plan, to_do: dict[str, table.Version], out: Place) -> tuple[int, int]:
    """Segment `to_do`; return how many images failed and how many were done."""
    parts, failed, written, doubtful = table.Parts(out), 0, 0, 0
    try:
        for rows in segmented(plan, to_do):
            parts.add(rows)
            doubtful += sum(map(bool, rows["warning"].to_pylist()))
            for image, fault in zip(
                rows["image"].to_pylist(), rows["fault"].to_pylist(), strict=True
            ):
                failed, written = failed + bool(fault), written + (not fault)
                if fault and failed <= NAMED_FAULTS:
                    print(f"{image}: {fault}", file=sys.stderr)
    finally:
        parts.flush()
    if doubtful:
        print(
            f"warning: {doubtful} masks, see the column warning of {table.TABLE}", file=sys.stderr
        )
    if failed > NAMED_FAULTS:
        more = failed - NAMED_FAULTS
        print(f"{more} more failed, see the column fault of {table.TABLE}", file=sys.stderr)
    return failed, written


def segmented(plan: Plan, to_do: dict[str, table.Version]) -> Iterator[pa.Table]:
    """Yield the rows of the table as they come, from all cores of the cluster.

    Only names and rows pass through Ray: each worker reads its images and writes its masks itself,
    so memory does not grow with their number.
    """
    cores = max(1, int(ray.cluster_resources().get("CPU", 1)))
    size = max(1, min(LARGEST_BLOCK, len(to_do) // (cores * BLOCKS_A_CORE)))
    sizes, times = zip(*to_do.values(), strict=True)
    names = pa.table({"image": list(to_do), "image_size": sizes, "image_mtime_ns": times})
    blocks = [names.slice(start, size) for start in range(0, len(names), size)]
    images = ray.data.from_arrow(blocks)
    rows = images.map_batches(
        Worker,
        fn_constructor_args=(plan,),
        batch_size=None,
        batch_format="pyarrow",
        num_cpus=1,
        # All cores at once; fewer when a node dies, more when one comes.
        compute=ray.data.ActorPoolStrategy(
            min_size=1, max_size=max(cores, len(blocks)), initial_size=min(cores, len(blocks))
        ),
    )
    yield from rows.iter_batches(batch_size=None, batch_format="pyarrow")


@contextmanager
def connected(address: str, model: Path | None) -> Iterator[None]:
    """Start ("local") or join a Ray cluster with this project's code and the `model` file.

    Raises `UsageError`.
    """
    check(address)
    ray.data.DataContext.get_current().enable_progress_bars = sys.stderr.isatty()
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with TemporaryDirectory() as temporary:
        code = [PROJECT / "tumour_segmenter", PROJECT / "deploy"]
        if model:
            code.append(Path(temporary, MODEL_FOLDER))
            code[-1].mkdir()
            for file in (model, model.with_name(f"{model.name}.sha256")):
                shutil.copy(file, code[-1])
        try:
            ray.init(
                address=address,
                runtime_env={
                    "py_modules": [os.fspath(folder) for folder in code],
                    "env_vars": {"ORT_DISABLE_TELEMETRY": "1"},
                },
                include_dashboard=False if address == "local" else None,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
        except (ConnectionError, ValueError, RuntimeError, TimeoutError) as error:
            raise UsageError(f"no Ray cluster at {address}: {first_line(error)}") from error
        try:
            yield
        finally:
            ray.shutdown()


def check(address: str) -> None:
    """Raise `UsageError` if nobody listens at `address`: Ray itself would try for minutes."""
    if "://" in address:
        raise UsageError(
            f"--address {address}: run this on a node of the cluster, with --address auto"
        )
    place = address
    if address == "auto":
        with suppress(OSError):
            place = Path("/tmp/ray/ray_current_cluster").read_text().strip()
    host, _, port = place.rpartition(":")
    if host and port.isdigit():
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
        except OSError as error:
            raise UsageError(f"no Ray cluster at {place}: {error.strerror or error}") from error


def absolute(text: str) -> str:
    """Return a folder's whole path, as workers stand in other folders; URIs stay as they are."""
    return text if "://" in text else os.path.abspath(text)


def check_names(images: list[str]) -> None:
    """Raise `UsageError` if two images would become one mask."""
    taken: dict[str, str] = {}
    for image in images:
        if other := taken.get(mask_name(image)):
            raise UsageError(f"{other} and {image} would both become {mask_name(image)}")
        taken[mask_name(image)] = image


if __name__ == "__main__":
    sys.exit(main())

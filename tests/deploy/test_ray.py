"""A folder or bucket on a real Ray cluster of two nodes on this machine, and on an S3 server.

Ray is larger than all that the other tests need, so `make dev-env` leaves it out; .ci/run has it.
"""

import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec

import numpy as np
import pytest
from PIL import Image

from benchmarks.host.server import ROOT
from tests.conftest import write_artifact
from tests.support.slow_model import lasting, write_slow_artifact
from tumour_segmenter import needs
from tumour_segmenter.cli.tasks import add_record
from tumour_segmenter.contract import decode_png, encode_grey_png
from tumour_segmenter.segmenter import open_model

INSTALL = "pip install -r requirements-cluster.txt"
MODULE = "deploy.ray.predict"

S3_SERVER = "pip install 'moto[s3]==5.2.5' 'flask-cors==6.0.5'"

has_s3_server = bool(find_spec("moto") and find_spec("flask_cors"))
needs_ray = pytest.mark.skipif(not find_spec("ray"), reason=f"Ray is missing: {INSTALL}")
needs_s3_server = pytest.mark.skipif(not has_s3_server, reason=f"moto is missing: {S3_SERVER}")
# The warnings of Ray and moto are not ours.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", MODULE, *map(str, arguments)]


def run(*arguments: object, **variables: str) -> subprocess.CompletedProcess:
    environ = os.environ | variables
    done = subprocess.run(
        command(*arguments), cwd=ROOT, env=environ, capture_output=True, text=True, timeout=300
    )
    assert "Traceback" not in done.stderr
    return done


def write_images(folder, count: int, corner: int = 215) -> list[str]:
    folder.mkdir()
    for number in range(count):
        pixels = lasting(corner)
        pixels[30:33, 20 : 21 + number % 9] = 0  # not all the same
        Image.fromarray(pixels).save(folder / f"image{number:04d}.png")
    return [f"image{number:04d}.png" for number in range(count)]


def rows_of(out) -> list[dict]:
    from pyarrow import parquet

    return parquet.read_table(out).to_pylist()


def wait(done, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return os.fspath(write_slow_artifact(tmp_path_factory.mktemp("slow") / "slow.onnx"))


@pytest.fixture(scope="module")
def s3():
    """The address of an S3 server with a bucket, its keys in the environment."""
    from moto.server import ThreadedMotoServer

    with pytest.MonkeyPatch.context() as environ:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            environ.setenv(name, "testing")
        environ.setenv("AWS_EC2_METADATA_DISABLED", "true")
        server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
        server.start()
        host, port = server.get_host_and_port()
        yield f"endpoint_override=http://{host}:{port}&region=us-east-1"
        server.stop()


@pytest.fixture(scope="module")
def cluster(request):
    """A Ray of two nodes with one core each; the head is the second."""
    if has_s3_server:
        request.getfixturevalue("s3")  # its keys are for the nodes as well
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    memory = {"num_cpus": 1, "object_store_memory": 100_000_000}
    cluster = Cluster(
        initialize_head=True, head_node_args=memory | {"include_dashboard": False}, connect=False
    )
    cluster.memory = memory
    yield cluster
    cluster.shutdown()


@needs_ray
def test_node_killed_half_way_loses_nothing_and_doubles_nothing(cluster, model, tmp_path):
    images, out = write_images(tmp_path / "images", 240), tmp_path / "masks"
    node = cluster.add_node(**cluster.memory)
    driver = subprocess.Popen(
        command(tmp_path / "images", "--out", out, "--address", cluster.address),
        cwd=ROOT,
        env=os.environ | {"MODEL": model},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait(lambda: len(list(out.glob("image*.png"))) >= 60)
    assert driver.poll() is None
    cluster.remove_node(node, allow_graceful=False)
    printed, faults = driver.communicate(timeout=300)
    assert driver.returncode == 0, faults
    # Ray itself reports the dead node as well.
    assert printed.splitlines()[-1] == "240 masks written, 0 were there before, 0 failed"
    rows = rows_of(out / "table.parquet")
    assert [row["image"] for row in rows] == images
    for row in rows:
        mask = decode_png((out / row["mask"]).read_bytes())
        pixels = decode_png((tmp_path / "images" / row["image"]).read_bytes())
        np.testing.assert_array_equal(mask, np.where(pixels < 50, 255, 0))
        assert row["tumour_pixels"] == np.count_nonzero(mask)
    assert {path.name for path in out.iterdir()} == {*images, "table.parquet", "table-parts"}
    assert not list((out / "table-parts").iterdir())


@needs_ray
def test_driver_killed_half_way_goes_on_without_doubling(cluster, model, tmp_path):
    images, out = write_images(tmp_path / "images", 80), tmp_path / "masks"
    arguments = (tmp_path / "images", "--out", out, "--address", cluster.address)
    driver = subprocess.Popen(
        command(*arguments), cwd=ROOT, env=os.environ | {"MODEL": model}, stderr=subprocess.DEVNULL
    )
    wait(lambda: len(list(out.glob("image*.png"))) >= 20)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    (tmp_path / "images" / "broken.png").write_bytes(b"no PNG")
    done = run(*arguments, MODEL=model)
    assert done.returncode == 1
    assert "broken.png: expected a PNG" in done.stderr
    rows = rows_of(out / "table.parquet")
    assert [row["image"] for row in rows] == ["broken.png", *images]
    assert [row["image"] for row in rows if row["fault"]] == ["broken.png"]
    # Only what failed or changed is done again, and everything for another model.
    write_images(tmp_path / "other", 1, corner=255)
    os.replace(tmp_path / "other" / images[0], tmp_path / "images" / images[0])
    (tmp_path / "images" / "broken.png").unlink()
    again = run(*arguments, MODEL=model)
    assert again.stdout == "1 masks written, 79 were there before, 0 failed\n"
    baseline = run(*arguments, MODEL="baseline")
    assert baseline.stdout == "80 masks written, 0 were there before, 0 failed\n"


@needs_ray
@needs_s3_server
def test_bucket_to_bucket(cluster, s3, model, tmp_path):
    from pyarrow import fs

    write_images(tmp_path / "images", 12, corner=255)
    storage, _ = fs.FileSystem.from_uri(f"s3://scans/?{s3}&allow_bucket_creation=true")
    storage.create_dir("scans")
    fs.copy_files(os.fspath(tmp_path / "images"), "scans/images", destination_filesystem=storage)
    with storage.open_output_stream("scans/images/notes.txt") as file:
        file.write(b"no image")
    arguments = [f"s3://scans/images?{s3}", "--out", f"s3://scans/masks?{s3}"]
    arguments += ["--address", cluster.address]
    done = run(*arguments, MODEL=model)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "12 masks written, 0 were there before, 0 failed\n"
    assert "ignored files that are not named *.png: 1 (notes.txt)" in done.stderr
    found = storage.get_file_info(fs.FileSelector("scans/masks"))
    assert len([info for info in found if info.extension == "png"]) == 12
    with storage.open_input_file("scans/masks/table.parquet") as file:
        assert len(rows_of(file)) == 12
    assert (
        run(*arguments, MODEL=model).stdout == "0 masks written, 12 were there before, 0 failed\n"
    )


@needs_ray
@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["nowhere", "--out", "masks"], "holds no PNG file"),
        (["images", "--out", "images"], "--out is the folder of the images"),
        (["ftp://host/images", "--out", "masks"], "only folders and s3"),
        (["images", "--out", "masks", "--address", "127.0.0.1:9"], "no Ray cluster at"),
        (["images", "--out", "masks", "--address", "ray://head:10001"], "with --address auto"),
        (["images", "--out", "masks", "--operating-point", "none"], "--operating-point none"),
        (["twice", "--out", "masks"], "would both become"),
    ],
)
def test_wrong_usage_is_one_line(tmp_path, arguments, fault):
    write_images(tmp_path / "images", 1)
    write_images(tmp_path / "twice", 1)
    os.link(tmp_path / "twice" / "image0000.png", tmp_path / "twice" / "image0000.PNG")
    places = [
        str(tmp_path / text) if text in ("nowhere", "images", "masks", "twice") else text
        for text in arguments
    ]
    done = run(*places, MODEL="baseline")
    assert done.returncode == 2
    assert fault in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_missing_ray_is_one_line_with_the_command(tmp_path):
    # A folder of its own that hides the package, whether it is installed or not.
    (tmp_path / "ray.py").write_text("raise ModuleNotFoundError('no', name='ray')\n")
    (tmp_path / "pyarrow.py").write_text("")
    done = run("images", "--out", "masks", PYTHONPATH=os.fspath(tmp_path))
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ray is not installed; ")
    assert line.endswith(needs.how_to_install("cluster"))


@needs_ray
def test_ray_reports_nothing_to_its_makers():
    code = (
        f"import {MODULE}; from ray._common.usage import usage_lib; "
        "print(usage_lib.usage_stats_enabled())"
    )
    environ = os.environ | {"RAY_USAGE_STATS_ENABLED": "1"}
    run = [sys.executable, "-c", code]
    done = subprocess.run(run, cwd=ROOT, env=environ, capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr


def test_serving_does_not_load_ray():
    code = "import sys, serve.app; print([n for n in ('ray', 'pyarrow') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "[]\n"


def test_a_worker_writes_the_probability_where_it_is_asked_for(tmp_path):
    pytest.importorskip("pyarrow", reason=INSTALL)
    pytest.importorskip("ray", reason=INSTALL)
    from deploy.ray import table
    from deploy.ray.storage import Place
    from deploy.ray.worker import Plan, Worker
    from tumour_segmenter.cli.tasks import Provenance

    images, out = write_images(tmp_path / "images", 2), tmp_path / "masks"
    out.mkdir()
    made_by, versions = Provenance("m", "1", ""), {}
    for image in images:
        status = (tmp_path / "images" / image).stat()
        versions[image] = table.Version(status.st_size, status.st_mtime_ns)
    rows = [
        {"image": image, "image_size": of.size, "image_mtime_ns": of.mtime_ns}
        for image, of in versions.items()
    ]
    for probability in (False, True):
        plan = Plan(str(tmp_path / "images"), str(out), None, 10**6, None, probability, made_by)
        worker = Worker(plan)
        worker._segment = open_model(write_artifact(tmp_path / "tiny.onnx"))
        found = worker(table.of(rows))
        assert found["fault"].to_pylist() == ["", ""]
        parts = table.Parts(Place.of(str(out)))
        parts.add(found)
        parts.flush()
        done = [table.done(Place.of(str(out)), versions, made_by, asked) for asked in (False, True)]
        assert done == [set(images), set(images) if probability else set()]
        assert (out / "image0001_probability.png").exists() == probability
    assert found["highest_probability"].to_pylist() == [1.0, 1.0]
    pixels = decode_png((tmp_path / "images" / images[0]).read_bytes())
    drawn = decode_png((out / "image0000_probability.png").read_bytes())
    np.testing.assert_array_equal(drawn, 255 - pixels)


def test_probabilities_of_earlier_masks_are_deleted_and_nobody_else_s_files(tmp_path):
    pytest.importorskip("pyarrow", reason=INSTALL)
    from deploy.ray.storage import Place
    from deploy.ray.worker import remove_probabilities

    ours = add_record(encode_grey_png(lasting()), "{}")
    for name, content in {"a": ours, "b": ours, "c": encode_grey_png(lasting())}.items():
        (tmp_path / f"{name}_probability.png").write_bytes(content)
    remove_probabilities(Place.of(str(tmp_path)), ["a.png", "c.png", "d.png"])
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"b_probability.png", "c_probability.png"}

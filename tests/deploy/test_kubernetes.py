"""deploy/kubernetes: valid for the API, locked in, and what it relies on done by real processes."""

from __future__ import annotations

import contextlib
import csv
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.host.limits import Limits
from benchmarks.host.server import Server
from serve.settings import VARIABLES, Settings
from tests.conftest import PROJECT
from tests.support.serving import post
from tests.support.slow_model import lasting, write_slow_artifact

yaml = pytest.importorskip("yaml", reason="PyYAML is not installed (requirements-test.txt)")
from tests.support import kustomize  # noqa: E402

FOLDER = PROJECT / "deploy" / "kubernetes"
SERVING, BUILT = ["small", "public"], ["small", "public", "bulk"]
API_VERSIONS = ["1.31", "1.34", "1.37"]
OTHERS = {"ServiceMonitor"}  # of the Prometheus operator, not of Kubernetes


def with_metrics(tmp_path: Path) -> Path:
    """The overlay public with the component metrics, as its comment says."""
    shutil.copytree(FOLDER, tmp_path / "kubernetes")
    file = tmp_path / "kubernetes" / "public" / "kustomization.yaml"
    line = re.search(r"components: .*", (FOLDER / "metrics/kustomization.yaml").read_text())[0]
    file.write_text(f"{file.read_text()}{line}\n")
    return file.parent


@pytest.fixture(params=[*BUILT, "public and metrics"])
def manifests(request, tmp_path) -> list[dict]:
    if request.param in BUILT:
        return kustomize.build(FOLDER / request.param)
    return kustomize.build(with_metrics(tmp_path))


def one(manifests: list[dict], kind: str, name: str | None = None) -> dict:
    found = [m for m in manifests if m["kind"] == kind and name in (None, m["metadata"]["name"])]
    assert len(found) == 1
    return found[0]


def pod_of(manifests: list[dict]) -> dict:
    return next(m for m in manifests if m["kind"] in ("Deployment", "Job"))["spec"]["template"]


def container_of(manifests: list[dict]) -> dict:
    (container,) = pod_of(manifests)["spec"]["containers"]
    return container


# The manifests


@pytest.mark.parametrize("version", API_VERSIONS)
def test_manifests_are_valid(manifests, version):
    validator = pytest.importorskip(
        "kubernetes_validate", reason="pip install kubernetes-validate (requirements-test.txt)"
    )
    assert len(manifests) >= 3
    for manifest in manifests:
        if manifest["kind"] not in OTHERS:
            assert validator.validate(manifest, version, strict=True) == version


@pytest.mark.parametrize("name", BUILT)
def test_built_as_the_real_kustomize_does(name, tmp_path):
    if program := shutil.which("kustomize"):
        command = [program, "build"]
    elif program := shutil.which("kubectl"):
        command = [program, "kustomize"]
    else:
        pytest.skip("neither kustomize nor kubectl is installed")
    for folder in [FOLDER / name, *([with_metrics(tmp_path)] if name == "public" else [])]:
        done = subprocess.run([*command, folder], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

        def by_name(manifests):
            return sorted(manifests, key=kustomize.identity)

        assert by_name(yaml.safe_load_all(done.stdout)) == by_name(kustomize.build(folder))


def test_pods_keep_the_strictest_rules(manifests):
    namespace = one(manifests, "Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    pod, container = pod_of(manifests)["spec"], container_of(manifests)
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] >= 10_000
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["resources"]["requests"].keys() == {"cpu", "memory"}
    assert "memory" in container["resources"]["limits"]
    (user,) = re.findall(r"^USER (\d+):", (PROJECT / "Dockerfile").read_text(), re.M)
    assert pod["securityContext"]["runAsUser"] == int(user)


def test_nothing_goes_out(manifests):
    selected = pod_of(manifests)["metadata"]["labels"]
    policies = [m["spec"] for m in manifests if m["kind"] == "NetworkPolicy"]
    mine = [policy for policy in policies if policy["podSelector"]["matchLabels"] == selected]
    assert len(mine) == len(policies)
    assert any("Egress" in policy["policyTypes"] for policy in policies)
    assert not any("egress" in policy for policy in policies)


def test_selectors_meet_the_pods(manifests):
    labels = pod_of(manifests)["metadata"]["labels"].items()
    for manifest in manifests:
        selector = manifest["spec"].get("selector") if "spec" in manifest else None
        if selector:
            assert selector.get("matchLabels", selector).items() <= labels


@pytest.mark.parametrize("name", SERVING)
def test_settings_are_those_of_the_server(name):
    data = one(kustomize.build(FOLDER / name), "ConfigMap")["data"]
    known = {variable.name for variable in VARIABLES} | {"FORWARDED_ALLOW_IPS"}
    assert set(data) <= known
    Settings.read(data | {"MODEL": "baseline"})  # none is out of its range


@pytest.mark.parametrize("name", SERVING)
def test_pod_ends_after_what_is_in_flight(name):
    manifests = kustomize.build(FOLDER / name)
    data = one(manifests, "ConfigMap")["data"]
    needed = int(data["DRAIN"]) + int(data["DEADLINE"]) + 1
    assert pod_of(manifests)["spec"]["terminationGracePeriodSeconds"] > needed
    probe = container_of(manifests)["readinessProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] < int(data["DRAIN"])


@pytest.mark.parametrize("name", SERVING)
def test_probes_ask_paths_that_exist(name):
    description = (PROJECT / "serve" / "openapi.json").read_text()
    container = container_of(kustomize.build(FOLDER / name))
    (port,) = container["ports"]
    assert str(port["containerPort"]) == next(v.default for v in VARIABLES if v.name == "PORT")
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        asked = container[probe]["httpGet"]
        assert f'"{asked["path"]}"' in description
        assert asked["port"] == port["name"]


def test_roll_out_and_emptied_nodes_leave_a_pod():
    manifests = kustomize.build(FOLDER / "public")
    deployment = one(manifests, "Deployment")["spec"]
    assert "replicas" not in deployment  # or each apply would undo the autoscaler
    assert deployment["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    budget = one(manifests, "PodDisruptionBudget")["spec"]
    assert (
        budget["maxUnavailable"] < one(manifests, "HorizontalPodAutoscaler")["spec"]["minReplicas"]
    )
    assert len(deployment["template"]["spec"]["topologySpreadConstraints"]) == 2


def test_ingress_waits_longer_and_takes_more_than_the_server():
    manifests = kustomize.build(FOLDER / "public")
    ingress, data = one(manifests, "Ingress"), one(manifests, "ConfigMap")["data"]
    settings = Settings.read(data | {"MODEL": "baseline"})
    annotations = ingress["metadata"]["annotations"]
    for kind, size, wait in [
        ("nginx.ingress.kubernetes.io", "proxy-body-size", "proxy-read-timeout"),
        ("nginx.org", "client-max-body-size", "proxy-read-timeout"),
    ]:
        assert int(annotations[f"{kind}/{size}"].removesuffix("m")) * 2**20 > settings.max_body
        assert int(annotations[f"{kind}/{wait}"].removesuffix("s")) > settings.deadline + 1
    (rule,), (tls,) = ingress["spec"]["rules"], ingress["spec"]["tls"]
    assert tls["hosts"] == [rule["host"]]


def test_ingress_sends_no_image_to_two_pods():
    annotations = one(kustomize.build(FOLDER / "public"), "Ingress")["metadata"]["annotations"]
    asks_again = {v for name, v in annotations.items() if name.endswith("/proxy-next-upstream")}
    assert asks_again == {"error"}


def test_public_pods_do_not_start_without_a_key():
    (env,) = container_of(kustomize.build(FOLDER / "public"))["env"]
    assert env["name"] == "API_KEY"
    assert not env["valueFrom"]["secretKeyRef"].get("optional")


def test_one_image_one_name():
    texts = [path.read_text() for path in FOLDER.rglob("*.yaml")]
    images = {image for text in texts for image in re.findall(r"^ *image: (.*)$", text, re.M)}
    assert len(images) == 1
    assert re.fullmatch(r"tumour-segmenter:\d+\.\d+\.\d+", images.pop())


# What they rely on


@pytest.fixture(scope="module")
def slow_model(tmp_path_factory):
    return write_slow_artifact(tmp_path_factory.mktemp("slow") / "model.onnx")


@contextlib.contextmanager
def memory_group(limit: int):
    """A control group of the kernel with `limit` bytes of memory, as a pod has one."""
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    places = {c: path.lstrip("/") for _, c, path in (line.split(":", 2) for line in lines)}
    first, file = Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"
    group = first / places.get("memory", "") / f"pod-{os.getpid()}"
    if not first.is_dir():
        group, file = Path("/sys/fs/cgroup") / places.get("", "") / group.name, "memory.max"
    try:
        group.mkdir()
        (group / file).write_text(str(limit))
    except OSError as error:
        with contextlib.suppress(OSError):
            group.rmdir()
        pytest.skip(f"no control group of memory can be made here: {error.strerror}")
    try:
        yield group
    finally:
        group.rmdir()


def bytes_of(quantity: str) -> int:
    number, unit = re.fullmatch(r"(\d+)(Mi|Gi)", quantity).groups()
    return int(number) * 2 ** {"Mi": 20, "Gi": 30}[unit]


@pytest.mark.slow
def test_pod_at_its_memory_limit_survives_the_largest_image():
    manifests = kustomize.build(FOLDER / "public")
    limit = bytes_of(container_of(manifests)["resources"]["limits"]["memory"])
    data = one(manifests, "ConfigMap")["data"] | {"DEADLINE": "120"}  # this machine may be busy
    side = int(Settings.read({"MODEL": "baseline"}).max_pixels ** 0.5)
    rng = np.random.default_rng(0)
    largest = rng.integers(0, 255, (side, side), np.uint8)
    with memory_group(limit) as group:
        limits = Limits(frozenset(os.sched_getaffinity(0)), group, "")
        with Server(limits, **data) as server:
            before = server.workers()
            for _ in range(2):
                assert post(server.url, largest, timeout=180).status == 200
            assert server.workers() == before


def test_limit_is_really_held(tmp_path):
    """Without this, the test above could pass in a group that limits nothing."""
    with memory_group(100 * 2**20) as group:
        limits = Limits(frozenset(os.sched_getaffinity(0)), group, "")
        command = [sys.executable, "-c", "print(len(bytes(range(256)) * 2**21))"]
        done = subprocess.run(limits.wrap(command), capture_output=True)
    assert done.returncode in (-signal.SIGKILL, 128 + signal.SIGKILL)


def job_command(index: int, places: dict[str, str]) -> list[str]:
    """The Job's own command as Kubernetes would start it for pod number `index`."""
    container = container_of(kustomize.build(FOLDER / "bulk"))
    words = [sys.executable, *container["command"][1:], *container["args"]]
    for there, here in (places | {"$(JOB_COMPLETION_INDEX)": str(index)}).items():
        words = [word.replace(there, here) for word in words]
    return words


def test_shards_of_the_job_are_as_many_as_its_pods():
    job = one(kustomize.build(FOLDER / "bulk"), "Job")["spec"]
    assert (
        f"--shard=auto/{job['completions']}" in container_of([{"kind": "Job", "spec": job}])["args"]
    )
    assert job["completionMode"] == "Indexed"


@pytest.mark.slow
def test_shards_at_once_do_all_images_once(slow_model, tmp_path):
    images, masks = tmp_path / "images", tmp_path / "masks"
    images.mkdir()
    masks.mkdir()
    for number in range(24):
        Image.fromarray(lasting(250)).save(images / f"image{number}.png")
    places = {"/images": str(images), "/masks": str(masks), "auto/16": "auto/2"}
    environ = os.environ | {"MODEL": str(slow_model)}
    # Number 1 twice: a pod that was thought dead and is not does no harm.
    pods = [
        subprocess.Popen(
            job_command(index, places),
            cwd=PROJECT,
            env=environ | {"JOB_COMPLETION_INDEX": str(index)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in (0, 1, 1)
    ]
    for pod in pods:
        faults = pod.communicate(timeout=120)[1]
        assert pod.returncode == 0, faults
    assert len(list(masks.glob("image*.png"))) == 24
    tables = sorted(masks.glob("shard-*.csv"))
    assert [table.name for table in tables] == ["shard-0.csv", "shard-1.csv"]
    merge = [sys.executable, "-m", "tumour_segmenter", "merge", *tables]
    merge += ["--expect", images, "--out", tmp_path / "all.csv"]
    done = subprocess.run(merge, cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with (tmp_path / "all.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert sorted(Path(row["image"]).name for row in rows) == sorted(os.listdir(images))
    assert not [path for path in masks.iterdir() if path.name.startswith(".")]

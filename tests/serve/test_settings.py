"""Environment variables: what is understood, and what is refused in one line."""

import pytest

from serve.settings import VARIABLES, Settings
from tumour_segmenter.cpus import available_cpus
from tumour_segmenter.errors import SettingsError


def test_defaults_just_work():
    settings = Settings.read({})
    assert settings.model == "shipped"
    assert (settings.host, settings.port) == ("0.0.0.0", 8000)
    assert settings.workers == available_cpus()
    assert settings.threads == 1
    assert settings.max_pixels == 4_000_000
    assert settings.max_body == 17_114_112
    assert (settings.api_key, settings.metrics) == ("", False)


def test_empty_is_the_same_as_not_set():
    assert Settings.read({v.name: " " for v in VARIABLES}) == Settings.read({})


def test_values_are_taken():
    settings = Settings.read(
        {
            "MODEL": "other/model.onnx",
            "HOST": "127.0.0.1",
            "PORT": "9000",
            "WORKERS": "3",
            "THREADS": "5",
            "MAX_PIXELS": "1000",
            "QUEUE": "7",
            "DEADLINE": "5",
            "API_KEY": "secret",
            "METRICS": "on",
        }
    )
    assert str(settings.model) == "other/model.onnx"
    assert settings.host == "127.0.0.1"
    numbers = (settings.port, settings.workers, settings.threads, settings.max_pixels)
    assert numbers == (9000, 3, 5, 1000)
    assert (settings.queue, settings.deadline) == (7, 5)
    assert (settings.api_key, settings.metrics) == ("secret", True)


def test_cpus_are_shared_out_among_the_workers(monkeypatch):
    monkeypatch.setattr("serve.settings.available_cpus", lambda: 8)
    assert Settings.read({}).workers == 8
    assert Settings.read({"WORKERS": "2"}).threads == 4
    assert Settings.read({"WORKERS": "3"}).threads == 2
    assert Settings.read({"WORKERS": "100"}).threads == 1


@pytest.mark.parametrize(
    "variable", [v for v in VARIABLES if v.lowest is not None], ids=lambda variable: variable.name
)
@pytest.mark.parametrize("value", ["abc", "1.5", "-1", "lowest - 1", "1e3", "9" * 30, "²", "1_0"])
def test_bad_number_is_named_with_its_range(variable, value):
    if value == "lowest - 1":
        value = str(variable.lowest - 1)
    with pytest.raises(SettingsError) as caught:
        Settings.read({variable.name: value})
    message = str(caught.value)
    range_ = f"from {variable.lowest} to {variable.highest}"
    assert message == f"{variable.name}={value!r} is not a whole number {range_}"
    assert "\n" not in message


@pytest.mark.parametrize(
    ("host", "means"),
    [
        ("::1", "::1"),
        ("[::1]", "::1"),
        ("::", "::"),
        ("2001:DB8::7", "2001:db8::7"),
        ("10.0.0.7", "10.0.0.7"),
        ("localhost", "localhost"),
        ("segmenter-1.example.org", "segmenter-1.example.org"),
    ],
)
def test_host_is_an_address_or_a_name(host, means):
    assert Settings.read({"HOST": host}).host == means


@pytest.mark.parametrize(
    "host",
    [
        "http://0.0.0.0",
        "0.0.0.0:8000",
        "[::1]:80",
        "[::1",
        "1:2",
        "127.0.0.300",
        "8000",
        "unix:/run/x",
        "*",
        "-",
        "a..b",
        "::1%",
        "é",
    ],
)
def test_host_that_is_none_is_told_in_one_line(host):
    with pytest.raises(SettingsError, match="is no address such as") as caught:
        Settings.read({"HOST": host})
    assert repr(host) in str(caught.value)


@pytest.mark.parametrize("sign", ["\n", "\r", "\0", "\x7f"])
def test_key_that_no_header_carries_is_refused(sign):
    with pytest.raises(SettingsError, match="API_KEY"):
        Settings.read({"API_KEY": f"a{sign}b"})


def test_each_variable_is_explained():
    for variable in VARIABLES:
        assert len(variable.help) > 10
        assert "\n" not in variable.help


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 6),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, 6),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "200000 100000\n"}, 2),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "150000 100000\n"}, 1),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "20000 100000\n"}, 1),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "9900000 100000\n"}, 6),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/cpu.max": "300000 100000\n"}, 3),
        ({"proc/self/cgroup": "0::/host/only\n", "sys/fs/cgroup/cpu.max": "400000 100000\n"}, 4),
        (
            {
                "proc/self/cgroup": "4:cpu,cpuacct:/x\n0::/\n",
                "sys/fs/cgroup/cpu/x/cpu.cfs_quota_us": "250000\n",
                "sys/fs/cgroup/cpu/x/cpu.cfs_period_us": "100000\n",
            },
            2,
        ),
        (
            {
                "proc/self/cgroup": "4:cpu:/\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            6,
        ),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "nonsense"}, 6),
    ],
)
def test_cpus_are_those_of_affinity_and_quota(tmp_path, monkeypatch, files, expected):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(6)), raising=False)
    for name, content in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    assert available_cpus(tmp_path) == expected

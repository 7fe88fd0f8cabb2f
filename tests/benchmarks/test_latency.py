"""The latency suite: its verdicts on servers in this process, its handling of a real one."""

from __future__ import annotations

import functools
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchmarks import latency
from benchmarks.asking import load
from benchmarks.asking.load import Answer, Window
from benchmarks.asking.question import Question, learn
from benchmarks.host import hostinfo, limits
from benchmarks.host.server import Server
from benchmarks.running import program
from benchmarks.running.program import WrongAnswer
from benchmarks.timing import check, measure, report, windows
from benchmarks.timing.windows import row, settle, settled
from tests.support.fake_server import fake_server, perfect
from tumour_segmenter.errors import UsageError
from tumour_segmenter.phantom import phantom

pytestmark = pytest.mark.slow  # it asks servers, if only small ones

ROOT = Path(__file__).resolve().parents[2]
RELAXED = ("--budget", 30, "--budget-at-once", 30)  # where the time is not what is tested
TINY = measure.Plan((1, 2), 0.02, 3, 1, (0.5,), 0.05, 0.05, 6, 60.0, 300.0)


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small images and short windows: here it is the verdicts that are tested, not the numbers."""
    monkeypatch.setattr(measure, "HEIGHTS", (10, 20))
    monkeypatch.setattr(measure, "LARGEST", f"{measure.WIDTH}×20")
    monkeypatch.setattr(measure, "OVER_SIZE", (30, measure.WIDTH))
    monkeypatch.setattr(measure, "phantom", DRAWN)
    monkeypatch.setattr(latency, "QUICK", TINY)
    monkeypatch.setattr(report, "draw", lambda result, path: path.touch())


DRAWN = functools.cache(phantom)
DRAW = report.draw


@pytest.fixture
def idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which nothing else runs and every load settles, whatever runs beside a test."""
    monkeypatch.setattr(hostinfo, "busy_share", lambda seconds: 0.0)
    monkeypatch.setattr(windows, "SAME", 1000.0)


@pytest.fixture
def busy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hostinfo, "busy_share", lambda seconds: 0.5)


def run(out: Path, *more: object) -> int:
    return latency.main(["--quick", "--out", str(out), *map(str, more)])


def printed(capsys) -> str:
    """Why a check failed, for whoever reads the failure of a test."""
    return "\n".join(line for line in capsys.readouterr().out.splitlines() if "FAILED" in line)


def result_of(out: Path) -> dict:
    (path,) = out.glob("*.json")
    return json.loads(path.read_text())


def test_a_fast_and_right_server_passes(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(report, "draw", DRAW)
    with fake_server(perfect, headers={"Server-Timing": "decode;dur=0.2, run;dur=0.1"}) as url:
        assert run(tmp_path / "new", "--url", url, *RELAXED) == 0
    printed = capsys.readouterr().out
    assert "check passed" in printed
    result = result_of(tmp_path / "new")
    loads = [(r["size"], r["clients"]) for r in result["closed"]]
    assert loads == [("1×1", 1)] + [(f"400×{h}", n) for n in (1, 2) for h in (10, 20)]
    for measured in check.rows(result):
        assert 0 < measured["p50_ms"] <= measured["p99_ms"] <= measured["max_ms"]
        assert measured["stages_ms"]["decode"] == 0.2
        assert measured["faults"] == 0
    assert result["host"]["python"]
    assert result["cold_start"] is None  # another's server is not restarted
    assert {path.suffix for path in (tmp_path / "new").iterdir()} == {".json", ".md", ".png"}
    assert "| 400×20 | 2 clients |" in printed


def slow_once(number: int, seconds: float = 0.3) -> Callable[[np.ndarray], bytes]:
    """Right answers, of which one takes `seconds`: the check of answers asks ten times before."""
    asked = 0

    def answer(image: np.ndarray) -> bytes:
        nonlocal asked
        asked += 1
        time.sleep(seconds if asked == number else 0)
        return perfect(image)

    return answer


@pytest.mark.usefixtures("idle")
def test_one_slow_image_fails_the_check(tmp_path: Path, capsys) -> None:
    with fake_server(slow_once(15)) as url:
        assert run(tmp_path, "--url", url, "--budget", 0.25) == 1
    printed = capsys.readouterr().out
    assert "the limit is 250" in printed
    assert printed.endswith("check failed\n")


@pytest.mark.usefixtures("busy")
def test_a_slow_image_on_a_busy_machine_is_inconclusive(tmp_path: Path, capsys) -> None:
    with fake_server(slow_once(15)) as url:
        assert run(tmp_path, "--url", url, "--budget", 0.25) == 3
    printed = capsys.readouterr().out
    assert "unsure  " in printed
    assert "other programs used 50% of its CPUs" in printed
    assert "inconclusive, run again when idle: other" in printed.splitlines()[-1]


@pytest.mark.usefixtures("busy")
def test_a_busy_machine_that_is_fast_enough_passes(tmp_path: Path, capsys) -> None:
    with fake_server(perfect) as url:
        assert run(tmp_path, "--url", url, *RELAXED) == 0
    assert "check passed" in capsys.readouterr().out


def measured(size: str, clients: int, max_ms: float, p50_ms: float = 50, **more: object) -> dict:
    row = {"size": size, "clients": clients, "max_ms": max_ms, "p50_ms": p50_ms}
    return row | {"faults": 0, "settled": True} | more


def result_with(*closed: dict, busy: float = 0.0, over_size_ms: float = 5) -> dict:
    return {
        "budget_s": 1.0,
        "budget_at_once_s": 5.0,
        "busy_share": busy,
        "noisy": [row["size"] for row in closed if not row["settled"]],
        "closed": list(closed),
        "open": [],
        "memory": None,
        "cold_start": None,
        "over_size": {"ms": over_size_ms},
    }


@pytest.mark.parametrize(
    ("result", "failed", "unsure"),
    [
        (result_with(measured("a", 1, 999), measured("a", 16, 4999)), 0, 0),
        (result_with(measured("a", 1, 1001), measured("a", 16, 4999)), 1, 0),
        (result_with(measured("a", 1, 999), measured("a", 16, 5001)), 1, 0),
        (result_with(measured("a", 1, 999), measured("a", 4, 5001)), 1, 0),
        (result_with(measured("a", 1, 1001), busy=0.5), 0, 1),
        (result_with(measured("a", 1, 1001), measured("b", 4, 60, settled=False)), 0, 1),
        # A median that settled over the limit is no noise of an idle machine, but may be of a busy.
        (result_with(measured("a", 1, 1300, 1100), measured("b", 4, 60, settled=False)), 1, 0),
        (result_with(measured("a", 1, 1300, 1100), busy=0.5), 0, 1),
        (result_with(measured("a", 1, 999), over_size_ms=1001), 1, 0),
        (result_with(measured("a", 1, 999), over_size_ms=1001, busy=0.5), 0, 1),
        # No noise makes an answer wrong.
        (result_with(measured("a", 1, 9, faults=1, fault="malformed"), busy=0.5), 1, 0),
    ],
)
def test_verdicts(result: dict, failed: int, unsure: int) -> None:
    verdict = check.verdict(result)
    assert (len(verdict.failed), len(verdict.unsure)) == (failed, unsure)


def test_a_busy_machine_is_noticed() -> None:
    """Each CPU that we may use is kept busy; the kernel's own count is what says so."""
    stop = time.perf_counter() + 60
    spin = [sys.executable, "-c", "while True: pass"]
    spinning = [subprocess.Popen(spin) for _ in os.sched_getaffinity(0)]
    try:
        while (share := hostinfo.busy_share(0.3)) < check.BUSY and time.perf_counter() < stop:
            pass
    finally:
        for process in spinning:
            process.kill()
            process.wait()
    assert check.BUSY < share <= 1


def test_a_server_with_an_api_key_is_measured_too(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.delenv("API_KEY", raising=False)

    with fake_server(perfect, key="s3cret") as url:
        assert run(tmp_path, "--url", url) == 2
        assert "wants an API key" in capsys.readouterr().err
        monkeypatch.setenv("API_KEY", "s3cret")
        assert run(tmp_path / "b", "--url", url, *RELAXED) == 0, printed(capsys)


def test_files_go_where_git_does_not_look_unless_asked() -> None:
    ignored = subprocess.run(
        ["git", "check-ignore", "-q", program.UNTRACKED / "x.json"], cwd=ROOT
    ).returncode
    if ignored == 128:
        pytest.skip("this is no git repository")
    assert ignored == 0
    assert program.results_folder(latency.parse([])) == program.UNTRACKED
    assert program.results_folder(latency.parse(["--save"])) == ROOT / "benchmarks" / "results"


def test_wrong_answers_are_not_timed(tmp_path: Path, capsys) -> None:
    with fake_server(lambda image: b'{"img": "AAAA"}') as url:
        assert run(tmp_path, "--url", url) == 1
    assert "not measured, as an answer is wrong: 1×1: expected a PNG" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_an_answer_that_changes_under_load_fails_the_check(tmp_path: Path, capsys) -> None:
    asked = 0

    def forgets(image: np.ndarray) -> bytes:
        nonlocal asked
        asked += 1
        return perfect(image if asked < 15 else 255 - image)

    with fake_server(forgets) as url:
        assert run(tmp_path, "--url", url, *RELAXED) == 1
    assert "wrong: differs from the first answer in" in capsys.readouterr().out


def test_a_model_that_is_here_is_called_directly_too(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.full((4, 6), 40, np.uint8)
    with fake_server(perfect) as url:
        assert learn(url, pixels, lambda p: np.full_like(p, 255)).mask.all()
        with pytest.raises(
            WrongAnswer, match="6×4: differs from the model called directly in 24 pixels"
        ):
            learn(url, pixels, np.zeros_like)


def test_wrong_usage_is_one_line_and_exit_2(tmp_path: Path, capsys) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    nobody = f"http://127.0.0.1:{listener.getsockname()[1]}"
    listener.close()
    other = tmp_path / "other.json"
    other.write_text('{"closed": []}')
    for complaint, arguments in {
        "no server answers at": ("--url", nobody),
        "no result of": ("--url", nobody, "--compare", other),
        "cannot read": ("--url", nobody, "--compare", tmp_path / "none.json"),
        "--cpus 1000": ("--cpus", 1000),
        "give the base URL, here http://127.0.0.1:1;": ("--url", "http://127.0.0.1:1/predict"),
    }.items():
        assert run(tmp_path / "out", *arguments) == 2
        printed = capsys.readouterr().err
        assert printed.count("\n") == 1, printed
        assert complaint in printed
    for arguments in (
        ["--url", nobody, "--cpus", "1"],
        ["--budget", "0"],
        ["--budget-at-once", "nan"],
    ):
        with pytest.raises(SystemExit) as exit:
            latency.main(arguments)
        assert exit.value.code == 2


def earlier_and_now(p50: float, noise: float = 0.02) -> tuple[dict, dict]:
    def result(p50: float, noise: float) -> dict:
        return {"closed": [{"size": "400×991", "clients": 1, "p50_ms": p50, "noise": noise}]}

    return result(100.0, 0.02), result(p50, noise)


def test_compare_finds_a_regression_and_ignores_noise() -> None:
    earlier, now = earlier_and_now(125.0)
    (line,) = check.slower(now, earlier)
    assert line == "400×991, 1 client: p50 was 100.0 ms, is 125.0 ms (+25%, noise 10%)"
    for same in (earlier_and_now(105.0), earlier_and_now(125.0, noise=0.3), earlier_and_now(60.0)):
        assert check.slower(same[1], same[0]) == []
    earlier, now = earlier_and_now(125.0)
    for result in (earlier, now):
        result["closed"][0]["p50_ms"] /= 200  # 0.5 ms: nothing but clock and loopback
    assert check.slower(now, earlier) == []


@pytest.mark.usefixtures("idle")
def test_compare_fails_the_check_from_the_command_line(tmp_path: Path, capsys) -> None:
    with fake_server(perfect) as url:
        assert run(tmp_path / "now", "--url", url, *RELAXED) == 0, printed(capsys)
        earlier = result_of(tmp_path / "now")
        for measured in earlier["closed"]:
            measured["p50_ms"] /= 1000  # as if it had been a thousand times faster
        (tmp_path / "earlier.json").write_text(json.dumps(earlier))
        slow = lambda image: (time.sleep(0.01), perfect(image))[1]  # noqa: E731
    with fake_server(slow) as url:
        options = ("--url", url, *RELAXED, "--compare", tmp_path / "earlier.json")
        assert run(tmp_path / "later", *options) == 1
    assert "400×20, 1 client: p50 was" in capsys.readouterr().out


def window(*milliseconds: float) -> Window:
    return Window([Answer(0.0, ms / 1000, "mask") for ms in milliseconds], 1.0)


def test_windows_repeat_until_they_agree() -> None:
    def measured(*medians: float) -> Callable[[], Window]:
        upcoming = iter([window(ms) for ms in medians])
        return lambda: next(upcoming)

    found = settle(measured(90, 50, 51, 70), most=4, spare_s=60)
    assert len(found) == 3
    assert settled(found)
    kept = row(found, size="x", clients=1)
    assert (kept["p50_ms"], kept["images"], kept["settled"]) == (50, 2, True)
    assert kept["max_ms"] == 90, "the budget is for every image, also for those before it settled"

    found = settle(measured(50, 90, 50, 90, 50), most=4, spare_s=60)
    assert len(found) == 4
    assert row(found)["settled"] is False
    assert len(settle(measured(50, 90, 50), most=4, spare_s=0)) == 2


def test_percentiles_of_a_row_are_waits_that_happened() -> None:
    kept = row([window(*range(1, 101))])
    assert [kept[f"p{q}_ms"] for q in (50, 90, 95, 99)] == [50, 90, 95, 99]
    assert kept["max_ms"] == 100
    assert kept["images_per_s"] == 100


def test_only_the_open_loop_counts_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """10 arrivals in 0.1 s, each takes 0.03 s, one at a time: the last waits 0.2 s for its turn."""

    def slow(image: np.ndarray) -> bytes:
        time.sleep(0.03)
        return perfect(image)

    monkeypatch.setattr(load, "IN_FLIGHT", 1)
    question = Question.about(np.full((2, 2), 200, np.uint8))
    with fake_server(slow) as url:
        waited = load.open_loop(url, [question], rate=100, seconds=0.1, timeout=5)
        alone = load.closed(url, [question], clients=1, seconds=0.1, timeout=5)
    assert len(waited.answers) == 10
    assert max(answer.waited for answer in waited.answers) > 0.2
    assert min(answer.waited for answer in alone.answers) < 0.1


def test_late_and_broken_answers_are_faults() -> None:
    def hangs(image: np.ndarray) -> bytes:
        time.sleep(0.3)
        return perfect(image)

    question = Question.about(np.zeros((2, 2), np.uint8))
    with fake_server(hangs) as url:
        kept = row([load.closed(url, [question], 1, 0, timeout=0.05)])
    assert kept["faults"] == 1
    assert kept["fault"] == "no answer within 0.05 s"
    assert kept["max_ms"] >= 50
    kept = row([load.closed(url, [question], 1, 0, timeout=1)])  # nobody listens any more
    assert kept["faults"] == 1


@pytest.mark.slow
def test_our_server_is_started_measured_and_stopped(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("MODEL", "baseline")
    monkeypatch.setenv("WORKERS", "2")
    monkeypatch.setenv("MAX_PIXELS", "8000")
    monkeypatch.setenv("API_KEY", "s3cret")

    assert run(tmp_path, *RELAXED, "--cpus", 1) == 0, capsys.readouterr()
    result = result_of(tmp_path)
    assert result["answers"] == "equal to the model called directly"
    assert result["model"]["name"] == "baseline"
    assert 0 < result["cold_start"]["ready_s"][0] < 60
    assert len(result["memory"]["worker_mb"]) == 2
    assert all(mb > 1 for mb in result["memory"]["worker_mb"])
    assert result["over_size"]["status"] == 413
    assert result["limits"].startswith("1 CPU by affinity")
    assert {"decode", "run", "encode", "rest"} <= result["closed"][0]["stages_ms"].keys()


@pytest.mark.slow
def test_a_limited_server_keeps_to_its_cpu_and_leaves_nothing(monkeypatch) -> None:
    monkeypatch.setenv("MODEL", "baseline")
    monkeypatch.setattr(limits, "quota_group", lambda cpus: None)
    before = os.sched_getaffinity(0)
    with limits.limited(0.5) as limit, Server(limit) as server:
        assert "quota of 0.5 is not allowed here" in limit.description
        workers = server.workers()
        assert workers
        assert all(os.sched_getaffinity(pid) == limit.cores for pid in workers)
        assert len(limit.cores) == 1
    assert os.sched_getaffinity(0) == before
    assert not any(Path(f"/proc/{pid}").exists() for pid in workers)


def test_a_server_that_does_not_start_says_why(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("MODEL", str(tmp_path / "none.onnx"))
    assert run(tmp_path / "out") == 2
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1
    assert "the server did not start: error: " in printed
    assert "none.onnx" in printed


def test_too_many_cpus_are_refused() -> None:
    with pytest.raises(UsageError, match="--cpus 0"), limits.limited(0):
        pass


def test_host_facts_are_json_and_name_a_file() -> None:
    facts = json.loads(json.dumps(hostinfo.facts()))
    assert facts["cpus_by_affinity"] >= facts["cpus_by_affinity_and_quota"] >= 1
    name = hostinfo.hardware(
        {"cpu": "Intel(R) Xeon(R) CPU E5-2673 v4 @ 2.30GHz", "cpus_by_affinity": 2}
    )
    assert name == "intel-xeon-e5-2673-v4-2cpu"


@pytest.mark.parametrize("start", [["-m", "benchmarks.latency"], ["benchmarks/latency.py"]])
def test_it_starts_both_ways_without_torch_or_matplotlib(start: list[str]) -> None:
    command = [sys.executable, "-X", "importtime", *start, "--help"]
    started = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert started.returncode == 0
    assert "--budget" in started.stdout
    for module in ("torch", "onnx", "matplotlib"):
        assert f" {module}\n" not in started.stderr

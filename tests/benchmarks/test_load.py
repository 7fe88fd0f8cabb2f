"""What load, chaos and soak count, against a server whose answers are known."""

import json
import time
from itertools import cycle, islice

import numpy as np
import pytest

from benchmarks import chaos, soak
from benchmarks.asking import load
from benchmarks.asking.health import HealthProbe, wait_until
from benchmarks.asking.load import Answer, Load, stages_of
from benchmarks.asking.question import Question
from tests.support.fake_server import fake_server, perfect
from tumour_segmenter.client import Reply, request_body

PIXELS = np.full((20, 10), 255, np.uint8)
PIXELS[5:9, 2:4] = 0


def question() -> Question:
    return Question(request_body(PIXELS), PIXELS.shape, 255 - PIXELS)


def ask(url: str) -> Answer:
    return load.ask(url, question(), time.perf_counter(), 5)


def test_each_answer_is_counted_as_what_it_is():
    busy = json.dumps({"error": {"code": "overloaded", "message": ""}}).encode()
    for answer, status, kind in [
        (perfect, 200, "mask"),
        (lambda image: perfect(255 - image), 200, "lost"),
        (lambda image: b"{}", 200, "lost"),
        (lambda image: b"{}", 400, "lost"),
        (lambda image: busy, 503, "busy"),
    ]:
        with fake_server(answer, status) as url:
            found = ask(url)
            assert found.kind == kind
            assert bool(found.fault) == (kind != "mask")
    assert ask(url).kind == "refused"  # nobody listens there any more


def test_load_asks_until_it_is_ended():
    with fake_server(perfect) as url, Load(url, cycle([question()]), 2) as asked:
        assert wait_until(lambda: len(asked.answers) >= 10, 10) is not None
    report = asked.report()
    assert report["mask"] == len(asked.answers)
    assert report["lost"] == report["busy"] == report["refused"] == 0
    assert report["mask_ms"]["p50"] <= report["mask_ms"]["max"]


def test_load_ends_where_there_are_no_more_questions():
    with fake_server(perfect) as url, Load(url, islice(cycle([question()]), 7), 3) as asked:
        asked.wait(60)
        assert len(asked.answers) == 7


def test_load_keeps_to_its_rate():
    with fake_server(perfect) as url, Load(url, cycle([question()]), 8, rate=40) as asked:
        time.sleep(0.5)
    assert len(asked.answers) <= 21 + 8


def test_mistake_in_a_client_is_no_idle_client():
    with pytest.raises(AttributeError), Load("http://127.0.0.1:1", iter(["no question"]), 1):
        pass


def test_health_probe_counts_what_is_not_healthy():
    with fake_server(perfect) as url, HealthProbe(url) as probe:
        assert wait_until(lambda: probe.missed >= 2, 10) is not None  # that server has no health


def test_waiting_ends():
    assert wait_until(lambda: False, 0.05) is None
    assert wait_until(lambda: True, 5) == 0


def test_server_timing_is_read_leniently():
    header = 'decode;dur=1.5, run;desc="x";dur=30,odd,bad;dur=x'
    assert stages_of(Reply(200, b"", 0, {"Server-Timing": header})) == {"decode": 1.5, "run": 30.0}
    assert stages_of(Reply(200, b"", 0, {})) == {}


def test_soak_s_line_is_fitted_after_the_caches_are_full():
    memory = [(float(s), 100 + (s / 3600) + (50 if s < 300 else 0)) for s in range(0, 3600, 30)]
    grown = soak.growth(memory)
    assert grown["mb_per_hour"] == pytest.approx(1)
    assert grown["mb_per_day_extrapolated"] == pytest.approx(24)
    assert grown["mb_per_hour_standard_error"] == pytest.approx(0, abs=1e-6)


def test_soak_s_latency_is_told_for_each_stretch():
    answers = [Answer(float(s), 0.1 if s < 30 else 0.3, "mask") for s in range(60)]
    rows = soak.latency(answers, 0.0, 60.0)
    assert rows[0]["p50"] == 100
    assert rows[-1]["p99"] == 300
    assert sum(row["answers"] for row in rows) == 60


@pytest.mark.parametrize("program", [chaos, soak])
def test_wrong_usage_is_refused(program, capsys):
    with pytest.raises(SystemExit) as caught:
        program.main(["--minutes", "0"])
    assert caught.value.code == 2
    assert "--minutes" in capsys.readouterr().err

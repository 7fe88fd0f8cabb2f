"""The benchmark of scanning measures time and memory of the real command."""

import json

import pytest

pytest.importorskip("pydicom", reason="pip install -r requirements-scan.txt")

from benchmarks import scan as benchmark


@pytest.mark.slow
def test_it_measures_a_whole_body_series(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(benchmark, "SLICES", 100)
    monkeypatch.setattr(benchmark, "MOST_SECONDS", 600)  # how fast is not for a test to say
    numbers = tmp_path / "numbers.json"
    assert benchmark.main(["--runs", "1", "--json", str(numbers)]) == 0
    assert "100 slices of 400×400 on one core" in capsys.readouterr().out
    found = json.loads(numbers.read_text())
    (run,) = found["runs"]
    assert run["cpu_seconds"] > 0
    assert 0.2 < run["gb"] <= benchmark.MOST_GB
    assert found["passed"]


def test_a_limit_that_is_not_kept_is_exit_code_1(monkeypatch):
    monkeypatch.setattr(benchmark, "write_series", lambda folder: None)
    monkeypatch.setattr(benchmark, "run_once", lambda *_: {"seconds": 1, "cpu_seconds": 1, "gb": 9})
    assert benchmark.main(["--runs", "1"]) == 1


def test_no_runs_are_wrong_usage(capsys):
    with pytest.raises(SystemExit) as caught:
        benchmark.main(["--runs", "0"])
    assert caught.value.code == 2
    assert "--runs" in capsys.readouterr().err

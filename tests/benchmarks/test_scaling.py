"""The benchmark of bulk work: that it measures what its table says, on few small tasks."""

import json

import pytest

from benchmarks import scaling


@pytest.mark.slow
def test_measures_throughput_and_the_driver(artifact, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MODEL", str(artifact))
    arguments = ["--processes", "2", "1", "--images", "6", "--rounds", "1", "--tasks", "40"]
    assert scaling.main([*arguments, "--out", str(tmp_path)]) == 0
    (file,) = tmp_path.glob("scaling-*.json")
    result = json.loads(file.read_text())
    one, two = result["throughput"]
    assert (one["processes"], two["processes"]) == (1, 2)
    assert one["efficiency"] == 1
    assert len(two["images_a_second"]) == 1
    assert result["driver"]["tasks"] == 40
    assert result["driver"]["memory_mb_most"] > 10
    assert 0 < result["driver"]["driver_cpu_seconds"] < result["driver"]["seconds"] * 4
    assert "| 2 |" in capsys.readouterr().out


def test_efficiency_is_of_the_cores_that_there_are(monkeypatch, tmp_path):
    rates = iter([10.0, 20.0, 20.0, 12.0, 24.0, 12.0])
    monkeypatch.setattr(scaling, "rate", lambda tasks, plan, count: next(rates))
    monkeypatch.setattr(scaling, "available_cpus", lambda: 2)
    monkeypatch.setenv("MODEL", "baseline")
    rows = scaling.throughput(tmp_path, [1, 2, 4], images=3, rounds=2)
    assert [row["median"] for row in rows] == [11, 22, 16]
    assert [row["efficiency"] for row in rows] == [1, 1, round(16 / 22, 3)]


@pytest.mark.parametrize("arguments", [["--processes", "0"], ["--tasks", "1.5"]])
def test_numbers_are_whole(arguments):
    with pytest.raises(SystemExit) as caught:
        scaling.main(arguments)
    assert caught.value.code == 2


def test_model_that_is_missing_is_one_line(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("MODEL", str(tmp_path / "none.onnx"))
    assert scaling.main(["--images", "1", "--tasks", "1", "--out", str(tmp_path)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1

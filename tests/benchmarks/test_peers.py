"""What the comparison with other servers counts."""

import subprocess

import pytest

from benchmarks import peers

MEASURED = {
    peers.OURS: [20.0, 110.0, 55.0, 50.0],
    peers.FASTAPI: [30.0, 100.0, 50.0, 40.0],
    peers.LITSERVE: [25.0, 90.0, 44.0, 50.0],
}


def test_ours_is_compared_with_the_better_peer_in_each_column():
    assert peers.times_as_fast(MEASURED) == pytest.approx([1.25, 1.1, 1.1, 1.0])
    last = peers.table(MEASURED).splitlines()[-1]
    assert last == "| ours / better peer | 1.25 | 1.10 | 1.10 | 1.00 |"


@pytest.mark.parametrize("times", [1.0, 1.1])
def test_exit_code_says_whether_it_is_fast_enough(monkeypatch, tmp_path, times):
    monkeypatch.setattr(peers, "install", lambda folder: folder)
    monkeypatch.setattr(peers, "measure", lambda *_: MEASURED)
    monkeypatch.delenv("MODEL", raising=False)
    assert peers.main(["--times", str(times)]) == int(times > 1)


@pytest.mark.parametrize("arguments", [["--rounds", "0"], ["--times", "-1"]])
def test_wrong_usage_is_refused(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        peers.main(arguments)
    assert caught.value.code == 2


def test_the_baseline_is_no_file_for_peers(monkeypatch, capsys):
    monkeypatch.setenv("MODEL", "baseline")
    assert peers.main([]) == 2
    assert "no file" in capsys.readouterr().err


def test_peers_that_cannot_be_installed_are_one_line(monkeypatch, tmp_path, capsys):
    def fail(command, check):
        raise subprocess.CalledProcessError(1, "pip")

    monkeypatch.setattr(subprocess, "run", fail)
    monkeypatch.delenv("MODEL", raising=False)
    assert peers.main(["--environment", str(tmp_path / "peers")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("peers: the peers cannot be installed")

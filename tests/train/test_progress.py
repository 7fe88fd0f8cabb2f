"""Whoever trains sees something from the first step on, in a terminal and in a file."""

import io

from train import progress
from train.progress import Progress


def test_a_file_gets_a_line_for_the_first_step_and_then_now_and_then(capsys, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    with Progress("training", 100, "%") as bar:
        for done in range(10, 101, 10):
            clock[0] += 12
            bar.to(done, loss=f"{1 / done:.2f}")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "training: 10 of 100 %, loss 0.10, about 1.8 min left"
    assert lines[1] == "training: 40 of 100 %, loss 0.03, about 1.2 min left"
    assert len(lines) == 4


def test_what_is_resumed_counts_only_its_own_steps_for_the_time_left(capsys, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    with Progress("training", 100, "%", done=50) as bar:
        clock[0] = 60
        bar.to(60)
    assert capsys.readouterr().err == "training: 60 of 100 %, about 4.0 min left\n"


def test_a_terminal_gets_a_bar_with_figures_and_the_time_left(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    shown = Terminal()
    monkeypatch.setattr("sys.stderr", shown)
    with Progress("training", 4, "steps") as bar:
        bar.bar.mininterval = 0
        bar.to(1, loss="0.5")
        bar.to(2, loss="0.4")
    assert "training:  50%" in shown.getvalue()
    assert "loss=0.4" in shown.getvalue()
    assert "\n" not in shown.getvalue().strip()

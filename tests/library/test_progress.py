"""Long work shows how far it is: a bar on a terminal, lines in a file."""

import io

from tumour_segmenter import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def drawn(monkeypatch, stderr: io.StringIO) -> str:
    monkeypatch.setattr("sys.stderr", stderr)
    bar = progress.bar(total=4, desc="segmenting", unit="images")
    for _ in range(2):
        bar.update()
        bar.refresh()
    progress.describe(bar, "writing")
    progress.say("error: a line")
    bar.update()
    bar.refresh()
    bar.close()
    return stderr.getvalue()


def test_a_terminal_gets_a_bar(monkeypatch):
    said = drawn(monkeypatch, Terminal())
    assert "2/4" in said
    assert "writing:  50%" in said
    assert "\r" in said
    assert "error: a line\n" in said


def test_a_file_gets_lines(monkeypatch):
    said = drawn(monkeypatch, io.StringIO())
    assert "\r" not in said
    first, second, error, third = said.splitlines()
    assert first.startswith("segmenting: 1 of 4 images, ")
    assert second.startswith("segmenting: 2 of 4 images, ")
    assert second.endswith(" left")
    assert error == "error: a line"
    assert third.startswith("writing: 3 of 4 images, ")


def test_what_is_done_at_once_leaves_no_line(monkeypatch):
    file = io.StringIO()
    monkeypatch.setattr("sys.stderr", file)
    for _ in progress.bar(range(100), desc="reading", unit="files"):
        pass
    assert file.getvalue() == ""


def test_news_is_shown_where_the_count_stands_still(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    bar = progress.bar(total=5, desc="runs", unit="runs")
    bar.mininterval = 0
    bar.update(2)
    bar.set_postfix_str("loss 0.3", refresh=False)
    bar.update(0)
    bar.close()
    assert "loss 0.3" in terminal.getvalue()

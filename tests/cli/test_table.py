"""`merge` puts the tables of shards together and names whatever does not fit."""

from pathlib import Path

import pytest

from tumour_segmenter.cli import main as cli
from tumour_segmenter.cli import table
from tumour_segmenter.cli.tasks import Outcome, Provenance, Task
from tumour_segmenter.measure import Measures

HERE = Provenance("a" * 64, "1.0.0", "balanced")


def rows(*names: str, made: Provenance = HERE, shard: str = "0/2", fault: str = "") -> list[str]:
    outcomes = [
        Outcome(Task(Path("imgs") / name, Path("masks")), fault, False, Measures(2, 3, 1, 2, 4))
        for name in names
    ]
    return [table.row(outcome, made, shard) for outcome in outcomes]


@pytest.fixture
def merge(tmp_path, monkeypatch, capsys):
    """Return a function: tables, each a list of rows, and more arguments -> (exit code, output)."""
    monkeypatch.chdir(tmp_path)
    Path("imgs").mkdir()
    for name in ("a.png", "b.png", "c.png"):
        (Path("imgs") / name).touch()

    def run(*tables: list[str], more=()):
        for number, lines in enumerate(tables):
            table.write(Path(f"{number}.csv"), lines)
        names = [f"{number}.csv" for number in range(len(tables))]
        code = cli.main(["merge", *names, "--out", "all.csv", *more])
        return code, capsys.readouterr()

    return run


EXPECT = ("--expect", "imgs")


def test_tables_become_one_sorted_by_image(merge):
    code, printed = merge(rows("c.png", "a.png"), rows("b.png", shard="1/2"), more=EXPECT)
    assert (code, printed.err) == (0, "")
    assert printed.out == "3 rows of 2 tables\n"
    header, *lines = Path("all.csv").read_text().splitlines(keepends=True)
    assert header == ",".join(table.COLUMNS) + "\n"
    assert lines == rows("a.png") + rows("b.png", shard="1/2") + rows("c.png")


def test_shard_without_images_has_a_table_without_rows(merge):
    assert merge(rows("a.png", "b.png", "c.png"), [])[0] == 0


def test_merging_again_goes_over_the_table(merge):
    for _ in range(2):
        assert merge(rows("a.png"), rows("b.png", shard="1/2"))[0] == 0
    assert len(Path("all.csv").read_text().splitlines()) == 3


@pytest.mark.parametrize(
    ("tables", "more", "expected", "kept"),
    [
        ([rows("a.png"), rows("b.png", shard="1/2")], EXPECT, "1 missing: c.png", 2),
        ([rows("a.png")], (), "no rows of 1 of 2 shards: 1/2", 1),
        ([rows("a.png"), rows("a.png", shard="1/2")], (), "1 in more than one row: imgs/a.png", 1),
        (
            [rows("a.png"), rows("b.png", fault="damaged", shard="1/2")],
            (),
            "1 without a mask, see the column fault: imgs/b.png",
            2,
        ),
        (
            [rows("a.png"), rows("b.png", made=Provenance("b", "1.0.0", "balanced"), shard="1/2")],
            (),
            f"made by more than one model: {'a' * 64} in 0.csv, b in 1.csv",
            2,
        ),
        (
            [rows("a.png"), rows("b.png", made=Provenance("a" * 64, "2", ""), shard="1/2")],
            (),
            "made by more than one version: 1.0.0 in 0.csv, 2 in 1.csv\n"
            "error: made by more than one operating point: balanced in 0.csv, none in 1.csv",
            2,
        ),
        (
            [rows("a.png"), rows("b.png", shard="1/3")],
            (),
            "of different numbers of shards: 0/2, 1/3",
            2,
        ),
    ],
)
def test_what_does_not_fit_is_named(merge, tables, more, expected, kept):
    code, printed = merge(*tables, more=more)
    assert (code, printed.err) == (1, f"error: {expected}\n")
    assert len(Path("all.csv").read_text().splitlines()) == 1 + kept


def test_row_without_a_fault_is_kept_of_two(merge):
    merge(rows("a.png", fault="damaged"), rows("a.png"))
    assert Path("all.csv").read_text().splitlines(keepends=True)[1:] == rows("a.png")


def test_same_image_by_another_path_is_found(merge):
    moved = [row.replace("imgs/", "/mnt/imgs/") for row in rows("a.png", "b.png", "c.png")]
    assert merge(moved, [], more=EXPECT)[0] == 0
    assert "1 in more than one row: a.png" in merge(moved, rows("a.png"), more=EXPECT)[1].err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["nowhere.csv", "--out", "all.csv"], "nowhere.csv: No such file"),
        (["0.csv", "--out", "0.csv"], "would be written over a table"),
        (["0.csv", "--out", "imgs"], "is a folder"),
        (["0.csv", "--out", "imgs/a.png"], "is the name of an image"),
        (["0.csv", "--out", "other.txt"], "is there and no table"),
        (["0.csv", "--out", "nowhere/all.csv"], "nowhere/all.csv: No such file"),
        (["0.csv", "--out", "all.csv", "--expect", "nowhere"], "nowhere: no such file or folder"),
        (["other.txt", "--out", "all.csv"], "other.txt is no table of"),
        (["0.csv", "older.csv", "--out", "all.csv"], "older.csv has other columns"),
        (["older.csv", "--out", "all.csv"], "older.csv has other columns"),
        (["cut.csv", "--out", "all.csv"], "cut.csv is damaged: a row has 2 of 16"),
        (["empty.csv", "--out", "all.csv"], "empty.csv is no table of"),
    ],
)
def test_wrong_usage(merge, capsys, arguments, expected):
    merge(rows("a.png"))
    Path("all.csv").unlink()
    Path("other.txt").write_text("text\n")
    Path("older.csv").write_text("image,mask\n")
    Path("cut.csv").write_text(Path("0.csv").read_text() + "imgs/b.png,masks")
    Path("empty.csv").touch()
    before = Path("0.csv").read_text()
    assert cli.main(["merge", *arguments]) == 2
    printed = capsys.readouterr()
    assert expected in printed.err
    assert printed.err.count("\n") == 1
    assert Path("0.csv").read_text() == before
    assert Path("other.txt").read_text() == "text\n"
    assert not Path("all.csv").exists()


def test_names_that_are_no_text_keep_their_bytes(merge):
    name = b"\xff.png".decode("utf-8", "surrogateescape")
    assert merge(rows(name), [])[0] == 0
    assert b"imgs/\xff.png," in Path("all.csv").read_bytes()

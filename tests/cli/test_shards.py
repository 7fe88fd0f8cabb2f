"""Shards share the work out by name: all of it, once, anywhere."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tumour_segmenter.cli.shards import Shard, parse
from tumour_segmenter.errors import UsageError


@given(st.text(max_size=30), st.integers(1, 50))
def test_each_name_belongs_to_one_shard(name, count):
    assert sum(Shard(index, count).takes(name) for index in range(count)) == 1


def test_share_is_the_same_for_ever():
    """The right values: a change would make running jobs do work twice, or not at all."""
    names = [f"patient_{number:03}.png" for number in range(12)]
    assert [next(i for i in range(4) if Shard(i, 4).takes(name)) for name in names] == [
        3,
        2,
        3,
        1,
        1,
        0,
        0,
        0,
        3,
        1,
        1,
        3,
    ]


def test_accents_are_the_same_in_both_encodings():
    names = [f"é{number}ö.png" for number in range(50)]
    for name in names:
        other = unicodedata.normalize("NFD", name)
        assert other != name
        assert Shard(0, 2).takes(name) == Shard(0, 2).takes(other)


def test_name_that_is_no_text_has_a_shard():
    name = b"\xff.png".decode("utf-8", "surrogateescape")
    assert Shard(0, 2).takes(name) != Shard(1, 2).takes(name)


def test_shares_are_about_equal():
    names = [f"{number}.png" for number in range(10_000)]
    shares = [sum(map(Shard(index, 10).takes, names)) for index in range(10)]
    assert all(900 < share < 1100 for share in shares)


@pytest.mark.parametrize(
    ("text", "environ", "expected"),
    [
        ("0/1", {}, Shard(0, 1)),
        ("9/10", {"JOB_COMPLETION_INDEX": "3"}, Shard(9, 10)),
        ("auto/10", {"JOB_COMPLETION_INDEX": "3"}, Shard(3, 10)),
        ("auto/10", {"JOB_COMPLETION_INDEX": "", "SLURM_ARRAY_TASK_ID": "0"}, Shard(0, 10)),
        ("auto/10", {"SLURM_ARRAY_TASK_ID": "9", "SLURM_ARRAY_TASK_MAX": "9"}, Shard(9, 10)),
        ("auto/10", {"SLURM_ARRAY_TASK_ID": "7", "SLURM_ARRAY_TASK_MIN": "7"}, Shard(7, 10)),
    ],
)
def test_shard_is_read(text, environ, expected):
    assert parse(text, environ) == expected
    assert parse(str(expected)) == expected


@pytest.mark.parametrize(
    ("text", "environ", "expected"),
    [
        ("", {}, "is not I/N"),
        ("3", {}, "is not I/N"),
        ("-1/3", {}, "is not I/N"),
        ("1/3/4", {}, "is not I/N"),
        ("\u0661/3", {}, "is not I/N"),
        ("a/3", {}, "is not I/N"),
        ("auto", {}, "is not I/N"),
        ("3/3", {}, "I is a number from 0 to N-1, here 0 to 2"),
        ("0/0", {}, "I is a number from 0 to N-1"),
        ("auto/3", {}, "neither JOB_COMPLETION_INDEX nor SLURM_ARRAY_TASK_ID is set"),
        ("auto/3", {"JOB_COMPLETION_INDEX": "3"}, "JOB_COMPLETION_INDEX=3: I is a number from 0"),
        ("auto/3", {"SLURM_ARRAY_TASK_ID": "x"}, "SLURM_ARRAY_TASK_ID=x: this is not a whole"),
        (
            "auto/3",
            {"SLURM_ARRAY_TASK_ID": "1", "SLURM_ARRAY_TASK_MAX": "3"},
            "submit with --array=0-2",
        ),
    ],
)
def test_what_is_no_shard_is_refused(text, environ, expected):
    with pytest.raises(UsageError) as caught:
        parse(text, environ)
    assert expected in str(caught.value)

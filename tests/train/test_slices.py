"""The rows of a slice are found by the height of an image alone, and are averaged."""

import numpy as np
import pytest
import torch

from train.detail import kept_by, mean_of_slices, same_slice

HEIGHTS = range(1, 992)


def _enlarged(slices: int) -> torch.Tensor:
    """Of each row from above the slice, counted from below, that is nearest to it."""
    height = slices * 3 // 2
    row = torch.arange(height).flip(0)
    return ((row + 0.5) * slices / height).floor().long()


@pytest.mark.parametrize("slices", range(1, 662, 7))
def test_rows_go_together_where_they_show_the_same_slice(slices):
    slice_of = _enlarged(slices)
    other = same_slice(len(slice_of))
    assert torch.equal(slice_of[other], slice_of)
    assert len(slice_of[other != torch.arange(len(other))]) == 2 * (len(slice_of) - slices)


def test_two_rows_of_a_slice_name_each_other():
    for height in HEIGHTS:
        other = same_slice(height)
        assert torch.equal(other[other], torch.arange(height))


@pytest.mark.parametrize("height", [2, 5, 488, 989])
def test_heights_that_no_slices_make_are_left_alone(height):
    logits = torch.randn(1, 1, height, 7)
    assert torch.equal(mean_of_slices(logits), logits)


@pytest.mark.parametrize("slices", [284, 285])
def test_labels_drawn_slice_by_slice_are_recognised(slices):
    label = np.random.default_rng(0).random((slices, 30)) < 0.1
    label = label[_enlarged(slices).numpy()]
    empty = np.zeros((100, 30), bool)
    assert kept_by([label, empty])
    label[202 if slices % 2 else 201, 4] ^= True
    assert not kept_by([label, empty])


def test_the_rows_of_a_slice_have_their_mean():
    logits = torch.tensor([1.0, 3.0, 5.0, -1.0, 0.0, 9.0])[None, None, :, None]
    assert mean_of_slices(logits).flatten().tolist() == [2, 2, 5, -0.5, -0.5, 9]
    logits = torch.tensor([1.0, 3.0, 5.0, -1.0])[None, None, :, None]
    assert mean_of_slices(logits).flatten().tolist() == [1, 4, 4, -1]

"""Images as scorers have changed them come out as they were."""

import numpy as np
import pytest
import torch

from train import canonical
from train.dataset import Case
from tumour_segmenter.phantom import phantom


def _uptake(seed: int, size: tuple[int, int] = (200, 120)) -> np.ndarray:
    return 255 - phantom(*size, seed=seed)[0]


def _image(uptake: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(uptake))[None, None]


def _filled(value: int, *size: int) -> torch.Tensor:
    return torch.full((1, 1, *size), value, dtype=torch.uint8)


@pytest.fixture(scope="module")
def upright() -> canonical.Upright:
    cases = [Case(f"control_{i}", _uptake(i), np.zeros((200, 120), bool)) for i in range(8)]
    return canonical.Upright(canonical.learn_upright(cases))


@pytest.mark.parametrize("size", [(200, 120), (489, 400), (991, 400), (333, 251)])
def test_bodies_nobody_learnt_from_are_told_from_bodies_flipped(upright, size):
    for seed in range(100, 105):
        uptake = _uptake(seed, size)
        assert not upright.flipped(_image(uptake)).any()
        assert not upright.flipped(_image(uptake[:, ::-1])).any()
        assert upright.flipped(_image(uptake[::-1])).all()
        assert upright.flipped(_image(uptake[::-1, ::-1])).all()


@pytest.mark.parametrize("value", [0, 255])
def test_an_image_without_up_or_down_is_left_as_it_is(upright, value):
    assert not upright.flipped(_filled(value, 40, 30)).any()


def test_only_a_flipped_image_is_turned():
    image = torch.arange(6.0).reshape(1, 1, 3, 2)
    assert torch.equal(canonical.Upright.turn(image, torch.tensor([True])), image.flip(2))
    assert torch.equal(canonical.Upright.turn(image, torch.tensor([False])), image)


def test_salt_and_pepper_goes_and_a_clean_image_stays():
    uptake = _uptake(3, (489, 400))
    clean = _image(uptake)
    kept = canonical.without_impulses(clean)
    assert (kept != clean).float().mean() < 1e-3

    chance = np.random.default_rng(0).random(uptake.shape)
    noisy = np.where(chance < 0.03, 0, np.where(chance > 0.97, 255, uptake)).astype(np.uint8)
    before = (_image(noisy).int() - clean).abs() > 50
    after = (canonical.without_impulses(_image(noisy)).int() - clean).abs() > 50
    assert before.float().mean() > 0.02
    assert after.sum() < 0.05 * before.sum()


def test_values_between_the_extremes_are_never_touched():
    image = _filled(0, 9, 9)
    image[0, 0, 4, 4] = 254
    assert torch.equal(canonical.without_impulses(image), image)
    image[0, 0, 4, 4] = 255
    assert not canonical.without_impulses(image).any()


def test_the_smallest_image_goes_through(upright):
    pixel = _filled(128, 1, 1)
    assert torch.equal(canonical.without_impulses(pixel), pixel)
    assert not upright.flipped(pixel).any()


def test_the_air_beside_the_body_is_left_out_but_for_a_margin():
    image = _filled(0, 60, 100)
    image[..., 10:40, 30:70] = 80
    image[..., 5, :] = 255  # a line is no body
    first, last = canonical.body_columns(image)
    assert (int(first), int(last)) == (30 - canonical.MARGIN, 70 + canonical.MARGIN)
    assert first.shape == last.shape == (1,)


def test_nothing_is_cut_where_there_is_no_air_or_no_body():
    for value in (0, 128):
        columns = canonical.body_columns(_filled(value, 60, 100))
        assert [int(column) for column in columns] == [0, 100]


def test_no_lesion_of_a_drawn_patient_is_cut_off():
    for seed in range(5):
        pixels, truth = phantom(489, 400, seed=seed)
        first, last = canonical.body_columns(_image(255 - pixels))
        assert truth.any()
        columns = np.flatnonzero(truth.any(axis=0))
        assert int(first) <= columns[0] - 1
        assert columns[-1] + 1 <= int(last) <= 400


def test_a_mirrored_body_has_the_same_up_and_down():
    image = _image(_uptake(5))
    features = canonical.top_minus_bottom(image)
    assert torch.allclose(canonical.top_minus_bottom(image.flip(3)), features, atol=1e-5)
    assert torch.allclose(canonical.top_minus_bottom(image.flip(2)), -features, atol=1e-5)

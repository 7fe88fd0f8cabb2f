import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from train.losses import BCE_WEIGHT, bce_and_dice

TRUTH = torch.zeros(2, 1, 16, 16)
TRUTH[:, :, 4:8, 4:8] = 1


def _logits(mask: torch.Tensor) -> torch.Tensor:
    return (mask * 2 - 1) * 20


def test_a_perfect_answer_costs_nothing_and_worse_ones_cost_more():
    half = TRUTH.clone()
    half[:, :, :6] = 0
    perfect, partial, wrong = (
        bce_and_dice(_logits(m), TRUTH, 2).item() for m in (TRUTH, half, 1 - TRUTH)
    )
    assert perfect < 1e-3
    assert perfect + 0.2 < partial < wrong


def test_false_positives_on_the_healthy_are_punished():
    empty = torch.zeros_like(TRUTH)
    assert bce_and_dice(_logits(empty), empty, 2).item() < 1e-3
    assert bce_and_dice(_logits(TRUTH), empty, 2).item() > 0.5


def test_each_image_counts_alike_whatever_its_lesion_area():
    small, large = torch.zeros(1, 1, 64, 64), torch.zeros(1, 1, 64, 64)
    small[:, :, 0:8, 0:8] = 1
    large[:, :, 0:60, 0:60] = 1
    both = torch.cat([small, large])
    logits = torch.full_like(both, -20.0, requires_grad=True)
    missed_all = bce_and_dice(logits, both, 2) - BCE_WEIGHT * binary_cross_entropy_with_logits(
        logits, both
    )
    # Of the smoothing's few pixels the smaller lesion's share is larger, so it is not quite 1.
    assert 0.9 < missed_all.item() <= 1


def test_the_same_answer_costs_the_same_at_any_resolution():
    def enlarged(image: torch.Tensor) -> torch.Tensor:
        return image.repeat_interleave(2, 2).repeat_interleave(2, 3)

    said = torch.linspace(-3, 3, TRUTH.numel()).reshape(TRUTH.shape)
    half, full = bce_and_dice(said, TRUTH, 2), bce_and_dice(enlarged(said), enlarged(TRUTH), 1)
    assert torch.isclose(half, full)

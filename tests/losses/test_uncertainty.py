"""Learned loss weights, consistency, and the all-negatives hinge of RDB."""

from __future__ import annotations

import math

import pytest
import torch

from rsbench.losses.consistency import paired_distance
from rsbench.losses.triplet import triplet
from rsbench.losses.uncertainty import SMALLEST, LearnedWeights, uncertainty_weighted

CLOSE = {"abs": 1e-6}
L = (1.25, 0.9, 0.4)


def tensor(rows) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def test_vector_4_sum_over_all_negatives() -> None:
    scores = tensor([[0.8, 0.7, 0.1], [0.3, 0.5, 0.45], [0.2, 0.6, 0.55]])
    found = triplet(scores, 0.2, hardest=False)
    assert found.tolist() == pytest.approx([0.10, 0.85, 0.35], **CLOSE)
    assert found.mean().item() == pytest.approx(0.433333, **CLOSE)
    assert triplet(scores, 0.2).mean().item() == pytest.approx(0.333333, **CLOSE)


def test_same_image_entries_are_no_negatives_where_asked() -> None:
    scores, images = torch.rand(5, 5, dtype=torch.float64), [3, 1, 3, 2, 1]
    expected = []
    for i in range(5):
        others = [j for j in range(5) if images[j] != images[i]]
        ways = [0.2 - scores[i, i] + scores[i, j] for j in others], [0.2 - scores[i, i] + scores[j, i] for j in others]
        expected.append(sum(max(0.0, float(v)) for way in ways for v in way))
    found = triplet(scores, 0.2, hardest=False, same_image=torch.tensor(images))
    assert found.tolist() == pytest.approx(expected, abs=1e-12)
    assert not triplet(scores, 0.2, hardest=True, same_image=torch.zeros(5)).any()


def test_vector_5_consistency() -> None:
    student, teacher = tensor([[0.6, 0.8], [1, 0]]), tensor([[0, 1], [0.8, 0.6]])
    assert paired_distance(student, teacher).mean().item() == pytest.approx(0.4, **CLOSE)
    assert paired_distance(student, teacher, "mse").mean().item() == pytest.approx(0.2, **CLOSE)
    assert paired_distance(7 * student, 3 * teacher).mean().item() == pytest.approx(0.4, **CLOSE)


def test_consistency_teaches_the_student_alone() -> None:
    student, teacher = (torch.randn(3, 4, dtype=torch.float64, requires_grad=True) for _ in range(2))
    paired_distance(student, teacher).sum().backward()
    assert student.grad.any() and teacher.grad is None
    assert torch.autograd.gradcheck(lambda x: paired_distance(x, teacher), student)


def test_vector_7_weighted_sum() -> None:
    assert uncertainty_weighted(tensor(L), tensor([1, 1, 1])).sum().item() == pytest.approx(3.354442, **CLOSE)
    found = uncertainty_weighted(tensor(L), tensor([1, 0.25, 4]))
    assert found.tolist() == pytest.approx([1.318147, 2.023144, 1.659438], **CLOSE)
    best = [(x + math.sqrt(x * x + 8 * x)) / 4 for x in L]
    assert best == pytest.approx([1.162592, 0.932549, 0.558258], **CLOSE)
    weights = LearnedWeights(3).double()
    with torch.no_grad():
        weights.sigma.copy_(tensor(best).sqrt())
    assert weights(tensor(L)).item() == pytest.approx(3.252113, **CLOSE)
    assert weights.weights.tolist() == pytest.approx([0.430074, 0.536165, 0.895644], **CLOSE)
    weights(tensor(L)).backward()
    assert weights.sigma.grad.abs().max() < 1e-9


def test_gradients_of_losses_and_sigma() -> None:
    losses, sigma = tensor(L).requires_grad_(), tensor((1.1, -0.6, 0.4)).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, s: uncertainty_weighted(x, s.square()), (losses, sigma))


def test_sigma_stays_off_zero_and_can_come_back() -> None:
    weights = LearnedWeights(3)
    with torch.no_grad():
        weights.sigma.copy_(torch.tensor([0.0, -1e-9, -0.7]))
    assert weights.variance.min().item() == pytest.approx(SMALLEST)
    weights.bound_()
    assert weights.variance[:2].min() > SMALLEST and weights.sigma[2].item() == pytest.approx(-0.7)
    loss = weights(torch.ones(3))
    loss.backward()
    assert loss.isfinite() and weights.sigma.grad.all()

"""infonce, vse and rcl: the loss they hand over, and their options."""

from __future__ import annotations

import pytest
import torch

from rsbench.losses.contrastive import complementary, info_nce
from rsbench.losses.triplet import triplet
from rsbench.methods.base import TRAIN, WARMUP
from rsbench.methods.probe import BATCH, Probe, make_batch


def one_loss(name, variant="full", params=None, phase=TRAIN):
    probe = Probe.of(name, variant, params or {})
    batch = make_batch(torch.arange(BATCH), phase)
    encoded = probe.method.encode(batch)
    loss = probe.method.loss(encoded, batch)
    return loss, probe.method.similarity(encoded.image, encoded.text).detach()


def test_infonce_is_the_mean_over_scaled_cosines():
    loss, cos = one_loss("infonce", params={"tau": 0.1})
    assert torch.allclose(loss.total, info_nce(cos / 0.1).mean(), atol=1e-5)
    assert torch.equal(loss.clean_score, cos.diagonal())


def test_infonce_learns_tau_only_where_asked_and_without_decay():
    fixed, learned = Probe.of("infonce", "full", {}), Probe.of("infonce", "learn_tau", {})
    for probe in (fixed, learned):
        probe.train_epoch()
    assert "logits.log_scale" in learned.reached and "logits.log_scale" not in fixed.reached
    plain = [g for g in learned.method.param_groups() if g.get("decay", True)]
    assert all(p is not learned.method.logits.log_scale for g in plain for p in g["params"])
    assert float(fixed.method.logits.scale.detach()) == pytest.approx(1 / 0.07, rel=1e-5)


def test_learned_scale_stays_below_100():
    probe = Probe.of("infonce", "learn_tau", {"tau": 0.01})
    for _ in range(3):
        probe.train_epoch()
    assert float(probe.method.logits.scale.detach()) <= 100


@pytest.mark.parametrize(("variant", "hardest"), [("full", True), ("sum", False)])
def test_vse_sums_over_the_batch(variant, hardest):
    loss, cos = one_loss("vse", variant, {"margin": 0.3})
    assert torch.allclose(loss.total, triplet(cos, 0.3, hardest).sum(), atol=1e-5)


def test_vse_starts_with_the_sum_where_asked():
    probe = Probe.of("vse", "full", {"sum_epochs": 1})
    names = []
    for probe.epoch in range(2):
        names += [p.name for p in probe.method.epoch_phases(probe)]
    assert names == [WARMUP, TRAIN]
    loss, cos = one_loss("vse", "full", {"sum_epochs": 1}, WARMUP)
    assert torch.allclose(loss.total, triplet(cos, 0.2, hardest=False).sum(), atol=1e-5)


@pytest.mark.parametrize("variant", ["log", "tan", "abs", "exp", "gce"])
def test_rcl_variants_use_their_own_function_in_both_directions(variant):
    loss, cos = one_loss("rcl", variant)
    expected = complementary(cos / 0.05, variant) + complementary(cos.T / 0.05, variant)
    assert torch.allclose(loss.total, expected.mean(), rtol=1e-4)
    full, _ = one_loss("rcl")
    assert (variant == "log") == bool(torch.isclose(full.total, loss.total))


def test_rcl_ratio_counts_part_of_the_negatives():
    torch.manual_seed(0)
    part, _ = one_loss("rcl", params={"ratio": 0.5, "loss": "exp"})
    whole, _ = one_loss("rcl", params={"loss": "exp"})
    assert 0 < float(part.total.detach()) < float(whole.total.detach())

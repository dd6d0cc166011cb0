"""SREM as a method: calibrated shift, phases, warnings, and what its warm-up learns."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import normalize

from rsbench.methods.base import TRAIN, WARMUP, Encoded
from rsbench.methods.cards.srem import CARD, SremParams
from rsbench.methods.probe import BATCH, PAIRS, Probe, make_batch
from rsbench.methods.srem import objective


def held_out_r1(reading: str, seed: int) -> float:
    """R@1 of two linear maps + affine cosine logits after 400 Adam steps on the complementary loss alone."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    latent, mix_a, mix_b = draw(840, 16), draw(16, 32), draw(16, 32)
    a, b = latent @ mix_a + 0.1 * draw(840, 32), latent @ mix_b + 0.1 * draw(840, 32)
    maps = [(draw(32, 16) / 6).requires_grad_() for _ in range(2)]
    scale, shift = torch.tensor(math.log(20.0)).requires_grad_(), torch.tensor(-5.0).requires_grad_()
    optimizer = torch.optim.Adam([*maps, scale, shift], lr=1e-2, fused=True)
    params = SremParams(cmbcl=reading)

    def cosines(rows: torch.Tensor | slice) -> torch.Tensor:
        return normalize(a[rows] @ maps[0], dim=-1) @ normalize(b[rows] @ maps[1], dim=-1).T

    for _ in range(400):
        rows = torch.randint(640, (64,), generator=generator)
        optimizer.zero_grad()
        objective(scale.exp() * cosines(rows) + shift, params, warmup=True).total.backward()
        optimizer.step()
    with torch.no_grad():
        own = cosines(slice(640, 840)).argmax(1) == torch.arange(200)
    return float(own.float().mean())


@pytest.mark.parametrize("seed", [0, 1])
def test_warm_up_learns_with_the_default_reading(seed):
    assert held_out_r1("weight_softmax", seed) > 0.9


def test_warm_up_does_not_learn_with_the_printed_reading():
    assert held_out_r1("literal", 0) < 0.1


def test_calibrated_shift_puts_rows_of_noise_at_m_noisy():
    probe = Probe.of("srem", "full", {"m_noisy": 0.5, "m_clean": -3.0})
    probe.start()
    method = probe.method
    energies = []
    for start in range(0, PAIRS, BATCH):
        pairs = torch.arange(start, start + BATCH)
        loss = method.loss(method.encode(make_batch(pairs, TRAIN)), make_batch(pairs, TRAIN))
        # rows without their own entry are rows of negatives
        encoded = method.encode(make_batch(pairs, TRAIN))
        logits = method.logits(method.similarity(encoded.image, encoded.text)).detach()
        logits.fill_diagonal_(float("-inf"))
        energies += [-logits.logsumexp(0), -logits.logsumexp(1)]
        assert loss.total.isfinite()
    assert float(torch.cat(energies).mean()) == pytest.approx(0.5, abs=1e-5)


def test_shift_is_set_again_after_warm_up_from_the_records_of_its_last_epoch():
    probe = Probe.of("srem", "full", {"warmup_epochs": 2})
    first = None
    for _ in range(2):
        probe.train_epoch()
        first = first or float(probe.method.logits.shift.detach())
    expected = -float(probe.records["negatives"].nanmean())
    assert [p.name for p in probe.start()] == [TRAIN]
    assert float(probe.method.logits.shift.detach()) == pytest.approx(expected, abs=1e-6) != first
    assert sum("shift d" in m for m in probe.messages) == 2
    assert any("energies of the last epoch" in m for m in probe.messages)


def test_shift_stays_where_calibration_is_off():
    probe = Probe.of("srem", "full", {"calibrate_shift": False, "learn_affine": False})
    probe.train_epoch()
    assert float(probe.method.logits.shift) == 0
    assert not {n for n in probe.reached if n.startswith("logits")}


def test_phases_follow_the_warm_up():
    probe = Probe.of("srem", "full", {"warmup_epochs": 3})
    names = []
    for probe.epoch in range(5):
        names += [p.name for p in probe.method.epoch_phases(probe)]
    assert names == [WARMUP] * 3 + [TRAIN] * 2


@pytest.mark.parametrize(("tau", "warned"), [(-50.0, True), (0.0, False)])
def test_collapse_of_the_clean_set_is_reported(tau, warned):
    probe = Probe.of("srem", "full", {"tau": tau, "warmup_epochs": 0, "m_clean": -60.0})
    probe.records = {
        "clean_i2t": torch.full((PAIRS,), 0.0 if warned else 0.5),
        "clean_t2i": torch.full((PAIRS,), float("nan")),
    }
    probe.epoch = 3
    probe.method.epoch_phases(probe)
    assert any("warning" in m and "came out clean" in m for m in probe.messages) == warned
    assert any("0.0 % of the pairs came out clean in epoch 3" in m for m in probe.messages) == warned


def test_a_clean_set_that_empties_while_training_is_reported():
    probe = Probe.of("srem", "full", {"tau": -50.0, "warmup_epochs": 0, "m_clean": -60.0})
    for _ in range(2):
        probe.train_epoch()
    assert any("warning" in m and "came out clean" in m for m in probe.messages)


def test_the_printed_reading_warns_before_warm_up():
    probe = Probe.of("srem", "full", {"cmbcl": "literal"})
    probe.start()
    assert any("does not learn with cmbcl=literal" in m for m in probe.messages)


def test_records_of_a_training_step():
    probe = Probe.of("srem", "full", {"warmup_epochs": 0})
    (loss, *_) = probe.train_epoch()
    names = {f"{n}_{way}" for n in ("energy", "entropy", "weight", "clean", "pull") for way in ("i2t", "t2i")}
    assert set(loss.records) == names


def test_mask_same_image_reaches_the_objective():
    images = torch.tensor([0, 0, 1, 1, 1, 2, 3, 0])
    totals = []
    for masked in (False, True):
        probe = Probe.of("srem", "full", {"mask_same_image": masked})
        batch = make_batch(torch.arange(BATCH), WARMUP, images=images)
        totals.append(float(probe.method.loss(probe.method.encode(batch), batch).total.detach()))
    assert totals[0] != totals[1]


def test_half_precision_features_give_fp32_energies():
    probe = Probe.of("srem", "full", {"scale": 100.0})
    batch = make_batch(torch.arange(BATCH), TRAIN)
    encoded = probe.method.encode(batch)
    half = Encoded(encoded.image.map(lambda t: t.half()), encoded.text.map(lambda t: t.half()))
    loss = probe.method.loss(half, batch)
    assert loss.records["energy_i2t"].dtype == torch.float32 and loss.records["energy_i2t"].isfinite().all()


def test_scale_is_bounded_without_losing_its_gradient():
    probe = Probe.of("srem", "full", {})
    with torch.no_grad():
        probe.method.logits.log_scale.fill_(9.0)
    probe.method.after_step()
    probe.train_epoch()
    assert 90 < float(probe.method.logits.scale.detach()) <= 100
    assert "logits.log_scale" in probe.reached


def test_paper_recipe_and_unpublished_values():
    unpublished = {f for f, d in SremParams.__dataclass_fields__.items() if d.metadata["unpublished"]}
    assert {"tau", "alpha", "beta", "b", "lambda1", "lambda2"} <= unpublished
    assert CARD.paper_recipe["epochs"] == 55 and CARD.paper_recipe["decay_epochs"] == (30,)


@pytest.mark.parametrize("reading", ["literal", "yu_forward"])
def test_matrix_products_of_the_loss_are_not_rounded_under_autocast(reading):
    probe = Probe.of("srem", "full", {"cmbcl": reading})
    batch = make_batch(torch.arange(BATCH), WARMUP)
    encoded = probe.method.encode(batch)
    plain = probe.method.loss(encoded, batch).total
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(probe.method.loss(encoded, batch).total, plain)

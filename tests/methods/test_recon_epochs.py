"""ReCon between epochs: division, memory, resuming, empty partitions, collapsed mixtures, bad values."""

from __future__ import annotations

import copy

import pytest
import torch

from rsbench.errors import UsageError
from rsbench.methods.base import NOISY, TRAIN, UNDECIDED, WARMUP
from rsbench.methods.build import resolve_params
from rsbench.methods.cards.recon import CARD, ReconParams
from rsbench.methods.probe import Probe, make_batch

pytest.importorskip("sklearn")


# Epochs


def divisions(messages):
    return [m for m in messages if "D_c" in m and not m.startswith("warning")]


def test_warmup_then_a_division_before_each_epoch():
    probe = Probe.of("recon", "full", {"warmup_epochs": 2})
    names = []
    for _ in range(5):
        names.append(probe.start()[0].name)
        assert (probe.method.partition == UNDECIDED).all() == (probe.epoch < 2)
        probe.epoch += 1
    assert names == [WARMUP, WARMUP, TRAIN, TRAIN, TRAIN] and len(divisions(probe.messages)) == 3


def test_pseudo_labels_move_once_per_epoch():
    probe = Probe.of("recon", "full", {"warmup_epochs": 0})
    probe.start()
    first = probe.method.label.clone()
    tests = probe.score(probe.method._scorer())
    assert torch.allclose(first, tests[:, 2])
    with torch.no_grad():
        probe.method.backbone.image.weight += 0.3 * torch.randn_like(probe.method.backbone.image.weight)
    now = probe.score(probe.method._scorer())[:, 2]
    probe.start()
    assert torch.allclose(probe.method.label, 0.6 * first + 0.4 * now) and not torch.allclose(first, now, atol=1e-3)


def test_memory_survives_a_stop():
    """A run that goes on from a checkpoint at an epoch border equals one that never stopped."""

    def epochs(probe, n):
        return [float(x.total.detach()) for _ in range(n) for x in probe.train_epoch()]

    probe = Probe.of("recon", "full", {"warmup_epochs": 1})
    probe.train_epoch(), probe.train_epoch()
    other = Probe.of("recon", "full", {"warmup_epochs": 1}, seed=5)
    other.method.load_state_dict({k: v.clone() for k, v in probe.method.state_dict().items()})
    other.epoch, other._phase = probe.epoch, probe._phase
    other._optimizer.load_state_dict(copy.deepcopy(probe._optimizer.state_dict()))
    assert epochs(probe, 2) == epochs(other, 2)
    assert torch.equal(probe.method.label, other.method.label)


def test_a_short_last_batch_borrows_negatives():
    method = Probe.of("recon", "full", {}).method.eval()
    score = method._scorer()
    full, short = make_batch(torch.arange(8), TRAIN), make_batch(torch.arange(8, 11), TRAIN)
    with torch.no_grad():
        score(method.encode(full), full)
        found = score(method.encode(short), short)
        joined = make_batch(torch.tensor([8, 9, 10, 3, 4, 5, 6, 7]), TRAIN)
        expected = method._scorer()(method.encode(joined), joined)[:3]
    assert found.shape == (3, 4) and torch.allclose(found, expected, atol=1e-5)


# Empty partitions


def warnings_of(**params):
    probe = Probe.of("recon", params.pop("variant", "full"), {"warmup_epochs": 0, **params})
    for _ in range(3):
        probe.train_epoch()
    return probe, [m for m in probe.messages if m.startswith("warning")]


def test_an_empty_d_l_is_said_once_with_its_share():
    probe, found = warnings_of(im_temp=1000.0)
    assert len(found) == 1 and "D_l was empty, 0 %" in found[0] and "lower method.im_temp" in found[0]
    assert all("D_l 0.0%" in line for line in divisions(probe.messages)) and len(divisions(probe.messages)) == 3


def test_an_empty_d_c_is_said_once_with_its_share():
    probe, found = warnings_of(omega2=0.0)
    assert len(found) == 1 and "D_c was empty, 0 %" in found[0] and "100 %" in found[0]
    assert found[0].endswith("try a higher method.im_temp or method.im_reduce=mean")
    found = warnings_of(omega2=0.0, variant="official_block")[1]
    assert found[0].endswith("try another method.omega2 (method.im_temp does not apply)")
    assert all("D_c 0.0%" in line for line in divisions(probe.messages))


@pytest.mark.parametrize("variant", ["no_tru", "cm_only"])
def test_a_part_that_a_variant_leaves_out_is_not_warned_of(variant):
    assert not warnings_of(variant=variant)[1]


def test_a_part_of_nobody_is_said():
    assert any("every pair came out as D_n" in m for m in warnings_of(omega1=1.0)[1])
    assert any("no pair came out as D_n" in m for m in warnings_of(omega1=0.0)[1])


def test_a_collapsed_mixture_is_stated(monkeypatch):
    import rsbench.methods.recon as module

    real = module.small_loss_posterior
    monkeypatch.setattr(module, "small_loss_posterior", lambda losses: real(torch.ones_like(losses)))
    probe, found = warnings_of()
    assert any("all losses are equal, so the cross-modal test called no pair noisy" in m for m in found)
    assert NOISY not in probe.method.partition.tolist()


@pytest.mark.parametrize(
    ("field", "value"),
    [("tau", 0.0), ("omega1", 1.5), ("omega2", -0.1), ("beta", 2.0), ("alpha", 0.0), ("im_temp", 0.0), ("gamma", -1.0)],
)
def test_values_out_of_range_are_refused(field, value):
    with pytest.raises(UsageError, match=rf"recon: {field} = .*--set method.{field}"):
        ReconParams(**{field: value})


def test_unknown_reading_is_refused():
    with pytest.raises(UsageError, match="use one of paper, symmetric, official_block, batch, none"):
        resolve_params(CARD, "full", {"relation": "iais"})

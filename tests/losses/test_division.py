"""Division of pairs by a mixture of their losses."""

from __future__ import annotations

import math
import sys

import pytest
import torch

from rsbench.errors import DependencyError, NonFiniteError
from rsbench.losses.division import small_loss_posterior, unit_range

mixture = pytest.importorskip("sklearn.mixture")


def two_modes(low=300, high=100, seed=0):
    g = torch.Generator().manual_seed(seed)
    losses = torch.cat((1 + 0.2 * torch.randn(low, generator=g), 4 + 0.5 * torch.randn(high, generator=g)))
    return losses, torch.arange(low + high) < low


def test_the_posterior_is_that_of_the_smaller_mean():
    losses, clean = two_modes()
    found = small_loss_posterior(losses)
    assert torch.equal(found.posterior > 0.5, clean)
    assert found.means[0] < found.means[1] and found.weights == pytest.approx((0.75, 0.25), abs=0.02)
    assert found.fallback == "" and found.posterior.dtype == torch.float64
    assert ((found.posterior >= 0) & (found.posterior <= 1)).all()
    flipped = small_loss_posterior(-losses)
    assert torch.equal(flipped.posterior > 0.5, ~clean)


def test_the_same_losses_give_the_same_result_at_any_scale_and_order():
    losses, _ = two_modes(seed=3)
    first, again = small_loss_posterior(losses), small_loss_posterior(losses.clone())
    assert torch.equal(first.posterior, again.posterior)
    torch.manual_seed(5)
    moved = small_loss_posterior(losses.double() * 64 - 3)
    assert torch.allclose(moved.posterior, first.posterior, atol=1e-5)


def test_settings_are_those_of_ncr(monkeypatch):
    seen = {}

    class Spy(mixture.GaussianMixture):
        def __init__(self, n_components, **settings):
            seen.update(settings, n_components=n_components)
            super().__init__(n_components, **settings)

    monkeypatch.setattr(mixture, "GaussianMixture", Spy)
    small_loss_posterior(two_modes()[0])
    expected = {"n_components": 2, "max_iter": 10, "tol": 1e-2, "reg_covar": 5e-4}
    assert {k: seen[k] for k in expected} == expected and isinstance(seen["random_state"], int)


def test_the_posterior_follows_bayes_on_the_fitted_normals(monkeypatch):
    kept = []

    class Spy(mixture.GaussianMixture):
        def fit(self, x):
            kept.append(self)
            return super().fit(x)

    monkeypatch.setattr(mixture, "GaussianMixture", Spy)
    losses, _ = two_modes(40, 20)
    found = small_loss_posterior(losses)
    values = [float(x) for x in losses]
    scaled = [(x - min(values)) / (max(values) - min(values)) for x in values]
    parts = sorted(zip(kept[0].means_[:, 0], kept[0].covariances_[:, 0, 0], kept[0].weights_, strict=True))
    for x, p in zip(scaled, found.posterior.tolist(), strict=True):
        d = [w * math.exp(-((x - m) ** 2) / (2 * s)) / math.sqrt(s) for m, s, w in parts]
        assert p == pytest.approx(d[0] / sum(d), abs=1e-9)
    order = kept[0].means_[:, 0].argmin()
    theirs = kept[0].predict_proba(torch.tensor(scaled)[:, None].double().numpy())[:, order]
    assert found.posterior.tolist() == pytest.approx(theirs.tolist(), abs=1e-9)


def test_pairs_whose_posterior_is_zero_are_still_ranked():
    losses = torch.cat((0.01 * torch.rand(5000, generator=torch.Generator().manual_seed(0)), torch.linspace(50, 60, 9)))
    found = small_loss_posterior(losses)
    assert (found.posterior[-9:].float() == 0).all() and (found.log_posterior[-9:].diff() < 0).all()
    assert found.log_posterior.isfinite().all()


def test_unit_range():
    card = torch.tensor([0.106400, 0.111082, 4.830745, 0.109161], dtype=torch.float64)
    assert unit_range(card).tolist() == pytest.approx([0, 0.000991, 1, 0.000585], abs=1e-6)
    assert unit_range(torch.full((3,), 7.0)).tolist() == [0, 0, 0]


@pytest.mark.parametrize("n", [1, 2, 50])
def test_equal_losses_call_no_pair_noisy(n):
    found = small_loss_posterior(torch.full((n,), 2.5))
    assert found.fallback == "all losses are equal" and found.posterior.tolist() == [1.0] * n


def test_a_single_outlier_is_a_component_of_its_own():
    losses = torch.cat((torch.rand(500, generator=torch.Generator().manual_seed(0)), torch.tensor([50.0])))
    found = small_loss_posterior(losses)
    assert found.fallback == "" and found.posterior[-1] < 0.01 and found.posterior[:-1].min() > 0.99


@pytest.mark.parametrize(("means", "weights"), [((0.3, 0.3), (0.5, 0.5)), ((0.1, 0.9), (1.0, 0.0))])
def test_a_collapsed_mixture_is_stated_and_calls_no_pair_noisy(monkeypatch, means, weights):
    class Collapsed(mixture.GaussianMixture):
        def fit(self, x):
            super().fit(x)
            self.means_[:, 0], self.weights_[:] = means, weights
            return self

    monkeypatch.setattr(mixture, "GaussianMixture", Collapsed)
    found = small_loss_posterior(two_modes()[0])
    assert found.fallback == "the mixture collapsed" and (found.posterior == 1).all()


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_losses_that_are_not_finite_are_an_error(bad):
    with pytest.raises(NonFiniteError, match="1 of 4 losses"):
        small_loss_posterior(torch.tensor([1.0, 2.0, bad, 3.0]))


def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.mixture", None)
    with pytest.raises(DependencyError, match=r"rsbench\[methods\]"):
        small_loss_posterior(two_modes()[0])


def test_no_warning_leaks(recwarn):
    small_loss_posterior(torch.rand(200, generator=torch.Generator().manual_seed(1)))
    assert not recwarn.list

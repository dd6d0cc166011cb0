"""Division of pairs into likely clean and likely noisy by a mixture model of their losses.

The loss of mismatched pairs stays high for longer, so the losses of a data set have two modes.
Source: NCR (NeurIPS 2021); XLearning-SCU/2021-NeurIPS-NCR NCR/co_train.py:430-445, after DivideMix.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch
from torch import Tensor

from rsbench.errors import DependencyError, NonFiniteError

MAX_ITER, TOLERANCE, REGULARISATION = 10, 1e-2, 5e-4
"""Of the mixture, as in NCR NCR/co_train.py:438."""


@dataclass(frozen=True)
class Mixture:
    """Two normal distributions of scaled losses.

    Attributes:
        log_posterior: float64 ``[P]`` on the CPU, log probability of the component with the smaller mean. Its
            logarithm, as the probability itself rounds to 0 for the pairs that are believed most mismatched.
        means: of the scaled losses, smaller first.
        weights: of the two components.
        fallback: why the mixture was not used (then every posterior is 1: no pair is called noisy), else "".
    """

    log_posterior: Tensor
    means: tuple[float, float] = (0.0, 0.0)
    weights: tuple[float, float] = (1.0, 0.0)
    fallback: str = ""

    @property
    def posterior(self) -> Tensor:
        """Probability of the component with the smaller mean, float64 ``[P]``."""
        return self.log_posterior.exp()


def unit_range(losses: Tensor) -> Tensor:
    """Losses moved and scaled to [0, 1], float64; zeros if all are equal."""
    values = losses.detach().cpu().double()
    low, high = values.aminmax()
    return (values - low) / (high - low) if high > low else torch.zeros_like(values)


def small_loss_posterior(losses: Tensor) -> Mixture:
    """Probability of each pair to belong to the small-loss component of a two-component Gaussian mixture.

    Losses are scaled to [0, 1] first. Deterministic: the same losses give the same result.

    Args:
        losses: ``[P]``.

    Returns:
        The mixture. Where all losses are equal, or the mixture collapsed (a component holds less than half a pair, or
        both have one mean), its ``fallback`` says so and no pair is called noisy.

    Raises:
        NonFiniteError: a loss is NaN or infinite.
        DependencyError: scikit-learn is not installed.
    """
    finite = losses.isfinite()
    if not finite.all():
        raise NonFiniteError(
            f"{int((~finite).sum())} of {len(losses)} losses are NaN or infinite, so pairs cannot be divided; "
            "try a lower rate (--set recipe.lr=...) or --precision fp32"
        )
    scaled = unit_range(losses)
    if not scaled.any():
        return Mixture(torch.zeros_like(scaled), fallback="all losses are equal")
    return _fit(scaled)


def _fit(scaled: Tensor) -> Mixture:
    try:
        from sklearn.mixture import GaussianMixture
        from threadpoolctl import threadpool_limits
    except ImportError:
        raise DependencyError("a mixture model needs scikit-learn: pip install 'rsbench[methods]'") from None
    column = scaled.numpy()[:, None]
    model = GaussianMixture(2, max_iter=MAX_ITER, tol=TOLERANCE, reg_covar=REGULARISATION, random_state=0)
    # one thread: sums in the same order whatever the machine
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore")  # ten iterations need not converge, nor do they in NCR
        model.fit(column)
    order = model.means_[:, 0].argsort()
    means, variances, weights = (
        torch.from_numpy(x[order].reshape(2)) for x in (model.means_, model.covariances_, model.weights_)
    )
    low, high = means.tolist()
    share = (float(weights[0]), float(weights[1]))
    if high - low < 1e-6 or min(share) * len(scaled) < 0.5:
        return Mixture(torch.zeros_like(scaled), (low, high), share, "the mixture collapsed")
    joint = weights.log() - variances.log() / 2 - (scaled[:, None] - means).square() / (2 * variances)
    return Mixture(joint.log_softmax(-1)[:, 0], (low, high), share)

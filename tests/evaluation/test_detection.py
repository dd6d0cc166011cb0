from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from rsbench.errors import UsageError
from rsbench.evaluation import detection as module
from rsbench.evaluation.detection import auroc, average_precision, detection


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(-4, 4), st.booleans()), min_size=2, max_size=60))
def test_areas_agree_with_the_reference_ties_included(pairs):
    score = np.array([s for s, _ in pairs], dtype=float)
    truth = np.array([t for _, t in pairs])
    if 0 < truth.sum() < len(truth):
        assert auroc(score, truth) == pytest.approx(reference.roc_auc_score(truth, score))
        assert average_precision(score, truth) == pytest.approx(reference.average_precision_score(truth, score))


def test_mismatched_is_the_positive_class():
    clean = torch.tensor([0.9, 0.8, 0.1, 0.2, float("nan")])
    truth = torch.tensor([False, False, True, True, True])
    found = detection(clean, truth, None, "native", 4)
    assert found == {"detector": "native", "epoch": 4, "missing": 1, "auroc": 1.0, "ap": 1.0}


def test_division_agrees_with_the_reference_and_skips_pairs_not_visited():
    division = torch.tensor([0, 2, 2, 1, 2, -1], dtype=torch.int8)
    truth = np.array([False, True, False, True, True, True])
    found = detection(torch.zeros(6), truth, division, "native", 0)
    predicted, seen = (division == 2).numpy()[:5], truth[:5]
    assert found["precision"] == pytest.approx(reference.precision_score(seen, predicted))
    assert found["recall"] == pytest.approx(reference.recall_score(seen, predicted))
    assert found["f1"] == pytest.approx(reference.f1_score(seen, predicted))
    assert found["auroc"] == 0.5  # every score alike


def test_what_is_not_defined_is_left_out():
    found = detection(np.ones(3), np.zeros(3, dtype=bool), np.zeros(3, dtype=np.int8), "similarity", 1)
    assert found == {"detector": "similarity", "epoch": 1, "missing": 0}


def test_lengths_must_agree():
    with pytest.raises(UsageError, match="3 clean scores do not fit 2 training pairs"):
        detection(np.ones(3), np.ones(2), None, "native", 0)
    with pytest.raises(UsageError, match="a division of 3 pairs"):
        detection(np.ones(2), np.ones(2), np.ones(3), "native", 0)


def test_noisy_means_the_same_as_for_methods():
    from rsbench.methods import base

    assert module.NOISY == base.NOISY

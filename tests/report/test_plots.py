"""Figures are drawn from what they are given, and survive what real records hold."""

from __future__ import annotations

import importlib.util
import math
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from PIL import Image

from rsbench.errors import DependencyError
from rsbench.report import plots

EPOCHS = [0, 1, 2]


def areas(axis) -> list[float]:
    """Area under each histogram of a panel."""
    steps = [patch.get_data() for patch in axis.patches]
    return [float((values * np.diff(edges)).sum()) for values, edges, _ in steps]


def test_each_group_of_a_histogram_integrates_to_one_and_unvisited_pairs_are_left_out():
    values = np.array([0.0, 1.0, 2.0, 3.0, np.nan, np.inf, -5.0])
    wrong = np.array([False, False, True, True, True, False, True])
    figure = plots.histograms({"epoch 1": values}, wrong, "score")
    axis = figure.axes[0]
    assert areas(axis) == pytest.approx([1, 1])
    assert [t.get_text() for t in axis.get_legend().get_texts()] == ["clean (2)", "mismatched (3)"]
    assert axis.get_xlabel() == "score"


def test_without_truth_there_is_one_group():
    figure = plots.histograms({"a": np.arange(9.0), "b": np.ones(9)}, None)
    assert [len(axis.patches) for axis in figure.axes] == [1, 1]
    assert areas(figure.axes[1]) == pytest.approx([1]), "a constant is drawn, too"


def test_an_empty_group_and_nothing_at_all_are_drawn():
    figure = plots.histograms({"a": np.array([1.0, np.nan]), "b": np.full(2, np.nan)}, np.array([False, True]))
    assert [t.get_text() for t in figure.axes[0].get_legend().get_texts()] == ["clean (1)", "mismatched (0)"]


def test_curves_count_epochs_from_one_and_mark_the_best():
    figure = plots.curves(
        EPOCHS, {"AUROC": [0.5, math.nan, 0.9], "ap": [0.1, 0.2, 0.3]}, "share", best=1, limits=(0, 1)
    )
    lines = figure.axes[0].get_lines()
    assert list(lines[0].get_xdata()) == [1, 2, 3]
    assert list(lines[2].get_xdata()) == [2, 2], "best epoch"
    assert figure.axes[0].get_ylim() == (0, 1)


def test_small_curves_have_a_panel_each():
    figure = plots.small_curves(EPOCHS, {f"term{i}": [1.0, 2.0, 3.0] for i in range(5)})
    assert [axis.get_title() for axis in figure.axes] == [f"term{i}" for i in range(5)]


def test_parts_are_stacked_to_their_sum():
    shares = {"clean": [0.5, 0.6, 0.7], "ambiguous": [0.1, 0.1, 0.1], "noisy": [0.4, 0.3, 0.2]}
    purity = {"clean": [0.9, 1.0, 1.0], "noisy": [0.2, 0.1, math.nan]}
    both = plots.divisions(EPOCHS, shares, purity)
    tops = [p.get_y() + p.get_height() for p in both.axes[0].patches[-3:]]
    assert tops == pytest.approx([1, 1, 1])
    assert [line.get_color() for line in both.axes[1].get_lines()] == [plots.CLEAN, plots.MISMATCHED]
    assert len(plots.divisions(EPOCHS, shares, None).axes) == 1


def test_the_boundary_is_drawn_with_its_two_normals():
    terms = {
        "t_k": [0.3, 0.4, 0.5],
        "mu_pos": [0.6] * 3,
        "sd_pos": [0.1] * 3,
        "mu_neg": [0.2] * 3,
        "sd_neg": [0.05] * 3,
    }
    last = plots.boundary(EPOCHS, terms).axes[1]
    for line, (mean, deviation) in zip(last.get_lines()[:2], ((0.6, 0.1), (0.2, 0.05)), strict=True):
        x, y = line.get_xdata(), line.get_ydata()
        assert x[np.argmax(y)] == pytest.approx(mean, abs=0.01)
        assert float(np.trapezoid(y, x)) == pytest.approx(1, abs=1e-3), f"a normal of deviation {deviation}"
    assert list(last.get_lines()[2].get_xdata()) == [0.5, 0.5]
    collapsed = {**terms, "sd_neg": [0.0] * 3, "mu_pos": [math.nan] * 3}
    assert len(plots.boundary(EPOCHS, collapsed).axes[1].get_lines()) == 1, "normals without width are left out"


def test_files_are_whole_and_the_same_each_time(tmp_path):
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        plots.save(plots.curves(EPOCHS, {"x": [1.0, 2.0, 3.0]}), folder, "curve")
    assert Image.open(tmp_path / "a" / "curve.png").size[0] > 300
    assert ElementTree.parse(tmp_path / "a" / "curve.svg").getroot().tag.endswith("svg")
    for name in ("curve.png", "curve.svg"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_missing_extra_is_named(monkeypatch):
    original = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda n: None if n == "matplotlib" else original(n))
    with pytest.raises(DependencyError, match=r"need matplotlib; install with: pip install 'rsbench\[report\]'"):
        plots.require_extra()

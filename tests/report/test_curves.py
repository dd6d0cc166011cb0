"""Lines, points and their names: figures from plain arrays."""

from __future__ import annotations

import io
import itertools
import math
import warnings

import pytest
from synthetic_results import result_of, spec_of

from rsbench.report.build import build_tables
from rsbench.report.curves import (
    LONGEST,
    Band,
    Point,
    bands,
    mean_band,
    noise_bands,
    plain_label,
    points,
    row_label,
    styles,
)
from rsbench.report.table import Cell, Column, Row, Table

HOSTILE = ("_hidden", "$\\frac{", "a\x00b\x1b[31m", "x" * 300, "<script>", "ƒ\u202eabc", "")


def test_lines_of_a_wide_table(results):
    (table,) = build_tables(results, wide=True)
    lines = noise_bands(table)
    assert set(lines) == {"infonce", "srem"}
    assert lines["srem"].x == (0.0, 0.4)
    assert lines["srem"].mean == pytest.approx((21.5, 19.5))
    assert lines["srem"].std == pytest.approx((math.sqrt(0.5), math.sqrt(0.5)))


def test_one_seed_has_no_band_and_nan_leaves_a_gap():
    made = [result_of(spec_of(rate=r), 10.0 * r + 1) for r in (0, 0.2, 0.4)]
    made[1]["test"]["best"]["mr"] = float("nan")
    (table,) = build_tables(made, wide=True)
    (line,) = noise_bands(table).values()
    assert line.x == (0.0, 0.4)
    assert line.mean == pytest.approx((1.0, 5.0))
    assert all(map(math.isnan, line.std))


def test_settings_are_named_only_where_the_method_is_not_enough():
    columns = (Column("method", "Method"), Column("backbone", "Backbone"), Column("settings", "Settings"))
    rows = [
        ("srem", "toy", "epochs=9, batch_size=32", "srem, batch_size=32"),
        ("srem", "toy", "epochs=9, batch_size=128", "srem, batch_size=128"),
        ("rcl", "toy", "epochs=9, batch_size=128", "rcl, toy"),
        ("rcl", "lite", "epochs=9, batch_size=32", "rcl, lite"),
        ("vse", "lite", "epochs=9, batch_size=32", "vse"),
    ]
    table = Table("", columns, tuple(Row(tuple(map(Cell, row[:3])), "0") for row in rows))
    assert [row_label(table, i) for i in range(5)] == [row[3] for row in rows]


def test_mean_over_runs_is_the_plain_one():
    runs = [{0: 0.5, 1: 0.7, 2: 0.9}, {0: 0.6, 1: 0.9, 2: float("nan")}, {0: 0.1, 1: 0.8, 3: 1.0}]
    band = mean_band(runs)
    assert band.x == (1.0, 2.0)  # epoch 3 is NaN in one run and missing in another
    mean = [sum(run[e] for run in runs) / 3 for e in (0, 1)]
    std = [math.sqrt(sum((run[e] - m) ** 2 for run in runs) / 2) for e, m in zip((0, 1), mean, strict=True)]
    assert band.mean == pytest.approx(mean)
    assert band.std == pytest.approx(std)


@pytest.mark.parametrize("runs", [[], [{}], [{0: 1.0}, {}], [{0: float("nan")}], [{0: float("inf")}, {0: 1.0}]])
def test_no_common_epoch_is_no_line(runs):
    assert mean_band(runs) is None


def test_a_single_run_has_no_deviation():
    band = mean_band([{4: 0.5}])
    assert band.x == (5.0,) and math.isnan(band.std[0])


def test_lines_differ_without_colour():
    look = styles(map(str, range(20)))
    grey = [(how["marker"], how["ls"]) for how in look.values()]
    assert len(set(grey)) == 20
    full = [tuple(how.values()) for how in styles(map(str, range(140))).values()]
    assert all(a != b for a, b in itertools.combinations(full, 2))


@pytest.mark.parametrize("text", HOSTILE)
def test_labels_are_plain(text):
    label = plain_label(text)
    assert len(label.replace("\\$", "$")) <= LONGEST + 1
    assert not label.startswith("_")
    assert all(c.isprintable() for c in label)
    assert "$" not in label.replace(r"\$", "")


def test_hostile_names_are_drawn_without_a_warning():
    lines = {name: Band((0.0, 0.4), (1.0, 2.0), (0.1, math.nan)) for name in HOSTILE}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        svg = _svg(bands({"$\\bad": lines}, "noise rate", "mR, %"))
        _svg(points({"noise 0": {n: Point(1.0 + i, 2.0) for i, n in enumerate(HOSTILE)}}, "seconds", "mR, %"))
    assert "<script>" not in svg


def test_equal_arrays_are_equal_bytes():
    lines = {"srem": Band((0.0, 0.4), (2.0, 1.0), (0.1, 0.2)), "rcl": Band((0.0,), (1.5,), (math.nan,))}
    one, two = (_svg(bands({"a": lines, "b": lines}, "epoch", "AUROC", True)) for _ in range(2))
    assert one == two


def test_times_far_apart_are_drawn_on_a_logarithmic_axis():
    near = points({"": {"a": Point(1.0, 1.0), "b": Point(2.0, 1.0)}}, "s", "mR")
    far = points({"": {"a": Point(1.0, 1.0), "b": Point(20.0, 1.0)}}, "s", "mR")
    zero = points({"": {"a": Point(0.0, 1.0), "b": Point(20.0, 1.0)}}, "s", "mR")
    assert [f.axes[0].get_xscale() for f in (near, far, zero)] == ["linear", "log", "linear"]


def test_only_lines_with_deviations_get_a_band():
    lines = {"a": Band((0.0, 1.0), (1.0, 2.0), (0.1, 0.1)), "b": Band((0.0, 1.0), (1.0, 2.0), (math.nan, math.nan))}
    assert len(bands({"": lines}, "x", "y").axes[0].collections) == 1


def test_a_long_legend_fits_its_figure():
    figure = bands({"": {f"method {i}": Band((0.0, 1.0), (1.0, 2.0), (0.1, 0.1)) for i in range(40)}}, "x", "y")
    _svg(figure)
    box = figure.legends[0].get_window_extent()
    assert box.y0 >= 0 and box.y1 <= figure.bbox.height and box.x1 <= figure.bbox.width


def _svg(figure) -> str:
    import matplotlib

    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "x", "svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue().decode()

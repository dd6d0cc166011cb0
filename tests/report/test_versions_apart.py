"""Rows of different revisions or result schemas are never averaged, and a mix of versions is said."""

from __future__ import annotations

import pytest
from synthetic_results import result_of, spec_of

from rsbench.errors import UsageError
from rsbench.report.build import build_tables
from rsbench.report.groups import by_row


@pytest.mark.parametrize("what", ["method", "backbone", "dataset"])
def test_revisions_stand_in_rows_of_their_own(what):
    first = {"method": 1, "backbone": 1, "dataset": 1}
    runs = [result_of(spec_of(seed=s, revisions=r)) for s, r in enumerate((first, first, {**first, what: 2}))]
    assert sorted(len(g.runs) for g in by_row(runs)) == [1, 2]
    (table,) = build_tables(runs)
    at = [c.key for c in table.columns].index("settings")
    assert {row.cells[at].text for row in table.rows} == {f"revisions.{what}=1", f"revisions.{what}=2"}


@pytest.mark.parametrize("wide", [False, True])
def test_schemas_stand_in_rows_of_their_own(wide):
    runs = [result_of(spec_of(seed=s), schema=schema) for s, schema in enumerate((1, 1, 0))]
    (table,) = build_tables(runs, wide=wide)
    at = [c.key for c in table.columns].index("settings")
    assert {(row.cells[at].text, len(row.runs)) for row in table.rows} == {("schema=1", 2), ("schema=0", 1)}


def test_one_schema_says_nothing():
    (group,) = by_row([result_of(spec_of(seed=s)) for s in range(2)])
    assert "schema" not in group.settings


@pytest.mark.parametrize("field", ["revisions.method", "revisions.backbone", "revisions.dataset", "schema"])
def test_versions_cannot_be_pooled_even_on_request(field):
    with pytest.raises(UsageError, match=f"'{field}' cannot be pooled"):
        build_tables([result_of(spec_of())], pool=[field])


def test_a_row_of_several_package_versions_says_so():
    runs = [result_of(spec_of(seed=s), environment={"rsbench": v}) for s, v in enumerate(("0.1.0", "0.2.0"))]
    (table,) = build_tables(runs)
    assert len(table.rows) == 1, "the same revisions: the numbers are comparable"
    assert any("made by rsbench 0.1.0, 0.2.0" in note for note in table.notes)
    (table,) = build_tables(runs[:1])
    assert not any("made by rsbench" in note for note in table.notes)

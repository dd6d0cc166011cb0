"""A grid file against a crossing written out by hand, and every way to write one wrongly."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rsbench.errors import RsbenchError
from rsbench.experiment.grid import read_grid
from rsbench.experiment.request import read_config

FULL = """
dataset = "toy"
out = "r"
seeds = 9
[set]
"recipe.epochs" = 1
[matrix]
method = ["rcl", "srem"]
noise = [0, 0.4]
seeds = 2
set.method.tau = [0.1, 0.2]
[[exclude]]
method = "rcl"
noise = 0.0
[[exclude]]
method = "srem"
seeds = [1]
set.method.tau = 0.2
[[include]]
method = "srem:u"
seeds = 3
set."recipe.epochs" = 5
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "grid.toml"
    path.write_text(text)
    return path


def test_matrix_exclusions_and_additions(tmp_path: Path) -> None:
    *cells, added = read_grid(written(tmp_path, FULL)).parts()
    by_hand = [
        (method, noise, seed, tau)
        for method in ("rcl", "srem")
        for noise in ("0", "0.4")
        for seed in ("0", "1")
        for tau in ("0.1", "0.2")
        if not (method == "rcl" and noise == "0") and not (method == "srem" and seed == "1" and tau == "0.2")
    ]
    for part, (method, noise, seed, tau) in zip(cells, by_hand, strict=True):
        assert part == {
            "dataset": "toy", "out": "r", "method": method, "noise": noise, "seed_list": seed,
            "set": ["recipe.epochs=1", f"method.tau={tau}"],
        }  # fmt: skip
    assert added == {"dataset": "toy", "out": "r", "seeds": 3, "method": "srem:u", "set": ["recipe.epochs=5"]}


def test_a_file_of_flags_alone_is_one_part(tmp_path: Path) -> None:
    path = written(tmp_path, 'method = ["a", "b"]\nnoise = [0, 0.4]\nseeds = 2\n[set]\n"method.tau" = [1, 2]\n')
    assert read_grid(path).parts() == [read_config(path)]
    only_more = read_grid(written(tmp_path, 'dataset = "toy"\n[[include]]\nmethod = "rcl"\n'))
    assert only_more.parts() == [{"dataset": "toy", "method": "rcl"}]


def test_committed_grids_are_read_as_before() -> None:
    for path in sorted((Path(__file__).parents[2] / "benchmarks" / "grids").glob("*.toml")):
        grid = read_grid(path)
        if grid.flat:
            assert grid.parts() == [read_config(path)]


def test_typed_flags_take_the_place_of_axes_and_of_the_rest(tmp_path: Path) -> None:
    grid = read_grid(written(tmp_path, FULL))
    typed = {"noise": "0.4,0.6", "seed_list": "7", "dataset": "rsicd", "set": ["method.tau=0.1", "recipe.lr=1,2"]}
    *cells, added = grid.parts(typed)
    assert [(c["method"], c["noise"]) for c in cells] == [
        ("rcl", "0.4"), ("rcl", "0.6"), ("srem", "0.4"), ("srem", "0.6")
    ]  # fmt: skip
    assert {c["seed_list"] for c in cells} == {"7"}
    assert all("dataset" not in c for c in cells), "what was typed stands"
    assert set(cells[0]["set"]) == {"recipe.epochs=1", "recipe.lr=1,2", "method.tau=0.1"}
    assert "seeds" not in added and "noise" not in added
    assert set(added["set"]) == {"recipe.epochs=5", "recipe.lr=1,2", "method.tau=0.1"}


MATRIX = "[matrix]\nmethod = ['a', 'b']\nnoise = [0, 0.4]\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("metod = 'a'", "'metod'; did you mean method"),
        ("[matrx]\nnoise = [0]", "'matrx'; did you mean matrix"),
        ("[matrix]\nnois = [0]", "'nois'; did you mean noise"),
        ("[matrix]\nout = ['a', 'b']", "'out' holds for the whole grid"),
        ("[matrix]\nnoise = []", "must be a list of values"),
        ("[matrix]\nseeds = 0", "must be a list of values"),
        ("[matrix]\nset = 3", "'set' must be a table"),
        ("[matrix]\nnoise = [[0]]", "must be a list of values"),
        ("matrix = 3", "'matrix' must be a table"),
        ("set = 3\n" + MATRIX, "'set' must be a table"),
        ("jobs = 'two'\n" + MATRIX, "'jobs' must be a whole number"),
        ("benchmark = 'x'\n" + MATRIX, "takes no .matrix."),
        (MATRIX + "[[exclude]]\nmetod = 'a'", "did you mean method"),
        (MATRIX + "[[exclude]]\nseeds = 1", "key of ..exclude.. in .* 'seeds'"),
        (MATRIX + "[[exclude]]", "is empty and would take every cell out"),
        (MATRIX + "[[exclude]]\nnoise = 0.3", r"exclusion 1 \(noise = 0.3\) takes nothing out"),
        (MATRIX + "[exclude]\nnoise = 0.4", "'exclude' must be tables"),
        (MATRIX + "[[include]]\nmetod = 'a'", "did you mean method"),
        (MATRIX + "[[include]]\njobs = 3", "'jobs' holds for the whole grid"),
    ],
)
def test_wrong_files_are_named(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(RsbenchError, match=says):
        read_grid(written(tmp_path, text))


VALUES = st.lists(st.integers(0, 3), min_size=1, max_size=3, unique=True)


@settings(max_examples=60, deadline=None)
@given(noise=VALUES, seeds=VALUES, taus=VALUES, rules=st.lists(st.tuples(*[st.integers(0, 3) | st.none()] * 3)))
def test_cells_are_those_that_no_rule_names(tmp_path_factory, noise, seeds, taus, rules) -> None:
    names = ("noise", "seeds", '"set.method.tau"')
    text = "[matrix]\n" + "".join(f"{n} = {v}\n" for n, v in zip(names, (noise, seeds, taus), strict=True))
    rules = [r for r in rules if any(v is not None for v in r)]
    for rule in rules:
        text += "[[exclude]]\n" + "".join(f"{n} = {v}\n" for n, v in zip(names, rule, strict=True) if v is not None)
    path = tmp_path_factory.mktemp("grid") / "g.toml"
    path.write_text(text)
    kept, hit = [], set()
    for cell in [(a, b, c) for a in noise for b in seeds for c in taus]:
        against = [i for i, r in enumerate(rules) if all(w is None or w == v for w, v in zip(r, cell, strict=True))]
        hit |= set(against)
        kept += [] if against else [cell]
    if len(hit) < len(rules):
        with pytest.raises(RsbenchError, match="takes nothing out"):
            read_grid(path)
        return
    found = [(c["noise"], c["seeds"], c["set.method.tau"]) for c in read_grid(path).cells()]
    assert found == kept

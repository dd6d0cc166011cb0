"""Published tables as runs: what each row stands for, and why some cannot run."""

from __future__ import annotations

from pathlib import Path

import pytest

from rsbench import registry
from rsbench.data.lifecycle import open_dataset
from rsbench.errors import UnknownNameError, UsageError
from rsbench.experiment.benchmarks import Benchmark, Changes, benchmark_names, load_benchmark, resolve_benchmark
from rsbench.experiment.resolve import split_variant
from rsbench.registry import METHODS, Entry
from rsbench.results.published import load_published
from rsbench.results.published_names import names

TOY = Changes(
    datasets=("toy",), fields={"backbone": "toy", "tuning": "heads", "recipe": "common"}, seeds=1
)  # fmt: skip


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    """A data root with nothing in it."""
    return tmp_path / "empty"


@pytest.fixture(scope="module")
def on_toy(data_root: Path) -> Benchmark:
    open_dataset("toy", data_root)
    return resolve_benchmark(load_benchmark("rrsitr-table1", data_root, TOY), data_root)


def of(benchmark: Benchmark, method: str) -> list:
    return [line for line in benchmark.lines if split_variant(line.request.methods[0])[0] == method]


def test_every_table_has_a_name_and_every_row_a_line(empty: Path) -> None:
    assert len(benchmark_names()) == 18
    lines = [line for name in benchmark_names() for line in load_benchmark(name, empty).lines]
    assert [line.row for line in lines] == load_published()


@pytest.mark.parametrize("name", benchmark_names())
def test_nothing_prepared_is_a_reason_and_no_crash(name: str, empty: Path) -> None:
    table = resolve_benchmark(load_benchmark(name, empty), empty)
    assert not table.runnable and not table.specs
    assert all(reason for line in table.lines for reason in line.reasons)
    assert not empty.exists(), "a plan writes nothing"


def test_rrsitr_runs_as_its_paper_did(empty: Path) -> None:
    lines = of(load_benchmark("rrsitr-table1", empty), "rrsitr")
    assert [line.request.rates for line in lines] == [(0.2,), (0.4,), (0.6,), (0.8,)]
    request = lines[0].request
    assert request.seeds == (3, 13, 25, 42, 65)
    assert (request.datasets, request.split, request.kind, request.unit) == (
        ("rsitmd",),
        "rrsitr",
        "shuffle",
        "caption",
    )
    assert (request.backbone, request.recipe) == ("clip-vit-b32", "paper")
    assert lines[0].reasons == ("dataset 'rsitmd' is not prepared: rsbench prepare rsitmd",)


def test_backbone_and_noise_of_each_paper(empty: Path) -> None:
    def first(name: str, method: str):
        return of(load_benchmark(name, empty), method)[-1].request

    assert first("pmpguard-table1", "pmpguard").backbone == "swin-bert"
    geo = first("pmpguard-table2", "pmpguard")
    assert (geo.backbone, geo.kind) == ("georsclip-vit-b32", "pmp")
    rdb = first("rdb-table1", "rdb")
    assert (rdb.backbone, rdb.rates) == ("georsclip-vit-b32-ret2", (0.0,))
    recon = first("recon-table2", "recon")
    assert (recon.backbone, recon.seeds) == ("regions", (0,))
    assert first("recon-table2", "scan").backbone == "regions", "all rows of this paper use region features"
    real = first("srem-table2", "srem")
    assert (real.kind, real.rates) == ("real", (0.0,))


def test_missing_methods_come_from_the_registry(empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = "method 'amfmn' is not implemented yet"
    assert all(missing in line.reasons for line in of(load_benchmark("rrsitr-table1", empty), "amfmn"))
    entry = Entry("amfmn", "rsbench.methods.cards.rcl:CARD", "for this test")
    monkeypatch.setitem(METHODS._entries, "amfmn", entry)
    for line in of(load_benchmark("rrsitr-table1", empty), "amfmn"):
        assert missing not in line.reasons
        assert "RRSITR states no backbone for AMFMN; give --backbone" in line.reasons


def test_missing_extras_are_a_reason(empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = Entry("srem", "rsbench.methods.cards.srem:CARD", "for this test", "methods", ("no_such_module",))
    monkeypatch.setitem(METHODS._entries, "srem", entry)
    line = of(load_benchmark("srem-table2", empty), "srem")[0]
    assert any("pip install 'rsbench[methods]'" in reason for reason in line.reasons)


def test_ablations_are_variants_of_ours(empty: Path) -> None:
    names = [line.request.methods[0] for line in load_benchmark("rrsitr-table4", empty).lines]
    assert names == [
        "rrsitr:no_local", "rrsitr:no_spl", "rrsitr:no_rtl", "rrsitr:baseline", "rrsitr:spl_hard_to_easy",
        "rrsitr:spl_random", "rrsitr:no_ambiguous", "rrsitr:fixed_margin", "rrsitr:full",
    ]  # fmt: skip
    assert [line.request.methods[0] for line in load_benchmark("srem-table3", empty).lines] == [
        "srem:none", "srem:u", "srem:u+w", "srem:u+w+c_uniform", "srem:full"
    ]  # fmt: skip


@pytest.mark.parametrize("paper", [p for p in names()["variants"] if p in METHODS.names()])
def test_mapped_variants_exist(paper: str) -> None:
    assert set(names()["variants"][paper].values()) <= set(METHODS.load(paper).variants)


def test_a_variant_that_is_not_ours_is_a_reason(empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS._entries, "recon", METHODS.entry("srem"))
    line = next(li for li in load_benchmark("recon-table4", empty).lines if li.row.variant == "lambda")
    assert "no variant of method 'recon' is known for 'lambda'" in line.reasons


def test_every_printed_ablation_is_mapped_or_known_to_be_unclear() -> None:
    printed = {(r.paper, r.variant) for r in load_published() if r.variant}
    mapped = {(paper, words) for paper, found in names()["variants"].items() for words in found}
    assert printed - mapped == {("recon", "lambda"), ("rdb", "full fine-tuning baseline")}
    assert mapped <= printed, "no name in the table of variants is misspelt"


def test_mapped_names_are_printed_somewhere() -> None:
    rows = load_published()
    assert set(names()["backbones"]) <= {r.backbone for r in rows}
    assert set(names()["methods"]) <= {r.method for r in rows}
    assert set(names()["datasets"]) <= {r.dataset for r in rows}


def test_a_method_without_published_recipe_names_the_way_out(empty: Path) -> None:
    line = of(load_benchmark("rdb-table1", empty), "infonce")[0]
    assert "method 'infonce' has no published recipe; --recipe common runs it" in line.reasons
    common = load_benchmark("rdb-table1", empty, Changes(fields={"recipe": "common"}))
    assert not any("recipe" in reason for line in of(common, "infonce") for reason in line.reasons)


@pytest.mark.skipif("rrsitr" not in registry.METHODS.names(), reason="needs rrsitr")
def test_a_table_on_toy_runs_what_is_implemented(on_toy: Benchmark) -> None:
    assert [s.noise.rate for s in on_toy.specs] == [0.2, 0.4, 0.6, 0.8]
    spec = on_toy.specs[0]
    assert (spec.method, spec.dataset, spec.split, spec.backbone, spec.seed) == ("rrsitr", "toy", "official", "toy", 3)
    assert on_toy.changed == ("dataset toy", "backbone toy", "tuning heads", "recipe common")
    assert len(on_toy.lines) == 44


def test_rows_that_repeat_each_other_share_their_runs(data_root: Path) -> None:
    table = resolve_benchmark(load_benchmark("srem-table1", data_root, TOY), data_root)
    assert len(of(table, "srem")) == 6 and len(of(table, "rcl")) == 6
    assert len([s for s in table.specs if s.method == "srem"]) == 3, "both datasets of the table became toy"


def test_narrowing(empty: Path) -> None:
    table = load_benchmark("rdb-table1", empty, Changes(datasets=("rsicd",)))
    assert {line.row.dataset for line in table.lines} == {"rsicd"} and table.changed == ()
    table = load_benchmark("rrsitr-table1", empty, Changes(rates=(0.8,), seeds=2))
    assert len(table.lines) == 11 and table.lines[0].request.seeds == (3, 13)
    table = load_benchmark("rrsitr-table1", empty, Changes(fields={"seeds": (7,)}))
    assert table.lines[0].request.seeds == (7,) and table.changed == ()
    assert load_benchmark("recon-table3", empty, Changes(datasets=("coco5k",))).lines[0].request.datasets == ("coco",)


def test_a_scorer_goes_to_pseudo_matched_rows_alone(empty: Path) -> None:
    table = load_benchmark("pmpguard-table2", empty, Changes(fields={"scorer": "run:abc"}))
    assert {(line.row.noise_kind, line.request.scorer) for line in table.lines} == {("none", None), ("pmp", "run:abc")}


@pytest.mark.parametrize(
    ("name", "changes", "error", "says"),
    [
        ("rrsitr-table9", Changes(), UnknownNameError, "did you mean rrsitr-table"),
        ("rrsitr-table1", Changes(rates=(0.3,)), UsageError, "it has noise rates 0.2, 0.4, 0.6, 0.8"),
        ("rrsitr-table1", Changes(seeds=6), UsageError, "this paper ran 5"),
        ("rdb-table1", Changes(datasets=("rsicd", "toy")), UsageError, "not both"),
        ("rdb-table1", Changes(datasets=("toi",)), UnknownNameError, "did you mean toy"),
        ("rdb-table1", Changes(fields={"backbone": "lita"}), UnknownNameError, "did you mean lite"),
    ],
)
def test_bad_wishes(name: str, changes: Changes, error: type, says: str, empty: Path) -> None:
    with pytest.raises(error, match=says):
        load_benchmark(name, empty, changes)


def test_what_only_resolving_finds_is_a_reason_too(data_root: Path) -> None:
    fields = {**TOY.fields, "settings": {"recipe.batch_size": ("1",)}}
    table = resolve_benchmark(load_benchmark("srem-table2", data_root, Changes(("toy",), fields=fields)), data_root)
    (line,) = of(table, "srem")
    assert line.reasons == ("recipe.batch_size is 1; it must be 2 or more",)

"""The static site: complete, linked, escaped, the same bytes again, and written whole or not at all."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from synthetic_results import result_of, spec_of

from rsbench.errors import UsageError
from rsbench.report import site as site_module
from rsbench.report.build import build_tables
from rsbench.report.pages import chart, file_name, method_path, run_path
from rsbench.report.site import Gallery, Material, MethodFacts, write_site
from rsbench.report.site_folder import MARKER, check_folder, new_folder

HOSTILE = "<script>alert('x')</script> \" onerror=x {{ 7*7 }} & <img src=http://evil.example/x>\x1b[31m $\\frac{"


class Page(HTMLParser):
    """Tags with attributes, text, and cells of each row of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.said, self._cell = "", False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        self._cell = tag in ("td", "th") or (self._cell and tag not in ("table", "p"))

    def handle_endtag(self, tag):
        self._cell = self._cell and tag not in ("td", "th")

    def handle_data(self, data):
        self.said += data
        if self._cell:
            self.rows[-1][-1] += data

    def addresses(self) -> list[str]:
        return [v for _, a in self.tags for k, v in a.items() if k in ("href", "src") and v is not None]


def history_of(result, values=(0.6, 0.8, 0.7)):
    lines = []
    for epoch, auroc in enumerate(values):
        line = {"epoch": epoch, "loss": 1 / (epoch + 1), "val": {"mr": 10.0 + epoch}}
        if result["spec"]["noise"]["rate"] > 0:
            line["pairs"] = {"detection": {"auroc": auroc}}
        lines.append(line)
    return lines


def material_of(results, **changes) -> Material:
    for result in results:
        result["time"] = {"train": 5.0 + result["spec"]["seed"]}
    methods = [MethodFacts(m, m, params=[["tau", "1", "paper", ""]]) for m in _methods(results)]
    return Material(results, {r["hash"]: history_of(r) for r in results}, methods=methods, **changes)


def _methods(results):
    return sorted({r["spec"]["method"] for r in results})


@pytest.fixture
def made(results, tmp_path) -> Path:
    write_site(material_of(results), tmp_path / "report")
    return tmp_path / "report"


def read(path: Path) -> Page:
    return Page(path.read_text(encoding="utf-8"))


def pages(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.html"))


def contents(folder: Path) -> dict[Path, bytes]:
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_every_link_and_picture_is_there(made):
    seen = set()
    for path in pages(made):
        for address in read(path).addresses():
            parts = urlsplit(address)
            if parts.scheme == "data":
                continue
            assert not parts.scheme and not parts.netloc
            target = (path.parent / unquote(parts.path)).resolve()
            assert target.is_file(), f"{path.name}: {address}"
            seen.add(target)
    reached = {p.resolve() for p in pages(made)} - seen
    assert reached == set()  # every page is linked from some other one


def test_nothing_foreign_and_no_script_in_the_pages(made):
    for path in pages(made):
        found = read(path)
        scripts = [a for tag, a in found.tags if tag == "script"]
        assert [Path(a["src"]).name for a in scripts] == ["site.js"]
        assert not [k for _, a in found.tags for k in a if k.startswith("on") or k == "style"]
    for name in ("site.js", "site.css"):
        assert not re.search(r"https?:|//[a-z]|innerHTML|eval\(", (made / name).read_text(encoding="utf-8"))


def test_the_leaderboard_holds_every_row_of_the_tables(made, results):
    (table,) = build_tables(results)
    rows = read(made / "index.html").rows
    assert len(rows) == 1 + len(table.rows)
    head = [h.strip() for h in rows[0]]
    at = [c.key for c in table.columns]
    shown = {(r[head.index("Rate")], r[head.index("Method")]): r for r in rows[1:]}
    for row in table.rows:
        line = shown[row.cells[at.index("noise")].text, row.cells[at.index("method")].text]
        assert " ".join(line[head.index("mR")].split()) == row.cells[at.index("mr")].text
        assert line[head.index("n")] == "2"


def test_cells_carry_full_numbers_for_sorting_and_heads_their_filters(made):
    found = read(made / "index.html")
    values = [float(a["data-value"]) for tag, a in found.tags if tag == "td" and "data-value" in a]
    assert 19.5 in values
    filters = [a["data-key"] for tag, a in found.tags if tag == "th" and "data-filter" in a]
    assert filters == ["dataset", "noise_kind", "noise", "method", "backbone", "recipe"]


def test_figures_have_words_instead(made):
    alts = [a["alt"] for page in pages(made) for tag, a in read(page).tags if tag == "img"]
    assert len(alts) == 4  # curves, cost, detection, ranks
    assert all(len(alt) > 60 for alt in alts)
    assert "srem: 21.50 at 0, 19.50 at 0.4." in " ".join(alts)


def test_detection_is_the_mean_per_epoch_over_seeds(results, tmp_path):
    given = material_of(results)
    for name, lines in given.histories.items():
        seed = next(r["spec"]["seed"] for r in results if r["hash"] == name)
        for line in lines:
            if "pairs" in line:
                line["pairs"]["detection"]["auroc"] += 0.1 * seed
    write_site(given, tmp_path / "report")
    rows = read(tmp_path / "report" / "detection.html").rows
    plain = [[" ".join(c.split()) for c in row] for row in rows]
    assert ["0.4", "srem", "0.650 ± 0.071", "0.750 ± 0.071", "0.850", "2"] in plain


def test_a_page_of_a_run_shows_spec_history_and_warnings(results, tmp_path):
    results[0]["warnings"] = ["odd <numbers>"]
    results[0]["environment"] |= {"device": "cpu", "threads": 1}
    write_site(material_of(results), tmp_path / "report")
    found = read(tmp_path / "report" / run_path(results[0]["hash"]))
    assert "odd <numbers>" in found.said
    rows = [[c.strip() for c in row] for row in found.rows]
    assert ["recipe.batch_size", str(results[0]["spec"]["recipe"]["batch_size"])] in rows
    assert ["device", "cpu"] in rows
    assert ["epoch", "loss", "val.mr"] in rows
    assert ["2", "0.5", "11"] in rows
    assert [tag for tag, _ in found.tags].count("svg") == 2  # validation mR and loss; no noise, no AUROC


def test_hostile_names_stay_text(tmp_path):
    made = [result_of(spec_of(rate=r, seed=s), 20.0 + s) for r in (0, 0.4) for s in (0, 1)]
    for run in made:
        run["spec"]["method"], run["spec"]["dataset"], run["warnings"] = HOSTILE, "../" + HOSTILE, [HOSTILE]
    made[0]["hash"] = "../../" + HOSTILE
    given = material_of(made)
    given.histories[made[0]["hash"]][0][HOSTILE] = 1.0
    write_site(given, tmp_path / "report")
    assert [p.name for p in tmp_path.iterdir()] == ["report"]
    for path in pages(tmp_path / "report"):
        found = read(path)
        assert "evil.example" not in " ".join(found.addresses())
        assert [tag for tag, _ in found.tags].count("script") == 1
        assert not [k for _, a in found.tags for k in a if k.startswith("on")]
        assert "\x1b" not in path.read_text(encoding="utf-8")
    assert "<script>alert('x')</script>" in read(tmp_path / "report" / "index.html").said


def test_names_of_files_stay_in_their_folder_and_apart():
    names = ["srem", "SREM", "../x", "..", "", "a/b", "a\\b", "x" * 300, "x" * 301, "con:", "é"]
    made = [file_name(n) for n in names]
    assert made[0] == "srem"
    assert len({m.lower() for m in made}) == len(names)
    assert all(re.fullmatch(r"[a-z0-9_][a-z0-9_.-]*", m) and len(m) < 80 for m in made)


def test_one_seed_nan_failed_and_copies(tmp_path):
    made = [result_of(spec_of(m, 0.4, 0), 20.0) for m in ("srem", "vse", "rcl")]
    made[1]["test"]["best"]["mr"] = "NaN"
    made[2] |= {"status": "failed", "error": "loss was NaN"}
    made[0]["warnings"] = ["run x is stored twice with other numbers: y was left out"]
    write_site(material_of(made), tmp_path / "report")
    index = read(tmp_path / "report" / "index.html")
    rows = {r[3]: r for r in index.rows[1:]}
    assert set(rows) == {"srem", "vse"}
    assert rows["srem"][4] == "20.00" and rows["vse"][4] == "NaN in 1 of 1"
    assert "rows with n = 1 have no ±" in index.said and "stored twice" in index.said
    assert "1 failed runs count nowhere" in index.said
    assert "loss was NaN" in read(tmp_path / "report" / run_path(made[2]["hash"])).said
    assert "No ranking" in read(tmp_path / "report" / "statistics.html").said


def test_only_failed_runs_make_a_site_that_says_so(tmp_path):
    failed = result_of(spec_of(), 1.0, status="failed", error="disk full")
    write_site(material_of([failed]), tmp_path / "report")
    assert "none of the 1 runs is finished" in read(tmp_path / "report" / "index.html").said


def test_validation_runs_are_marked(tmp_path):
    write_site(material_of([result_of(spec_of(held_out=False), 30.0)]), tmp_path / "report")
    assert "rsicd, split rrsitr (VALIDATION)" in read(tmp_path / "report" / "index.html").said


def test_the_same_results_give_the_same_bytes(results, tmp_path):
    for name in ("one", "two"):
        write_site(material_of(results), tmp_path / name)
    one, two = (contents(tmp_path / name) for name in ("one", "two"))
    assert one.keys() == two.keys()
    assert [str(p) for p in one if one[p] != two[p]] == []


def test_an_older_report_is_replaced_whole(made, results):
    gone = made / run_path(results[0]["hash"])
    assert gone.is_file()
    write_site(material_of(results[1:]), made)
    assert not gone.exists() and (made / "index.html").is_file()
    assert [p.name for p in made.parent.iterdir()] == ["report"]


def test_what_is_not_ours_stays(made, tmp_path):
    (made / "runs" / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"holds other files too \(runs/notes.txt is not ours\)"):
        check_folder(made)
    other = tmp_path / "other"
    other.mkdir()
    check_folder(other)  # an empty folder may be taken
    (other / "thesis.tex").write_text("mine")
    with pytest.raises(UsageError, match="is no report"), new_folder(other):
        pass
    with pytest.raises(UsageError, match="is no folder"):
        check_folder(other / "thesis.tex")
    with pytest.raises(UsageError, match="mkdir -p"):
        check_folder(tmp_path / "a" / "b")
    (tmp_path / "link").symlink_to(made)
    with pytest.raises(UsageError, match="is no folder"):
        check_folder(tmp_path / "link")
    assert (other / "thesis.tex").read_text() == "mine"


def test_a_writer_that_fails_leaves_the_older_report(made, results, monkeypatch):
    before = contents(made)

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(site_module, "run_page", full)
    with pytest.raises(OSError, match="No space"):
        write_site(material_of(results[1:]), made)
    assert contents(made) == before
    assert [p.name for p in made.parent.iterdir()] == ["report"]


def test_the_marker_lists_what_is_there(made):
    listed = (made / MARKER).read_text(encoding="utf-8").splitlines()
    there = sorted(p.relative_to(made).as_posix() for p in made.rglob("*") if p.is_file() and p.name != MARKER)
    assert listed == there


def test_galleries_are_linked_and_lead_back(results, tmp_path):
    gallery = Gallery("srem-toy-pairs", "srem", "toy", "Pairs <of> toy", "<html><body>\nshown</body></html>")
    write_site(material_of(results, galleries=[gallery], warnings=["not to be published"]), tmp_path / "report")
    top = read(tmp_path / "report" / "galleries.html")
    assert "galleries/srem-toy-pairs.html" in top.addresses() and "Pairs <of> toy" in top.said
    assert "../galleries/srem-toy-pairs.html" in read(tmp_path / "report" / method_path("srem")).addresses()
    assert "../galleries.html" in read(tmp_path / "report" / gallery.path).addresses()
    for name in ("index", "galleries"):
        assert "not to be published" in read(tmp_path / "report" / f"{name}.html").said


def test_method_pages_show_their_own_rows_without_marks(made):
    text = (made / method_path("srem")).read_text(encoding="utf-8")
    found = Page(text)
    assert {r[3] for r in found.rows if len(r) > 10} == {"Method", "srem"}
    assert "<strong>" not in text and ["tau", "1", "paper", ""] in found.rows


def test_a_history_that_is_not_there_is_said(results, tmp_path):
    name, other = results[0]["hash"], results[1]["hash"]
    given = material_of(results, damaged={name: "history.jsonl cannot be read (x)."})
    given.histories.pop(name), given.histories.pop(other)
    write_site(given, tmp_path / "report")
    assert "cannot be read (x)" in read(tmp_path / "report" / run_path(name)).said
    assert "No history is kept" in read(tmp_path / "report" / run_path(other)).said


def test_progress_reaches_its_end(results, tmp_path):
    told = {}
    write_site(material_of(results), tmp_path / "report", lambda what, done, total: told.update({what: (done, total)}))
    assert told["pages of runs"] == (len(results), len(results)) and told["pages with figures"] == (4, 4)


def test_a_chart_leaves_gaps():
    made = chart("loss", [1.0, float("nan"), 3.0, 2.0], best=2)
    assert made.path == "M6.0 90.0M171.3 6.0L254.0 48.0" and made.best == 171.3 and made.dots == ()
    assert "from 1 to 2 (lowest 1, highest 3)" in made.alt
    flat = chart("loss", [2.0])
    assert flat.dots == ((6.0, 90.0),) and flat.best is None


def test_differences_to_the_base_method(made):
    rows = [r for r in read(made / "statistics.html").rows if len(r) > 4]
    head = rows[0]
    line = next(r for r in rows[1:] if r[:2] == ["0.4", "srem"])
    assert float(line[head.index("Difference")].split()[0]) == pytest.approx(4.0)

"""`rsbench query` in the terminal, as JSON and as a page."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from rsbench.cli.app import main
from rsbench.data.lifecycle import open_dataset
from rsbench.errors import UsageError
from rsbench.experiment.request import Request
from rsbench.experiment.resolve import resolve
from rsbench.experiment.run import Options, execute
from rsbench.report.retrieved import Found, Hit, render_retrieved
from rsbench.report.retrieved_figure import draw_retrieved

HOSTILE = "<script>alert('x')</script> \" onerror=x {{ 7 * 7 }} & <img src=http://evil.example/x>"


class Tags(HTMLParser):
    """Names, attributes and text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def classes(self, tag):
        return [a.get("class") for name, a in self.tags if name == tag]


@pytest.fixture(scope="module")
def run(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("results")
    (spec,) = resolve(Request(("infonce",), ("toy",), settings={"recipe.epochs": ("1",)}), data_root)
    execute(spec, Options(data_root, out, "cpu"))
    return out / spec.hash


@pytest.fixture
def ask(run, data_root, capsys):
    def call(*words, code=0):
        assert main(["query", str(run), *map(str, words), "--root", str(data_root)]) == code
        return capsys.readouterr()

    return call


def test_a_text_in_the_terminal_and_as_json(ask, data_root):
    data = open_dataset("toy", data_root)
    told = ask("a river beside a stadium", "-k", "3").out.splitlines()
    found = json.loads(ask("a river beside a stadium", "-k", "3", "--json").out)
    assert told[2] == "query: a river beside a stadium"
    assert told[4].split() == ["rank", "score", "image", "captions"], "nothing is known of a new text, so no marks"
    assert [line.split()[:3] for line in told[5:]] == [
        [str(h["rank"]), f"{h['score']:.4f}", h["image"]] for h in found["hits"]
    ]
    scores = [h["score"] for h in found["hits"]]
    assert len(scores) == 3 and scores == sorted(scores, reverse=True)
    assert {h["right"] for h in found["hits"]} == {None}
    test = {data.filenames[i] for i in data.part("official", "test")}
    assert {h["image"] for h in found["hits"]} <= test


def test_own_captions_are_marked_beside_the_score(ask, data_root):
    data = open_dataset("toy", data_root)
    image = int(data.part("official", "test")[0])
    lines = ask("--image", data.filenames[image], "-k", "40").out.splitlines()
    assert lines[4].split()[:4] == ["rank", "score", "own", "captions"]
    own = {data.captions[c] for c in data.captions_of[image]}
    signs = [(line.split()[2], any(text in line for text in own)) for line in lines[5:]]
    assert {s for s, _ in signs} == {"✓", "✗"}
    assert all((sign == "✓") == right for sign, right in signs)


def test_another_part(ask, data_root):
    data = open_dataset("toy", data_root)
    found = json.loads(ask("a river", "--part", "val", "--json").out)
    assert {h["image"] for h in found["hits"]} <= {data.filenames[i] for i in data.part("official", "val")}
    assert (found["dataset"], found["part"]) == ("toy", "val")


def test_a_page_of_one_query(ask, tmp_path):
    told = ask("two blue cars", "-o", tmp_path / "page.html").out
    assert told.splitlines()[-1] == f"wrote {tmp_path / 'page.html'}"
    page = Tags((tmp_path / "page.html").read_text(encoding="utf-8"))
    pictures = [a["src"] for name, a in page.tags if name == "img"]
    assert len(pictures) == 5 and all(p.startswith("data:image/jpeg;base64,") for p in pictures)
    assert page.classes("li") == ["plain"] * 5
    assert "two blue cars" in page.text


def test_a_gallery_shows_both_directions_with_signs(ask, tmp_path):
    ask("--gallery", 8, "-o", tmp_path / "a.html")
    ask("--gallery", 8, "-o", tmp_path / "b.html")
    ask("--gallery", 8, "-o", tmp_path / "c.html", "--seed", 1)
    first, again, other = ((tmp_path / f"{n}.html").read_text(encoding="utf-8") for n in "abc")
    assert first == again != other
    page = Tags(first)
    marks = page.classes("li")
    assert len(marks) == 2 * 8 * 5 and set(marks) == {"right", "wrong"}
    assert page.text.count("✓ right") == marks.count("right") + 1, "every colour has its sign; one in the legend"
    assert page.text.count("✗ wrong") == marks.count("wrong") + 1
    assert len([1 for name, _ in page.tags if name == "img"]) == 8 + 8 * 5


def test_hostile_texts_are_shown_and_not_obeyed():
    pixels = np.zeros((8, 8, 3), np.uint8)
    hits = (Hit(0.5, HOSTILE, (HOSTILE,), pixels, True), Hit(0.4, HOSTILE, (HOSTILE,), None, False))
    text = render_retrieved(HOSTILE, [(HOSTILE, HOSTILE)], [(HOSTILE, [Found(HOSTILE, pixels, hits)])], [HOSTILE])
    page = Tags(text)
    assert "script" not in [name for name, _ in page.tags]
    assert page.text.count(HOSTILE) == 11
    assert not any(key.startswith("on") for _, a in page.tags for key in a)
    links = [v for _, a in page.tags for k, v in a.items() if k in ("src", "href")]
    assert all(v.startswith("data:") for v in links) and not re.search(r"@import|url\(", text)
    assert page.classes("li") == ["right", "wrong"]


def test_control_characters_do_not_reach_the_terminal(ask):
    out = ask("a river \x1b[31m\x07 \udcff").out
    assert "\x1b" not in out and "\x07" not in out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "give one of a text"),
        (("a river", "--image", "0"), "give one of a text"),
        ((" ",), "the query is empty"),
        (("xyzzy plugh",), "knows no word of 'xyzzy plugh'"),
        (("a river", "-k", "0"), "-k 0"),
        (("a river", "--part", "rest"), "has no rest part"),
        (("a river", "--dataset", "tay"), "unknown dataset 'tay'; did you mean toy"),
        (("a river", "-o", "no/such/folder/page.html"), "is no file in an existing folder"),
        (("--gallery", "3"), "say where it goes"),
        (("--gallery", "0", "-o", "page.html"), "--gallery 0"),
        (("--image", "none.jpg"), "neither a picture file nor an image of toy"),
        (("--image", __file__), "not a readable image"),
    ],
)
def test_bad_input_is_one_line(ask, words, told):
    found = ask(*words, code=2)
    assert told in found.err and found.err.count("\n") == 1 and found.out == ""


def test_no_run_and_no_weights(run, tmp_path, capsys):
    assert main(["query", str(tmp_path), "a river"]) == 2
    assert "is no run folder" in capsys.readouterr().err
    (tmp_path / "spec.json").write_text((run / "spec.json").read_text())
    assert main(["query", str(tmp_path), "a river"]) == 2
    assert "has no weights" in capsys.readouterr().err


def test_figures(ask, tmp_path):
    for name, head in (("f.png", b"\x89PNG"), ("f.svg", b"<?xml"), ("f.pdf", b"%PDF")):
        ask("--gallery", 2, "-o", tmp_path / name)
        assert (tmp_path / name).read_bytes().startswith(head)


def test_a_figure_shows_every_hit_upright_with_its_mark():
    top = np.zeros((4, 4, 3), np.uint8)
    top[0] = 255
    hits = (Hit(0.9, "a", ("c",), top, True), Hit(0.1, "b", ("d",), top, False), Hit(0.0, "e", ("f",), top, None))
    texts = Found("i", top, (Hit(0.5, "a", ("one $x$",), None, True), Hit(0.4, "b", ("two",), None, False)))
    figure = draw_retrieved([("T", [Found("a $b query", None, hits)]), ("I", [texts])])
    query, *pictures, image, captions = figure.axes
    assert query.texts[0].get_text() == "a $b query"
    assert [p.get_title() for p in pictures] == ["✓ 0.90", "✗ 0.10", "0.00"]
    assert [p.spines["top"].get_linestyle() for p in pictures] == ["-", "--", "-"]
    for axis in (*pictures, image):
        lower, upper = axis.get_ylim()
        assert lower > upper, "rows of pixels count from the top"
        assert axis.images[0].get_extent()[2:] == [4, 0]
    assert [t.get_text() for t in captions.texts] == ["✓ 0.50  one $x$", "✗ 0.40  two"]
    heights = [t.get_position()[1] for t in captions.texts]
    assert heights == sorted(heights, reverse=True)
    with pytest.raises(UsageError, match="--gallery 3"):
        draw_retrieved([("T", [])])

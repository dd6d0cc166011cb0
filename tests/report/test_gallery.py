"""Pages are one file, escape every text and ask no host for anything."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
from PIL import Image

from rsbench.report.gallery import SIDE, Page, PairCard, Picture, Section, data_uri, render_page, write_page

HOSTILE = "<script>alert('x')</script> \" onerror=x {{ 7 * 7 }} & <img src=http://evil.example/x>"


class Tags(HTMLParser):
    """Names, attributes and text of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


def parsed(page: Page) -> Tags:
    found = Tags()
    found.feed(render_page(page))
    return found


def card(mark: str = "") -> PairCard:
    return PairCard(np.zeros((8, 8, 3), np.uint8), HOSTILE, (("given caption", HOSTILE), (HOSTILE, "b")), mark)


def hostile_page() -> Page:
    return Page(
        HOSTILE, [(HOSTILE, HOSTILE)], [HOSTILE], [[HOSTILE]], [Picture("terms", HOSTILE, HOSTILE)],
        [Section(HOSTILE, HOSTILE, (card(), card("mismatched")))], [HOSTILE],
    )  # fmt: skip


def test_every_text_is_escaped_and_shown_as_it_is():
    found = parsed(hostile_page())
    names = [name for name, _ in found.tags]
    assert "script" not in names
    assert names.count("img") == 3, "one figure, two cards"
    assert found.text.count(HOSTILE) == 11 + 2 * 3, "every place shows the text, a template expression is not evaluated"
    assert not any(key.startswith("on") for _, attributes in found.tags for key in attributes)


def test_nothing_is_asked_of_a_host():
    found = parsed(hostile_page())
    links = [v for _, attributes in found.tags for k, v in attributes.items() if k in ("src", "href") and v]
    assert sorted(v for v in links if not v.startswith("data:")) == ["terms.png", "terms.svg"]
    assert not re.search(r"@import|url\(", render_page(hostile_page()))


def test_a_picture_is_embedded_at_a_small_size():
    image = np.zeros((300, 600, 3), np.uint8)
    image[:, 300:] = 255
    address = data_uri(image)
    back = Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2])))
    assert back.size == (SIDE, SIDE // 2)
    assert back.getpixel((5, 5))[0] < 20 and back.getpixel((SIDE - 5, 5))[0] > 235


def test_marks_are_written_and_coloured():
    found = parsed(hostile_page())
    classes = [a["class"] for n, a in found.tags if n == "div" and (a.get("class") or "").startswith("card ")]
    assert classes == ["card ", "card mismatched"]


def test_a_lone_surrogate_does_not_stop_the_page(tmp_path):
    write_page(Page("\ud800 x"), tmp_path / "index.html")
    assert "? x" in (tmp_path / "index.html").read_text(encoding="utf-8")

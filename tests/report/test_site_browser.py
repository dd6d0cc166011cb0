"""The site in a real browser: sort, filter, follow links; no error on the console, no request to another host."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from synthetic_results import result_of, spec_of

from rsbench.report.site import Material, MethodFacts, write_site

CHROMIUM = next((p for n in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(n))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (apt-get install chromium)"),
]
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--no-first-run", "about:blank")
PATIENCE = 60
"""Seconds for any one answer."""

CELLS = """[...document.querySelectorAll("tbody tr")].filter(r => !r.hidden)
    .map(r => [...r.cells].map(c => c.textContent.trim()))"""


class Browser:
    """One page of Chromium, driven over a pipe: messages end with a zero byte."""

    def __init__(self, profile: Path) -> None:
        give, self._write = os.pipe()
        self._read, take = os.pipe()
        words = [str(CHROMIUM), f"--user-data-dir={profile}", *FLAGS]
        script = f'exec "$@" 3<&{give} 4>&{take}'
        self.process = subprocess.Popen(
            ["bash", "-c", script, "bash", *words],
            pass_fds=(give, take),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(give), os.close(take)
        self._rest, self._count, self.events = b"", 0, []
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")

    _session: str | None = None

    def _message(self) -> dict[str, Any]:
        end = time.monotonic() + PATIENCE
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._read], [], [], max(0, end - time.monotonic()))
            part = os.read(self._read, 1 << 20) if ready else b""
            assert part, "Chromium does not answer"
            self._rest += part
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        self._count += 1
        given = {"id": self._count, "method": method, "params": params}
        given |= {"sessionId": self._session} if self._session else {}
        os.write(self._write, json.dumps(given).encode() + b"\0")
        while True:
            found = self._message()
            if found.get("id") == self._count:
                assert "error" not in found, found
                return found["result"]
            self.events.append(found)

    def wait_for(self, event: str) -> None:
        while not any(e.get("method") == event for e in self.events):
            self.events.append(self._message())

    def go(self, path: Path) -> None:
        self.events = [e for e in self.events if e.get("method") != "Page.loadEventFired"]
        self.ask("Page.navigate", url=path.resolve().as_uri())
        self.wait_for("Page.loadEventFired")

    def run(self, script: str) -> Any:
        found = self.ask("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def click(self, script: str) -> None:
        """Click a link and wait for its page."""
        self.events = [e for e in self.events if e.get("method") != "Page.loadEventFired"]
        self.run(f"{script}.click()")
        self.wait_for("Page.loadEventFired")

    def complaints(self) -> list[Any]:
        told = {"Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded", "Network.loadingFailed"}
        return [e for e in self.events if e.get("method") in told]

    def requests(self) -> list[str]:
        return [e["params"]["request"]["url"] for e in self.events if e.get("method") == "Network.requestWillBeSent"]

    def close(self) -> None:
        os.close(self._write)  # Chromium ends with its pipe
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
        os.close(self._read)


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    made = []
    for at, (method, rate) in enumerate((m, r) for r in (0, 0.4, 0.8) for m in ("infonce", "srem", "rcl", "<b>x</b>")):
        for seed in (0, 1):
            made.append(result_of(spec_of(method, rate, seed), 10.0 + 7 * at % 11 + seed, time={"train": 5.0}))
    made[0]["test"]["best"]["mr"] = made[1]["test"]["best"]["mr"] = "NaN"  # infonce without noise
    toy = [result_of(spec_of("srem", 0.4, s, dataset="toy"), 70.0 + s, time={"train": 1.0}) for s in (0, 1)]
    history = {r["hash"]: [{"epoch": e, "loss": 1.0, "val": {"mr": e + 1.0}} for e in range(3)] for r in made + toy}
    methods = [MethodFacts(m, m) for m in ("infonce", "srem", "rcl", "<b>x</b>")]
    out = tmp_path_factory.mktemp("site") / "report"
    write_site(Material(made + toy, history, methods=methods), out)
    return out


@pytest.fixture
def browser(tmp_path):
    opened = Browser(tmp_path / "profile")
    yield opened
    complaints, requests = opened.complaints(), opened.requests()
    opened.close()
    assert complaints == []
    assert [url for url in requests if not url.startswith(("file:", "data:"))] == []


def column(browser: Browser, title: str) -> list[str]:
    heads = browser.run('[...document.querySelectorAll("thead th")].map(h => h.textContent.trim())')
    return [row[heads.index(title)] for row in browser.run(CELLS)]


def press(browser: Browser, key: str) -> None:
    browser.run(f"document.querySelector('th[data-key={key}] button').click()")


def choose(browser: Browser, key: str, value: str) -> None:
    browser.run(
        f"(() => {{ const s = document.querySelector('select[name={key}]'); s.value = {json.dumps(value)};"
        " s.dispatchEvent(new Event('change')); })()"
    )


def test_sort_by_any_column(site, browser):
    browser.go(site / "index.html")
    first = browser.run(CELLS)
    press(browser, "mr")
    shown = column(browser, "mR")
    assert shown[-1] == "NaN in 2 of 2"  # what is no number stays last
    numbers = [float(t.split()[0]) for t in shown[:-1]]
    assert numbers == sorted(numbers, reverse=True) and len(set(numbers)) > 5
    press(browser, "mr")
    shown = column(browser, "mR")
    assert shown[-1] == "NaN in 2 of 2" and [float(t.split()[0]) for t in shown[:-1]] == sorted(numbers)
    assert browser.run("document.querySelector('th[data-key=mr]').getAttribute('aria-sort')") == "ascending"
    press(browser, "method")
    names = column(browser, "Method")
    assert names == sorted(names)
    browser.run("document.querySelector('form button').click()")
    assert browser.run(CELLS) == first


def test_filters_leave_the_rows_that_fit(site, browser):
    browser.go(site / "index.html")
    every = browser.run(CELLS)
    assert browser.run("document.querySelector('output').textContent") == f"{len(every)} of {len(every)} rows"
    choose(browser, "noise", "0.4")
    choose(browser, "method", "srem")
    rows = browser.run(CELLS)
    assert rows == [r for r in every if r[2] == "0.4" and r[3] == "srem"] and len(rows) == 2
    choose(browser, "dataset", "toy, split rrsitr")
    assert len(browser.run(CELLS)) == 1
    press(browser, "mr")
    assert len(browser.run(CELLS)) == 1  # sorting keeps the filter
    choose(browser, "noise", "0.8")
    assert browser.run(CELLS) == []
    assert browser.run("document.querySelector('output').textContent").startswith("0 of ")
    browser.run("document.querySelector('form button').click()")
    assert browser.run(CELLS) == every


def test_a_hostile_name_is_a_choice_like_any_other(site, browser):
    browser.go(site / "index.html")
    choose(browser, "method", "<b>x</b>")
    assert set(column(browser, "Method")) == {"<b>x</b>"} and len(browser.run(CELLS)) == 3
    assert browser.run("document.querySelectorAll('b').length") == 0


def test_every_page_opens_from_a_link(site, browser):
    browser.go(site / "index.html")
    count = browser.run("document.querySelectorAll('nav a').length")
    for at in range(count):
        browser.click(f"document.querySelectorAll('nav a')[{at}]")
        loaded = "[...document.images].every(i => i.complete && i.naturalWidth > 0)"
        assert browser.run(loaded), browser.run("location.href")
        assert browser.run("document.querySelector('nav a[aria-current]') !== null")
    browser.click("document.querySelector('nav a')")
    browser.click("document.querySelector('td.runs a')")
    assert "/runs/" in browser.run("location.href")
    assert browser.run("document.querySelectorAll('svg path').length") == 2
    browser.click("document.querySelector('main p a')")
    assert "/methods/" in browser.run("location.href")


def test_runs_are_filtered_by_status(site, browser):
    browser.go(site / "runs.html")
    assert browser.run("document.querySelector('select[name=status]').options.length") == 2
    press(browser, "seed")
    assert column(browser, "Seed")[:3] == ["1", "1", "1"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_in_light_and_dark(site, browser, scheme):
    browser.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    browser.go(site / "index.html")
    ink, ground = (
        sum(map(int, browser.run(f"getComputedStyle(document.body).{name}").strip("rgb()").split(","))) / 3
        for name in ("color", "backgroundColor")
    )
    assert abs(ink - ground) > 150 and (ink > ground) is (scheme == "dark")


def test_print_leaves_the_controls_out_and_fits_the_page(site, browser):
    browser.ask("Emulation.setEmulatedMedia", media="print")
    browser.ask("Emulation.setDeviceMetricsOverride", width=1030, height=700, deviceScaleFactor=1, mobile=False)
    browser.go(site / "index.html")
    hidden = "[...document.querySelectorAll('nav, .filters, .runs')].every(e => getComputedStyle(e).display === 'none')"
    assert browser.run(hidden)
    assert browser.run("document.documentElement.scrollWidth") <= 1030


def test_without_scripts_the_table_is_complete(site, browser):
    browser.ask("Emulation.setScriptExecutionDisabled", value=True)
    browser.go(site / "index.html")
    root = browser.ask("DOM.getDocument")["root"]["nodeId"]
    rows = browser.ask("DOM.querySelectorAll", nodeId=root, selector="tbody tr")["nodeIds"]
    assert len(rows) == 13
    assert browser.ask("DOM.querySelectorAll", nodeId=root, selector="select, button")["nodeIds"] == []

"""Results as one static site that opens from disk and asks no host for anything. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from rsbench.progress import Progress, silent
from rsbench.report.diagram import plot_ranking
from rsbench.report.groups import TableKey
from rsbench.report.leaderboard import FILTERS, RUN_FILTERS, leaderboard, runs_table, tables_of
from rsbench.report.pages import Facts, History, asset, file_name, method_path, render, run_page, run_path
from rsbench.report.plots import save
from rsbench.report.sections import (
    Section,
    cost_sections,
    detection_sections,
    method_table,
    noise_sections,
    statistics_sections,
)
from rsbench.report.site_folder import new_folder
from rsbench.report.table import Table
from rsbench.results.schema import Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class MethodFacts:
    """What a method's card says.

    Attributes:
        name: as registered.
        title: heading.
        facts: (name, value): paper, detector and so on.
        equations: formulas in plain text.
        decided: readings of unclear points.
        params: name, default, source, meaning.
        variants: name, changes.
        notes: for example that there is no card.
    """

    name: str
    title: str
    facts: Facts = field(default_factory=list)
    equations: Sequence[str] = ()
    decided: Sequence[str] = ()
    params: Sequence[Sequence[str]] = ()
    variants: Sequence[Sequence[str]] = ()
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Diagnostics:
    """Figures of the pairs of one run.

    Attributes:
        run: its hash.
        text: which run it is.
        drawn: name, title, caption and figure.
    """

    run: str
    text: str
    drawn: Sequence[tuple[str, str, str, Figure]]


@dataclass(frozen=True)
class Gallery:
    """A page of pictures.

    Attributes:
        name: of its file, without ending.
        method: whose page links it.
        dataset: whose pictures it shows.
        title: of the link.
        html: the whole page.
    """

    name: str
    method: str
    dataset: str
    title: str
    html: str

    @property
    def path(self) -> str:
        """From the top of the site."""
        return f"galleries/{self.name}.html"


@dataclass(frozen=True)
class Material:
    """Everything that a site is made of.

    Attributes:
        results: chosen runs, failed ones among them.
        histories: hash -> lines of ``history.jsonl``; runs without one are missing.
        damaged: hash -> why its history is not shown.
        methods: facts of every method that has a run.
        diagnostics: name of a method -> figures of one of its runs.
        galleries: pages of pictures.
        warnings: what a reader must know first.
        against: base method of differences and ratios; None for the usual one.
    """

    results: Sequence[Result]
    histories: Mapping[str, History] = field(default_factory=dict)
    damaged: Mapping[str, str] = field(default_factory=dict)
    methods: Sequence[MethodFacts] = ()
    diagnostics: Mapping[str, Diagnostics] = field(default_factory=dict)
    galleries: Sequence[Gallery] = ()
    warnings: Sequence[str] = ()
    against: str | None = None


class Shown(NamedTuple):
    """A figure that is on disk."""

    name: str
    title: str
    text: str
    alt: str


class Entry(NamedTuple):
    """A line of a list of links."""

    path: str
    title: str
    text: str


def write_site(material: Material, out: Path, progress: Progress = silent) -> int:
    """Write the site; an older report of ours in ``out`` is replaced when the new one is whole.

    Args:
        material: what is shown.
        out: folder.
        progress: called per page and per figure.

    Returns:
        Number of pages.

    Raises:
        UsageError: ``out`` holds something else.
        DependencyError: the extra ``report`` is not installed.
        OSError: the folder cannot be written.
    """
    with new_folder(out) as folder:
        return _Writer(material, folder, progress).write()


class _Writer:
    def __init__(self, material: Material, folder: Path, progress: Progress) -> None:
        self.given, self.folder, self.progress = material, folder, progress
        self.runs = {str(r["hash"]): r for r in material.results}
        self.pages = 0
        for name in ("figures", "methods", "runs", *(["galleries"] if material.galleries else [])):
            (folder / name).mkdir()

    def write(self) -> int:
        """Write every page; their number."""
        for name in ("site.css", "site.js"):
            (self.folder / name).write_text(asset(name), encoding="utf-8")
        for number, (page, title, text, sections) in enumerate(self._sections(), 1):
            self.progress("pages with figures", number - 1, 4)
            self._page(f"{page}.html", "sections.html", title, text=text, sections=self._drawn(page, sections))
            self.progress("pages with figures", number, 4)
        self._index()
        self._methods()
        self._runs()
        self._galleries()
        return self.pages

    @cached_property
    def _tables(self) -> tuple[list[tuple[TableKey, Table]], list[str]]:
        return tables_of(self.given.results)

    @cached_property
    def _board(self) -> Table | None:
        return leaderboard(self._tables[0], self.given.results)

    @cached_property
    def _menu(self) -> list[tuple[str, str]]:
        names = ["Leaderboard", "Curves", "Cost", "Detection", "Statistics", "Methods", "Runs"]
        names += ["Galleries"] if self.given.galleries else []
        return [(n, "index.html" if n == "Leaderboard" else f"{n.lower()}.html") for n in names]

    def _page(self, path: str, template: str, title: str, **values: object) -> None:
        root = "../" * path.count("/")
        self._store(path, render(template, title=title, root=root, here=path, menu=self._menu, **values))

    def _store(self, path: str, html: str) -> None:
        (self.folder / path).write_bytes(html.encode("utf-8", "replace"))
        self.pages += 1

    def _links(self, root: str = "") -> dict[str, tuple[str, str]]:
        """Hash of a run -> its seed and its page."""
        return {name: (str(run["spec"]["seed"]), root + run_path(name)) for name, run in self.runs.items()}

    def _sections(self) -> list[tuple[str, str, str, list[Section]]]:
        given, tables = self.given, self._tables[0]
        against = given.against
        return [
            ("curves", "mR against noise", "", noise_sections(given.results) if tables else []),
            ("cost", "Cost against quality", "", cost_sections(tables, given.results, against)),
            ("detection", "Noise detection", "", detection_sections(tables, given.histories)),
            ("statistics", "What is evidence", "", statistics_sections(given.results, against) if tables else []),
        ]

    def _drawn(self, page: str, sections: Sequence[Section]) -> list[dict[str, object]]:
        """Sections with their figures on disk."""
        found: list[dict[str, object]] = []
        for at, section in enumerate(sections, 1):
            figures: list[Shown] = []
            for picture in section.pictures:
                name = f"{page}-{at}-{len(figures) + 1}"
                save(picture.draw(), self.folder / "figures", name)
                figures.append(Shown(name, picture.title, picture.text, picture.alt))
            if section.ranked is not None:
                name = f"{page}-{at}"
                for form in ("png", "svg"):
                    plot_ranking(section.ranked, self.folder / "figures" / f"{name}.{form}")
                text = "Average ranks, best left; a bar joins methods between which no difference is shown."
                figures.append(Shown(name, "", text, f"{text} The table below holds the ranks."))
            found.append({"title": section.title, "figures": figures, "tables": section.tables, "notes": section.notes})
        return found

    def _index(self) -> None:
        results = self.given.results
        done = sum(r.get("status") == "done" for r in results)
        datasets = sorted({str(r["spec"]["dataset"]) for r in results})
        methods = sorted({str(r["spec"]["method"]) for r in results})
        summary = f"{done} finished runs of {len(methods)} methods on {', '.join(datasets)}"
        summary += f"; {len(results) - done} failed runs count nowhere" if done < len(results) else ""
        self._page(
            "index.html",
            "index.html",
            "Leaderboard",
            warnings=[*self.given.warnings, *self._tables[1]],
            summary=f"{summary}. mR is the mean of the six recalls, in percent.",
            board=self._board,
            tables=[table for _, table in self._tables[0]],
            links=self._links(),
            filters=FILTERS,
        )

    def _methods(self) -> None:
        for method in self.given.methods:
            table = None if self._board is None else method_table(self._board, method.name, self.runs)
            self._page(
                method_path(method.name),
                "method.html",
                method.title,
                method=method,
                notes=method.notes,
                table=table,
                links=self._links("../"),
                filters=FILTERS,
                galleries=[g for g in self.given.galleries if g.method == method.name],
                diagnostics=self._diagnostics(method.name),
            )
        entries = [Entry(method_path(m.name), m.name, m.title) for m in self.given.methods]
        self._page("methods.html", "links.html", "Methods", warnings=(), entries=entries)

    def _diagnostics(self, method: str) -> dict[str, object] | None:
        found = self.given.diagnostics.get(method)
        if found is None or not found.drawn:
            return None
        figures: list[Shown] = []
        for at, (name, title, text, figure) in enumerate(found.drawn, 1):
            path = f"{file_name(method)}-{at}-{file_name(name)}"
            save(figure, self.folder / "figures", path)
            figures.append(Shown(path, title, text, f"{title}. {text}"))
            self.progress(f"pairs of {method}", at, len(found.drawn))
        return {"text": found.text, "link": f"../{run_path(found.run)}", "figures": figures}

    def _runs(self) -> None:
        for at, (name, run) in enumerate(self.runs.items(), 1):
            history = self.given.histories.get(name)
            note = self.given.damaged.get(name, "") if history is None else ""
            self._store(run_path(name), run_page(run, history, note or ("" if history else NO_HISTORY), self._menu))
            self.progress("pages of runs", at, len(self.runs))
        table = runs_table(self.given.results)
        page = {"board": table, "tables": (), "links": self._links(), "filters": RUN_FILTERS}
        self._page("runs.html", "index.html", "Runs", warnings=(), summary=f"{len(self.runs)} runs.", **page)

    def _galleries(self) -> None:
        for gallery in self.given.galleries:
            back = '<body>\n<p><a href="../galleries.html">All galleries</a></p>'
            self._store(gallery.path, gallery.html.replace("<body>", back, 1))
        if self.given.galleries:
            entries = [Entry(g.path, g.title, "") for g in self.given.galleries]
            self._page("galleries.html", "links.html", "Galleries", warnings=self.given.warnings, entries=entries)


NO_HISTORY = "No history is kept beside this run."

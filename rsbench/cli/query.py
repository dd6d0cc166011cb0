"""``rsbench query``: what a finished run retrieves."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rsbench.cli.console import console, print_json, print_rows, progress_bar
from rsbench.errors import UsageError

if TYPE_CHECKING:
    from rsbench.experiment.query import Searcher
    from rsbench.report.retrieved import Found

MARKS = (
    "✓ right (green, solid line): belongs to the query; ✗ wrong (red, dashed line): does not; no mark: the query is "
    "not one of the images and captions searched, so nothing is known."
)


def query(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run with its weights.")],
    text: Annotated[str | None, typer.Argument(help='A text, such as "a river beside a stadium".')] = None,
    image: Annotated[
        str | None,
        typer.Option("--image", "-i", help="A picture file, or an image of the dataset: file name or number."),
    ] = None,
    gallery: Annotated[
        int | None, typer.Option(help="Draw this many captions and images of the part instead; needs --output.")
    ] = None,
    count: Annotated[int, typer.Option("-k", help="Results shown for a query.")] = 5,
    seed: Annotated[int, typer.Option(help="Decides which queries --gallery draws.")] = 0,
    dataset: Annotated[str | None, typer.Option("--dataset", "-d", help="Search another dataset.")] = None,
    part: Annotated[str, typer.Option(help="Part that is searched: test, val or train.")] = "test",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    root: Annotated[
        Path | None, typer.Option(help="Data folder; default: $RSBENCH_DATA, else ~/.cache/rsbench.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write a page with pictures, or a figure: FILE.html, .png, .svg or .pdf."),
    ] = None,
) -> None:
    """Search a dataset with a trained model: images of a text, or captions of an image.

    rsbench query results/0123456789abcdef "a river beside a stadium" -k 5
    rsbench query results/0123456789abcdef --image file.jpg -o page.html
    rsbench query results/0123456789abcdef --gallery 8 -o page.html
    rsbench query results/0123456789abcdef --gallery 2 -o figure.pdf
    """
    _check(text, image, gallery, count, output)
    from rsbench.data.root import data_root
    from rsbench.experiment.evaluate import Scoring
    from rsbench.experiment.query import Searcher

    with progress_bar() as progress:
        how = Scoring(data_root(root), part=part, device=device, progress=progress)
        searcher = Searcher(run, how, dataset)
        sections = _answers(searcher, text, image, gallery, count, seed)
    if gallery is None:
        _show(searcher, sections[0][1][0], as_json)
    if output is not None:
        _write(searcher, sections, output, gallery, seed)
        console.print(f"wrote {output}", markup=False, soft_wrap=True) if not as_json else None


def _check(text: str | None, image: str | None, gallery: int | None, count: int, output: Path | None) -> None:
    if sum(v is not None for v in (text, image, gallery)) != 1:
        raise UsageError('give one of a text such as "a river beside a stadium", --image FILE, or --gallery 8')
    if count < 1:
        raise UsageError(f"-k {count}: give the number of results to show, for example -k 5")
    if gallery is not None and gallery < 1:
        raise UsageError(f"--gallery {gallery}: give the number of queries to draw, for example --gallery 8")
    if gallery is not None and output is None:
        raise UsageError(f"--gallery {gallery} is a page; say where it goes, for example -o page.html")
    if output is None:
        return
    if output.is_dir() or not output.parent.is_dir():
        raise UsageError(f"--output '{output}' is no file in an existing folder; give for example -o page.html")
    from rsbench.report.plots import require_extra

    require_extra()


def _answers(
    searcher: Searcher, text: str | None, image: str | None, gallery: int | None, count: int, seed: int
) -> list[tuple[str, list[Found]]]:
    if gallery is not None:
        i2t, t2i = searcher.draw(gallery, count, seed)
        return [("Images to captions", i2t), ("Captions to images", t2i)]
    if text is not None:
        return [("Text to images", [searcher.text(text, count)])]
    return [("Image to captions", [searcher.image(image or "", count)])]


def _show(searcher: Searcher, found: Found, as_json: bool) -> None:
    if as_json:
        print_json(_as_dict(searcher, found))
        return
    for name, value in [*searcher.facts, ("query", found.query)]:
        console.print(f"{name}: {_printable(value)}", markup=False, soft_wrap=True)
    console.print()
    marked = any(hit.right is not None for hit in found.hits)
    headers = ["rank", "score", *(["own"] if marked else [])]
    names = ("captions", "image") if found.image is not None else ("image", "captions")
    rows = []
    for rank, hit in enumerate(found.hits, 1):
        words = {"image": hit.name, "captions": " | ".join(hit.captions)}
        rows.append(
            [str(rank), f"{hit.score:.4f}", *([hit.sign] if marked else []), *(_printable(words[n]) for n in names)]
        )
    print_rows([*headers, *names], rows)


def _as_dict(searcher: Searcher, found: Found) -> dict[str, Any]:
    hits = [
        {"rank": r, "score": h.score, "image": h.name, "captions": list(h.captions), "right": h.right}
        for r, h in enumerate(found.hits, 1)
    ]
    searched = {"dataset": searcher.dataset.name, "split": searcher.split, "part": searcher.how.part}
    return {"run": searcher.spec.hash, **searched, "query": found.query, "hits": hits}


def _write(
    searcher: Searcher, sections: list[tuple[str, list[Found]]], output: Path, gallery: int | None, seed: int
) -> None:
    from rsbench.report.plots import FORMS, write_figure
    from rsbench.report.retrieved import write_retrieved
    from rsbench.report.retrieved_figure import draw_retrieved

    if output.suffix.lower() in FORMS:
        write_figure(draw_retrieved(sections), output)
        return
    facts = searcher.facts
    facts += (
        [("queries", f"{gallery} images and {gallery} captions at most, drawn with seed {seed}")] if gallery else []
    )
    write_retrieved(output, f"Retrieved by {searcher.spec.method}", facts, sections, [MARKS])


def _printable(text: str) -> str:
    """One line without control characters, which a terminal would obey."""
    return "".join(c for c in " ".join(text.split()) if c.isprintable())

"""mR against the noise rate as files: one figure for each table. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rsbench.errors import UsageError
from rsbench.report.plots import require_extra, write_figure
from rsbench.report.sections import noise_sections
from rsbench.results.schema import Result


def write_noise_curves(results: Sequence[Result], path: Path) -> list[tuple[Path, str]]:
    """Write the curves of some results.

    Args:
        results: as ``load_results`` gives them.
        path: ends in one of ``plots.FORMS``; several tables get -1, -2 and so on before the ending.

    Returns:
        Each file with the title of its table.

    Raises:
        DependencyError: the extra ``report`` is not installed.
        UsageError: one noise rate alone.
        OSError: the folder cannot be written.
    """
    require_extra()
    drawn = [(section.title, picture) for section in noise_sections(results) for picture in section.pictures]
    if not drawn:
        raise UsageError(f"{path.name} would show one noise rate: a curve needs two, for example --noise 0,0.4")
    several = len(drawn) > 1
    files = [path.with_stem(f"{path.stem}-{at}") if several else path for at in range(1, len(drawn) + 1)]
    for file, (_, picture) in zip(files, drawn, strict=True):
        write_figure(picture.draw(), file)
    return [(file, title) for file, (title, _) in zip(files, drawn, strict=True)]

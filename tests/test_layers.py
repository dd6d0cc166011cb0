"""The house rules that a machine can check: direction of imports, light start-up, file sizes, declared dependencies."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import rsbench

PACKAGE = Path(rsbench.__file__).parent
ROOT = PACKAGE.parent
FILES = sorted(PACKAGE.rglob("*.py"))
LAYERS = [
    "__init__",
    "errors",
    "files",
    "casting",
    "seeding",
    "progress",
    "registry",
    "data",
    "noise",
    "evaluation",
    "losses",
    "backbones",
    "matchers",
    "methods",
    "training",
    "results",
    "report",
    "experiment",
    "cli",
    "__main__",
]
"""Imports go left in this list, never right."""

HEAVY = {"torch", "torchvision", "transformers", "timm", "open_clip", "pandas", "sklearn", "scipy", "matplotlib", "ray"}
LIGHT = ("cli", "registry", "errors", "files", "casting", "seeding", "progress", "data", "noise", "results", "report")
LIGHT_FILES = (
    "backbones/card.py",
    "backbones/cards/own.py",
    "backbones/cards/openclip.py",
    "backbones/cards/towers.py",
    "methods/card.py",
    "methods/build.py",
    "training/recipe.py",
)
VERBS = (
    "run",
    "plan",
    "status",
    "logs",
    "retry",
    "gc",
    "export",
    "import",
    "eval",
    "table",
    "compare",
    "rank",
    "query",
    "cost",
    "bundle",
    "report",
    "published",
    "diagnose",
    "audit",
    "noise",
    "prepare",
    "mock",
    "doctor",
)
LIGHT_COMMANDS = (
    "--help",
    "list",
    "describe srem",
    "describe toy",
    "published --paper srem",
    "status .",
    *(f"{verb} --help" for verb in VERBS),
)


def layer(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(tree: ast.AST) -> list[tuple[int, str]]:
    """Line and dotted name of everything that is imported, at any depth."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(node.lineno, a.name) for a in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"rsbench.{a.name}" for a in node.names] if node.module == "rsbench" else [node.module]
            found += [(node.lineno, n) for n in names]
    return found


def at_start(path: Path) -> set[str]:
    """Top-level packages that a file imports when it is imported."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = [name for node in tree.body if not _later(node) for _, name in imported(node)]
    return {name.split(".")[0] for name in names}


def _later(node: ast.stmt) -> bool:
    """Imports inside functions, or for type checkers alone, do not happen at start."""
    lazy = isinstance(node, ast.FunctionDef | ast.ClassDef)
    return lazy or (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_one_way(path):
    here = LAYERS.index(layer(path))
    for line, name in imported(ast.parse(path.read_text(encoding="utf-8"))):
        parts = name.split(".")
        if parts[0] == "rsbench" and len(parts) > 1 and not parts[1].startswith("__"):
            assert LAYERS.index(parts[1]) <= here, f"{path.name}:{line} imports upward: {name}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_light_layers_start_light(path):
    inside = path.relative_to(PACKAGE).as_posix()
    if layer(path) in LIGHT or inside in LIGHT_FILES or inside.startswith("methods/cards/"):
        assert at_start(path) & HEAVY == set()


@pytest.mark.parametrize("words", LIGHT_COMMANDS)
def test_commands_that_import_nothing_heavy(words, tmp_path):
    script = (
        "import sys; from rsbench.cli.app import main; code = main(sys.argv[1:]); "
        f"print('heavy:', sorted({HEAVY} & set(sys.modules)), file=sys.stderr); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *words.split()],
        capture_output=True,
        text=True,
        env={**os.environ, "RSBENCH_DATA": str(tmp_path)},
    )
    assert done.stderr.splitlines()[-1:] == ["heavy: []"]
    assert done.returncode == 0


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_files_and_functions_stay_small(path):
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno < 60, f"{path.name}: {node.name}"


def test_core_dependencies_are_those_that_are_imported():
    declared = {_module(d) for d in _project()["dependencies"]}
    extras = {_module(d) for group in _project()["optional-dependencies"].values() for d in group}
    used = {n.split(".")[0] for p in FILES for _, n in imported(ast.parse(p.read_text(encoding="utf-8")))}
    foreign = used - set(sys.stdlib_module_names) - {"rsbench"}
    # torchvision is open_clip's and timm's own dependency; rsbench only mends its import
    assert foreign - declared - extras - {"torchvision"} == set()
    assert declared - foreign == set()


def test_every_direct_dependency_has_a_tested_version():
    pinned = {re.split(r"==", line)[0].lower() for line in (ROOT / "constraints.txt").read_text().splitlines()}
    groups = [_project()["dependencies"], *_project()["optional-dependencies"].values()]
    wanted = {re.split(r"[<>=]", d)[0].strip().lower() for group in groups for d in group}
    assert {w.replace("-", "_") for w in wanted} - {p.replace("-", "_") for p in pinned} == set()


def _project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


MODULES = {"open_clip_torch": "open_clip", "pillow": "PIL", "scikit-learn": "sklearn", "pot": "ot"}


def _module(requirement: str) -> str:
    name = re.split(r"[<>=]", requirement)[0].strip().lower()
    return MODULES.get(name, name.replace("-", "_"))

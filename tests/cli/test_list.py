"""``rsbench list``."""

from __future__ import annotations

import json

import pytest

from rsbench import registry
from rsbench.cli.app import main
from rsbench.registry import Entry


@pytest.fixture
def listed(tmp_path, capsys):
    def run(*arguments):
        assert main(["list", *arguments, "--json", "--root", str(tmp_path)]) == 0
        return json.loads(capsys.readouterr().out)

    return run


def test_every_registered_name_is_listed(listed):
    found = {kind: [row["name"] for row in rows] for kind, rows in listed().items()}
    assert found["methods"] == registry.METHODS.names()
    assert found["datasets"] == registry.DATASETS.names()
    assert found["backbones"] == registry.BACKBONES.names()
    assert found["noise"] == registry.NOISE_KINDS.names()
    assert found["launchers"] == registry.LAUNCHERS.names()


def test_kind_and_wildcard_narrow(listed):
    found = [r["name"] for r in listed("datasets", "--filter", "rs*")["datasets"]]
    assert found == ["rsicd", "rsicd-2k", "rsitmd", "rs5m"]
    assert listed("methods", "--filter", "rs*") == {}


def test_methods_name_their_variants(listed):
    rows = {r["name"]: r for r in listed("methods")["methods"]}
    assert "learn_tau" in rows["infonce"]["variants"]


def test_state_of_datasets(listed, tmp_path):
    rows = {r["name"]: r["state"] for r in listed("datasets")["datasets"]}
    assert rows["toy"] == "made on first use"
    assert rows["rsitmd"] == "needs: rsbench prepare rsitmd (downloads)"
    assert rows["rsicd-2k"] == "needs: rsbench prepare rsicd (downloads)"
    folder = tmp_path / "datasets" / "rsitmd"
    folder.mkdir(parents=True)
    (folder / "dataset.json").write_text("{}")
    rows = {r["name"]: r["state"] for r in listed("datasets")["datasets"]}
    assert rows["rsitmd"].startswith("damaged; rsbench prepare rsitmd")


def test_missing_extra_and_broken_plug_in_are_named(listed, monkeypatch):
    entries = dict(registry.METHODS._entries)
    entries["absent"] = Entry("absent", "nowhere:CARD", "needs an extra", "ray", ("no_such_module_here",))
    entries["torn"] = Entry("torn", "no_such_package_here:CARD", "of a broken package")
    monkeypatch.setitem(registry.METHODS.__dict__, "_entries", entries)
    rows = {r["name"]: r for r in listed("methods")["methods"]}
    assert rows["absent"]["state"] == "needs: pip install 'rsbench[ray]'"
    assert rows["absent"]["missing"] == ["no_such_module_here"]
    assert rows["torn"]["state"].startswith("broken: no_such_package_here:CARD cannot be imported")
    assert rows["srem"]["state"] == "installed"


def test_text_in_a_pipe_is_one_line_a_name(capsys, tmp_path):
    assert main(["list", "backbones", "--root", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.strip().splitlines()
    assert lines[0] == "backbones"
    assert [line.split()[0] for line in lines[2:]] == registry.BACKBONES.names()


def test_nothing_found_says_so(capsys, tmp_path):
    assert main(["list", "--filter", "zzz*", "--root", str(tmp_path)]) == 0
    assert "nothing is named like 'zzz*'" in capsys.readouterr().out

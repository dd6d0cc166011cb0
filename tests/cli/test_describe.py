"""``rsbench describe``."""

from __future__ import annotations

import dataclasses
import json

import pytest

from rsbench import registry
from rsbench.cli.app import main
from rsbench.cli.describe import where


@pytest.fixture
def described(tmp_path, capsys):
    def run(name):
        assert main(["describe", name, "--json", "--root", str(tmp_path)]) == 0
        return json.loads(capsys.readouterr().out)

    return run


@pytest.mark.parametrize("name", registry.METHODS.names())
def test_method_tells_every_parameter_with_its_source(described, name):
    card = registry.METHODS.load(name)
    facts = described(name)["methods"]
    assert [p["name"] for p in facts["params"]] == [f.name for f in dataclasses.fields(card.params)]
    assert all(p["source"] for p in facts["params"])
    assert list(facts["variants"]) == list(card.variants)
    assert facts["equations"] == list(card.equations)
    path, _, line = facts["file"].rpartition(":")
    with open(path, encoding="utf-8") as file:
        assert file.readlines()[int(line) - 1].startswith(f"class {card.target.partition(':')[2]}")


@pytest.mark.parametrize("name", registry.DATASETS.names())
def test_dataset_tells_its_card_and_state(described, name):
    facts = described(name)["datasets"]
    assert facts["splits"] == list(registry.DATASETS.load(name).splits)
    assert facts["state"]


@pytest.mark.parametrize("name", registry.BACKBONES.names())
def test_backbone_tells_its_card(described, name):
    facts = described(name)["backbones"]
    if not facts["missing"]:
        assert list(facts["capabilities"]) == list(registry.BACKBONES.load(name).capabilities)


def test_one_name_of_two_kinds_shows_both(described):
    assert set(described("toy")) == {"datasets", "backbones"}


def test_noise_kind(described):
    assert described("shuffle")["noise"]["target"] == "rsbench.noise.shuffle:shuffle"


def test_text_names_parameters_equations_and_file(capsys, tmp_path):
    assert main(["describe", "srem", "--root", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    card = registry.METHODS.load("srem")
    assert all(f.name in shown for f in dataclasses.fields(card.params))
    assert card.equations[0] in shown
    assert "srem.py:" in shown


def test_where_falls_back_to_the_module_and_the_target():
    assert where("rsbench.registry:METHODS").endswith("registry.py")
    assert where("no_such_package_here:Thing") == "no_such_package_here:Thing"

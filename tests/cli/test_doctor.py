"""``rsbench doctor``."""

from __future__ import annotations

import json
import shutil
from collections import namedtuple

from rsbench import registry
from rsbench.cli import doctor
from rsbench.cli.app import main


def test_json_holds_the_facts(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(doctor, "LOW_DISK", 0)
    assert main(["doctor", "--json", "--root", str(tmp_path / "not" / "yet")]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["problems"] == []
    assert facts["versions"]["torch"]
    assert facts["cores"] >= 1
    assert facts["torchvision_operators"] in ("its own", "declared by rsbench (its own did not load)")
    assert set(facts["datasets"]) == set(registry.DATASETS.names())
    assert facts["offline"]["HF_HUB_OFFLINE"] == "1"
    assert facts["data_root"].endswith("yet")
    assert not (tmp_path / "not").exists()


def test_text_ends_with_the_verdict(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "LOW_DISK", 0)
    assert main(["doctor", "--root", str(tmp_path)]) == 0
    assert capsys.readouterr().out.rstrip().endswith("no problems found")


def test_little_disk_is_a_problem_and_exits_1(capsys, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10, 9, 1))
    assert main(["doctor", "--json", "--root", str(tmp_path)]) == 1
    assert "free for the data root" in json.loads(capsys.readouterr().out)["problems"][0]


def test_torchvision_for_another_torch_is_a_problem(monkeypatch):
    monkeypatch.setattr(doctor, "requires", lambda package: ["numpy", "torch (==2.13.0)", "pillow>=5"])
    assert doctor._mixed_builds({"torch": "2.13.0+cpu", "torchvision": "0.28.0"}) == []
    assert "wants torch 2.13.0, found 2.12.1" in doctor._mixed_builds({"torch": "2.12.1", "torchvision": "0.28.0"})[0]
    assert doctor._mixed_builds({"torch": None, "torchvision": None}) == []

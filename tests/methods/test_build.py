"""Finding cards, resolving hyper-parameters, building from registered names and from files."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from rsbench.errors import CapabilityError, UnknownNameError, UsageError
from rsbench.methods.base import Setup
from rsbench.methods.build import build_method, card_digest, load_card, method_class, resolve_params
from rsbench.methods.card import MethodCard, hyper
from rsbench.methods.probe import ProbeBackbone
from rsbench.registry import METHODS, Entry
from rsbench.training.recipe import Recipe

EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "examples" / "my_method.py"
METHOD = "from rsbench.methods.base import Method\n"
BUILTIN = ("infonce", "vse", "rcl", "srem")


@dataclass(frozen=True)
class Params:
    rate: float = hyper(0.5, "test")
    steps: int = hyper(3, "test")
    on: bool = hyper(False, "test")
    mode: str = hyper("a", "test", choices=("a", "b"))
    limit: float | None = hyper(None, "test")
    sizes: tuple[int, ...] = hyper((1, 2), "test")


CARD = MethodCard("probe", "t", "p", "m:C", Params, ("L",), variants={"full": {}, "fast": {"steps": 1, "on": True}})


def test_strings_become_the_types_of_their_fields():
    given = {"rate": "1", "steps": "7", "on": "yes", "mode": "b", "limit": "0.25", "sizes": (4,)}
    expected = {"rate": 1.0, "steps": 7, "on": True, "mode": "b", "limit": 0.25, "sizes": (4,)}
    found = resolve_params(CARD, "full", given)
    assert found == expected and isinstance(found["rate"], float)
    assert resolve_params(CARD, "full", {"limit": "none", "rate": 2})["limit"] is None


def test_given_values_win_over_the_variant_and_the_variant_over_defaults():
    assert resolve_params(CARD, "fast", {"on": False}) == {
        "rate": 0.5, "steps": 1, "on": False, "mode": "a", "limit": None, "sizes": (1, 2),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"rate": "fast"}, "rate = 'fast' is not allowed; it takes a finite number"),
        ({"rate": "nan"}, "rate = 'nan' is not allowed"),
        ({"rate": "inf"}, "rate = 'inf' is not allowed"),
        ({"rate": True}, "rate = True is not allowed"),
        ({"steps": "1.5"}, "steps = '1.5' is not allowed; it takes a whole number"),
        ({"steps": 1.5}, "steps = 1.5 is not allowed"),
        ({"steps": "none"}, "steps = none is not allowed"),
        ({"on": "maybe"}, "on = 'maybe' is not allowed; it takes true or false"),
        ({"mode": "c"}, "mode = 'c' is unknown; use one of a, b"),
        ({"sizes": "1,2"}, "sizes = '1,2' is not allowed"),
        ({"rat": 1}, "unknown parameter of probe 'rat'; did you mean rate"),
    ],
)
def test_values_that_do_not_fit_are_refused(overrides, message):
    with pytest.raises(UsageError) as caught:
        resolve_params(CARD, "full", overrides)
    assert message in str(caught.value)


def test_unknown_variant_shows_the_nearest():
    with pytest.raises(UnknownNameError, match="unknown variant of srem 'u\\+v'; did you mean"):
        resolve_params(load_card("srem"), "u+v", {})
    assert resolve_params(replace(CARD, variants={}), "full", {})["steps"] == 3


@pytest.mark.parametrize(
    ("method", "overrides", "message"),
    [
        ("infonce", {"tau": "0.001"}, "infonce: tau = 0.001 is not allowed; it must be at least 0.01"),
        ("vse", {"margin": 0}, "vse: margin = 0 is not allowed; it must be above 0"),
        ("vse", {"sum_epochs": -1}, "vse: sum_epochs = -1 is not allowed"),
        ("rcl", {"tau": -1}, "rcl: tau = -1 is not allowed"),
        ("rcl", {"ratio": 1.5}, "rcl: ratio = 1.5 is not allowed; use -1"),
        ("rcl", {"q": 2}, "rcl: q = 2 is not allowed; it must be above 0 and at most 1"),
        ("srem", {"m_clean": 1}, "srem: m_clean = 1 must be below m_noisy = 0"),
        ("srem", {"lambda1": 2}, "srem: lambda1 = 2 is not allowed; it must be at least 0 and at most 1"),
        ("srem", {"scale": 200}, "srem: scale = 200 is not allowed"),
        ("srem", {"warmup_epochs": -1}, "srem: warmup_epochs = -1 is not allowed"),
        ("srem", {"cmbcl": "soft"}, "srem: cmbcl = 'soft' is unknown; use one of weight_softmax"),
    ],
)
def test_ranges_of_the_built_in_methods(method, overrides, message):
    with pytest.raises(UsageError) as caught:
        resolve_params(load_card(method), "full", overrides)
    assert message in str(caught.value)


@pytest.mark.parametrize("name", BUILTIN)
def test_cards_are_whole(name):
    card = load_card(name)
    assert card.name == name and card_digest(name) is None and method_class(name).card is card
    assert len(card.searched) == 6 and len({str(s) for s in card.searched}) == 6
    for setting in ({}, *card.searched):
        for variant in card.variants:
            resolve_params(card, variant, setting)
    Recipe(name="paper", **card.paper_recipe)
    assert "full" in card.variants


def test_the_search_holds_the_default_first():
    for name in BUILTIN:
        card = load_card(name)
        assert resolve_params(card, "full", card.searched[0]) == resolve_params(card, "full", {})


def test_cards_and_parameters_import_no_torch():
    code = (
        "import sys; from rsbench.methods.build import load_card, resolve_params\n"
        f"for n in {BUILTIN}: resolve_params(load_card(n), 'full', {{}})\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_method_comes_from_a_file():
    card = load_card(str(EXAMPLE))
    assert card is load_card(f"{EXAMPLE}:MyMethod") and card.name == "my_method"
    digest = card_digest(str(EXAMPLE))
    assert digest is not None and len(digest) == 64
    built = build_method(str(EXAMPLE), "all", {"tau": "0.2"}, ProbeBackbone(), Setup(8, 0, 4, 2))
    assert (built.params.tau, built.params.keep) == (0.2, 1.0)


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        (None, "absent.py", "does not exist"),
        ("x = 1", "empty.py", "must define one subclass of Method; it has none"),
        ("import nothing_here", "broken.py", "fails to load: ModuleNotFoundError"),
        ("def (", "syntax.py", "fails to load: SyntaxError"),
        (f"{METHOD}class A(Method): pass\nclass B(Method): pass", "two.py", "it has A, B"),
        (f"{METHOD}class A(Method): pass", "bare.py", "needs a class attribute card"),
        (f"{METHOD}class Alpha(Method): pass", "a.py:Alpa", "did you mean Alpha"),
    ],
)
def test_files_that_hold_no_method_are_refused(tmp_path, text, name, message):
    file, _, cls = name.partition(":")
    if text is not None:
        (tmp_path / file).write_text(text)
    with pytest.raises(UsageError) as caught:
        load_card(str(tmp_path / file) + (f":{cls}" if cls else ""))
    assert message in str(caught.value)


def test_a_method_of_another_package_may_register_its_class(monkeypatch, tmp_path):
    (tmp_path / "other_package.py").write_text(EXAMPLE.read_text())
    monkeypatch.syspath_prepend(str(tmp_path))
    entries = {**METHODS._entries, "other": Entry("other", "other_package:MyMethod", "")}
    monkeypatch.setitem(METHODS.__dict__, "_entries", entries)
    assert load_card("other").name == "my_method"
    assert method_class("other").__name__ == "MyMethod"
    assert card_digest("other") == card_digest(str(EXAMPLE))


def test_unknown_method_shows_the_nearest():
    with pytest.raises(UnknownNameError, match="did you mean srem"):
        load_card("sram")


def test_a_backbone_without_what_the_method_needs_is_refused(monkeypatch):
    cls = method_class(str(EXAMPLE))
    monkeypatch.setattr(cls, "card", replace(cls.card, needs=frozenset({"blocks"})))
    with pytest.raises(CapabilityError, match="needs blocks, which backbone 'probe' with tuning 'heads'"):
        build_method(str(EXAMPLE), "full", {}, ProbeBackbone(), Setup(8, 0, 4, 2))

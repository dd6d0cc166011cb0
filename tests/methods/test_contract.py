"""The contract test passes what is right and names what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from rsbench.cli.app import main
from rsbench.errors import UnknownNameError
from rsbench.methods.contract import CHECKS, check_method

EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "examples" / "my_method.py"


@pytest.mark.parametrize("name", ["infonce", "vse", "rcl", "srem", str(EXAMPLE)])
def test_methods_keep_the_contract(name):
    seen = []
    checks = check_method(name, lambda what, done, total: seen.append((done, total)))
    assert [c for c in checks if not c.ok] == []
    assert seen[-1][0] == seen[-1][1] == len(checks) >= len(CHECKS)


WRONG = {
    "loss is well formed": ("pair_loss=per_pair.detach()", "pair_loss=per_pair"),
    "card is complete": ('hyper(0.07, "CLIP"', 'hyper(0.07, ""'),
    "batch is left untouched": ("total = per", "batch.label.add_(1)\n        total = per"),
    "same seed, same loss": ("trusted].mean()", "trusted].mean() * (1 + 1e-3 * __import__('random').random())"),
    "training reaches every parameter": (
        "encoded.image, encoded.text",
        "encoded.image.map(lambda t: t.detach()), encoded.text",
    ),
    "batch of two": ("max(1, int(keep * len(batch)))", "int(keep * len(batch)) - 1"),
    "batch of one": ("max(1, int(keep * len(batch)))", "int(keep * len(batch))"),
    "similarity works on blocks": (
        "    def epoch_phases",
        "    def similarity(self, image, text):\n        return super().similarity(image, text).softmax(0)\n\n"
        "    def epoch_phases",
    ),
    "state survives safetensors": (
        "per_pair = info_nce(",
        "self.seen = getattr(self, 'seen', 0) + 1\n        per_pair = (1 + self.seen) * info_nce(",
    ),
    "every parameter in one group": (
        "    def epoch_phases",
        "    def param_groups(self):\n        yield {'name': 'all', 'params': list(self.parameters())[1:]}\n\n"
        "    def epoch_phases",
    ),
    "repeated images": ("total = per", "assert len(set(batch.image.tolist())) == len(batch)\n        total = per"),
    "bf16 autocast": (
        "total = per",
        "import torch\n        assert not torch.is_autocast_enabled('cpu')\n        total = per",
    ),
    "variant all trains": ("int(keep * len(batch))", "int(keep * len(batch)) // (keep < 1)"),
}


@pytest.mark.parametrize("title", WRONG)
def test_each_check_can_fail(tmp_path, title):
    right, wrong = WRONG[title]
    text = EXAMPLE.read_text()
    assert right in text
    (tmp_path / "wrong.py").write_text(text.replace(right, wrong))
    failed = {c.name: c.detail for c in check_method(str(tmp_path / "wrong.py")) if not c.ok}
    assert failed.get(title)


def test_a_single_variant_can_be_checked():
    names = [c.name for c in check_method("srem", variant="u+w")]
    assert names == list(CHECKS)
    with pytest.raises(UnknownNameError):
        check_method("srem", variant="w")


def test_mock_prints_its_checks(capsys):
    assert main(["mock", "srem:u", "--set", "method.tau=-1"]) == 0
    out = capsys.readouterr().out
    assert "12 of 12 checks passed for srem:u" in out and "similarity works on blocks" in out


def test_mock_fails_with_exit_code_1(tmp_path, capsys):
    right, wrong = WRONG["loss is well formed"]
    (tmp_path / "wrong.py").write_text(EXAMPLE.read_text().replace(right, wrong))
    assert main(["mock", str(tmp_path / "wrong.py")]) == 1
    assert "pair_loss must be detached" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["mock", "sram"], "did you mean srem"),
        (["mock", "srem", "--set", "recipe.lr=1"], "use --set method.FIELD=VALUE"),
        (["mock", "srem", "--set", "tau"], "use --set method.FIELD=VALUE"),
        (["mock", "srem", "--set", "tao=1"], "did you mean tau"),
        (["mock", "nowhere.py"], "does not exist"),
    ],
)
def test_mock_refuses_what_it_does_not_know(words, message, capsys):
    assert main(words) == 2
    assert message in capsys.readouterr().err

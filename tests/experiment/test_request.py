"""What a user types becomes a request, or one clear line."""

from __future__ import annotations

from pathlib import Path

import pytest

from rsbench.errors import RsbenchError, UnknownNameError
from rsbench.experiment.request import Request, parse_rates, parse_seeds, parse_settings, read_config


def test_rates_and_seeds() -> None:
    assert parse_rates("0, 0.4,0.40") == (0.0, 0.4)
    assert parse_seeds(3, None) == (0, 1, 2)
    assert parse_seeds(1, "3,13,3") == (3, 13)


def test_commas_span_a_grid() -> None:
    settings = parse_settings(["method.tau=0.05,0.1", "recipe.epochs=2"])
    request = Request(methods=("infonce",), settings=settings)
    assert list(request.combinations()) == [
        {"method.tau": "0.05", "recipe.epochs": "2"},
        {"method.tau": "0.1", "recipe.epochs": "2"},
    ]


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: parse_rates("a"), "no number"),
        (lambda: parse_rates("1.0"), "outside"),
        (lambda: parse_rates("nan"), "outside"),
        (lambda: parse_rates("-0.1"), "outside"),
        (lambda: parse_rates(","), "empty"),
        (lambda: parse_seeds(0, None), "at least one"),
        (lambda: parse_seeds(1, "1,x"), "no whole number"),
        (lambda: parse_seeds(1, "-1"), "from 0 up"),
        (lambda: parse_settings(["tau"]), "has no '='"),
        (lambda: parse_settings(["tau=1"]), "names no scope"),
        (lambda: parse_settings(["methd.tau=1"]), "did you mean method"),
        (lambda: parse_settings(["method.tau="]), "has no value"),
        (lambda: parse_settings(["method.tau=1", "method.tau=2"]), "given twice"),
    ],
)
def test_bad_words_are_named(call: object, says: str) -> None:
    with pytest.raises(RsbenchError, match=says):
        call()  # type: ignore[operator]


def test_config_file(tmp_path: Path) -> None:
    path = tmp_path / "grid.toml"
    path.write_text('method = ["infonce", "srem"]\nnoise = [0, 0.4]\nseeds = 5\n[set]\n"method.tau" = [0.05, 0.1]\n')
    assert read_config(path) == {
        "method": "infonce,srem",
        "noise": "0,0.4",
        "seeds": 5,
        "set": ["method.tau=0.05,0.1"],
    }


def test_config_file_errors(tmp_path: Path) -> None:
    path = tmp_path / "grid.toml"
    with pytest.raises(RsbenchError, match="cannot be read"):
        read_config(path)
    path.write_text("method = [")
    with pytest.raises(RsbenchError, match="is no TOML"):
        read_config(path)
    path.write_text("metod = 'srem'")
    with pytest.raises(UnknownNameError, match="did you mean method"):
        read_config(path)
    path.write_text("seeds = 'five'")
    with pytest.raises(RsbenchError, match="must be a whole number"):
        read_config(path)

"""Several processes on one run come to the weights of one process: gradients, steps, resumes, unequal shares."""

from __future__ import annotations

import socket
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from shared_runs import CHUNKS, METHODS, Tokens, a_method, alone, work
from torch import Tensor, nn

from rsbench.errors import DependencyError, UsageError
from rsbench.methods.base import Batch, Loss, Setup
from rsbench.methods.build import build_method
from rsbench.training import world as worlds
from rsbench.training.distributed import make_shared_step
from rsbench.training.torchrun import Place, place
from rsbench.training.world import ALONE, World, join

Found = dict[str, Tensor]
ALIKE = [*(f"{how}-{n}" for how in ("trained", "common") for n in METHODS), "trained-averaged"]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Found:
    threads = torch.get_num_threads()
    found = alone(tmp_path_factory.mktemp("one"))
    torch.set_num_threads(threads)
    return found


@pytest.fixture(scope="module", params=[2, pytest.param(3, marks=pytest.mark.slow)])
def several(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Found]:
    """What each of two, and of three processes, finds; 10 and 16 pairs do not divide by three."""
    pytest.importorskip("accelerate")
    folder, size = tmp_path_factory.mktemp("several"), request.param
    torch.multiprocessing.spawn(work, (size, free_port(), str(folder)), nprocs=size)
    return [load_file(folder / f"{size}-{rank}.safetensors") for rank in range(size)]


def case(found: Found, name: str) -> Found:
    return {k.removeprefix(f"{name}/"): v for k, v in found.items() if k.startswith(f"{name}/")}


@pytest.mark.parametrize("chunk", CHUNKS)
@pytest.mark.parametrize("name", METHODS)
def test_gradients_are_those_of_one_process(one: Found, several: list[Found], name: str, chunk: int) -> None:
    expected = case(one, f"gradient-{name}-0")
    assert expected["loss"].dtype == torch.float64 and float(expected["backbone.image.0.weight"].abs().max()) > 1e-6
    for found in several:
        ours = case(found, f"gradient-{name}-{chunk}")
        assert ours.keys() == expected.keys()
        for key, value in expected.items():
            assert torch.allclose(ours[key], value, rtol=0, atol=1e-12 * max(1.0, float(value.abs().max()))), key


@pytest.mark.parametrize("chunk", CHUNKS)
def test_extra_tensors_layers_and_random_numbers_of_the_loss(one: Found, several: list[Found], chunk: int) -> None:
    expected = case(one, "gradient-mixed-0")
    assert "own.1.weight" in expected and "idle" not in expected
    for found in several:
        ours = case(found, f"gradient-mixed-{chunk}")
        assert ours.keys() == expected.keys(), "a parameter that nothing reads has no gradient"
        assert all(torch.allclose(ours[k], v, rtol=0, atol=1e-12) for k, v in expected.items())


@pytest.mark.parametrize("name", ALIKE)
def test_training_ends_with_the_weights_of_one_process(one: Found, several: list[Found], name: str) -> None:
    expected = case(one, name)
    for found in several:
        ours = case(found, name)
        assert ours.keys() == expected.keys()
        for key, value in expected.items():
            limit = 1e-6 if not key.startswith("records.") else 1e-4
            assert torch.allclose(ours[key].double(), value.double(), rtol=0, atol=limit, equal_nan=True), key


def test_all_processes_hold_the_same_bytes(several: list[Found]) -> None:
    for found in several[1:]:
        for key, value in several[0].items():
            assert torch.equal(found[key].nan_to_num(), value.nan_to_num()), key


def test_a_resumed_run_draws_the_same_masks(one: Found, several: list[Found]) -> None:
    whole, resumed = (case(several[0], f"dropout-{n}") for n in ("whole", "resumed"))
    assert all(torch.equal(resumed[k].nan_to_num(), v.nan_to_num()) for k, v in whole.items())
    assert not torch.equal(whole["backbone.image.0.weight"], case(one, "dropout-whole")["backbone.image.0.weight"])


def test_rows_of_every_type_are_joined_in_order(several: list[Found]) -> None:
    for found in several:
        ours = case(found, "gather")
        for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.int64, torch.int8, torch.bool):
            expected = torch.tensor([[(3 * i + j) % 5 for j in range(3)] for i in range(7)]).to(dtype)
            assert ours[str(dtype)].dtype == dtype and torch.equal(ours[str(dtype)], expected)
        assert ours["column"].tolist() == [0, 1, 2, 3, 4] and ours["too few"].tolist() == [0]
        assert ours["said"].tolist() == [3, 4]


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_shares_cover_every_row_once(size: int) -> None:
    for n in range(size, 30):
        rows = [i for r in range(size) for i in range(n)[World(r, size).rows(n)]]
        assert rows == list(range(n))
        counts = [len(range(n)[World(r, size).rows(n)]) for r in range(size)]
        assert max(counts) - min(counts) <= 1 and counts == sorted(counts, reverse=True)


def test_what_cannot_be_shared_is_refused() -> None:
    method = a_method("rcl")

    class Own(type(method)):  # type: ignore[misc]
        def train_step(self, batch: Batch, stepper: Any) -> Loss:
            return super().train_step(batch, stepper)

    class Normed(Tokens):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm1d(4)

    two, setup = World(0, 2), Setup(4, 2, 4, 1)
    with pytest.raises(UsageError, match="torchrun: method 'rcl' has a training step of its own"):
        make_shared_step(Own(Tokens(), method.params, setup), 0, 4, two)
    with pytest.raises(UsageError, match="torchrun: batch normalisation in backbone 'tokens'"):
        make_shared_step(build_method("rcl", "full", {}, Normed(), setup), 0, 4, two)
    with pytest.raises(UsageError, match=r"recipe.batch_size 2 on 3 processes.*--nproc_per_node 2"):
        make_shared_step(method, 0, 2, World(0, 3))
    assert make_shared_step(method, 0, 4, ALONE) == method.train_step


def under_torchrun(monkeypatch: pytest.MonkeyPatch, **places: str) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.setenv(name, places[name])


def test_joining_says_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert place() == Place() and join("cpu") is ALONE, "clusters set WORLD_SIZE alone"
    under_torchrun(monkeypatch, RANK="1", WORLD_SIZE="4", LOCAL_RANK="1")
    assert place() == Place(1, 4, 1)
    monkeypatch.setattr(worlds, "find_spec", lambda name: None)
    with pytest.raises(DependencyError, match=r"accelerate.*pip install 'rsbench\[ddp\]'"):
        join("cpu")
    monkeypatch.setattr(worlds, "find_spec", lambda name: object())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UsageError, match="--device cuda:0: under torchrun each process takes its own GPU"):
        join("cuda:0")
    with pytest.raises(UsageError, match="more processes than this machine has GPUs; use --nproc_per_node 1"):
        join("auto")
    monkeypatch.setenv("RANK", "one")
    with pytest.raises(UsageError, match=r"RANK=one.*must be numbers"):
        place()

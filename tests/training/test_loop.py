"""The loop resumes to the same bytes, chooses the right epoch, and stops on what is not finite."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from rsbench.errors import NonFiniteError, ResultError, UsageError
from rsbench.methods.base import Loss
from rsbench.training.checkpoint import read_tensors, write_tensors
from rsbench.training.loop import Tick, Trainer
from rsbench.training.recipe import Recipe

Make = Callable[..., Trainer]


class Killed(Exception):
    """Stands for SIGKILL; real ones are sent in tests/experiment."""


def same_weights(a: Trainer, b: Trainer) -> bool:
    return all(
        torch.equal(x, y) for x, y in zip(a.method.state_dict().values(), b.method.state_dict().values(), strict=True)
    )


@pytest.mark.parametrize("name", ["infonce", "srem"])
@pytest.mark.parametrize("at", [0, 3, 5])
def test_a_run_killed_in_an_epoch_ends_like_an_undisturbed_one(
    make_trainer: Make, tmp_path: Path, name: str, at: int
) -> None:
    whole = make_trainer(tmp_path / "a", name, Recipe(batch_size=16, epochs=7))
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    whole.fit()

    def die(tick: Tick) -> None:
        if tick.epoch == at + 1:
            raise Killed

    with pytest.raises(Killed):
        make_trainer(tmp_path / "b", name, Recipe(batch_size=16, epochs=7), tick=die).fit()
    resumed = make_trainer(tmp_path / "b", name, Recipe(batch_size=16, epochs=7))
    resumed.fit()

    assert same_weights(whole, resumed)
    assert whole.state.history == resumed.state.history
    assert whole.state.best_epoch == resumed.state.best_epoch
    assert (tmp_path / "a/checkpoint.safetensors").exists()
    for key, value in whole.records.items():
        assert torch.equal(value.nan_to_num(), resumed.records[key].nan_to_num())


def test_other_seeds_give_other_weights(make_trainer: Make, tmp_path: Path) -> None:
    a = make_trainer(tmp_path)
    b = make_trainer(tmp_path / "b")
    (tmp_path / "b").mkdir()
    b.seed = 4
    a.fit()
    b.fit()
    assert not same_weights(a, b)


def test_the_best_epoch_is_the_earliest_of_equals(make_trainer: Make, tmp_path: Path) -> None:
    values = iter([10.0, 30.001, 30.001, 20.0])
    trainer = make_trainer(tmp_path, validate=lambda m: {"mr": next(values)})
    assert trainer.fit().best_epoch == 1


def test_round2_selection_ignores_the_third_decimal(make_trainer: Make, tmp_path: Path) -> None:
    values = [10.0, 30.001, 30.004, 20.0]
    for selection, best in (("val_mr", 2), ("val_mr_round2", 1)):
        folder = tmp_path / selection
        folder.mkdir()
        found = iter(values)
        recipe = Recipe(batch_size=16, epochs=4, selection=selection)
        assert make_trainer(folder, recipe=recipe, validate=lambda m, f=found: {"mr": next(f)}).fit().best_epoch == best


def test_early_stop_and_sparse_validation(make_trainer: Make, tmp_path: Path) -> None:
    falling = iter([3.0, 2.0, 1.0, 0.0, 0.0])
    trainer = make_trainer(
        tmp_path, recipe=Recipe(batch_size=16, epochs=20, early_stop=2), validate=lambda m: {"mr": next(falling)}
    )
    assert len(trainer.fit().history) == 3
    sparse = make_trainer(tmp_path / "s", recipe=Recipe(batch_size=16, epochs=5, validate_every=2))
    (tmp_path / "s").mkdir()
    assert ["val" in line for line in sparse.fit().history] == [False, True, False, True, True]


def test_load_best_restores_the_weights_of_the_best_epoch(make_trainer: Make, tmp_path: Path) -> None:
    values = iter([1.0, 9.0, 2.0, 3.0])
    seen = []

    def validate(method: torch.nn.Module) -> dict[str, float]:
        seen.append({k: v.clone() for k, v in method.state_dict().items()})
        return {"mr": next(values)}

    trainer = make_trainer(tmp_path, validate=validate)
    trainer.fit()
    trainer.load_best()
    assert all(torch.equal(v, seen[1][k]) for k, v in trainer.method.state_dict().items())
    assert any(not torch.equal(v, seen[3][k]) for k, v in trainer.method.state_dict().items())


def test_a_loss_that_is_not_finite_stops_with_step_terms_and_hint(make_trainer: Make, tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path)
    original, calls = trainer.method.loss, []

    def broken(encoded: object, batch: object) -> Loss:
        calls.append(1)
        loss = original(encoded, batch)  # type: ignore[arg-type]
        if len(calls) == 5:
            loss.total = loss.total * float("nan")
        return loss

    trainer.method.loss = broken  # type: ignore[method-assign]
    with pytest.raises(NonFiniteError, match=r"epoch 2, step 2 \(infonce=.*recipe.lr"):
        trainer.fit()


def test_records_name_each_pair_and_leave_dropped_ones_missing(make_trainer: Make, tmp_path: Path) -> None:
    kept = []
    trainer = make_trainer(tmp_path, keep=lambda records, epoch: kept.append(records["clean_score"]))
    trainer.fit()
    missing = [int(r.isnan().sum()) for r in kept]
    assert missing == [60 - 3 * 16] * 4
    assert not torch.equal(kept[0].isnan(), kept[1].isnan()), "another order every epoch"


def test_calibration_is_called_at_the_start_and_after_warm_up(make_trainer: Make, tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, "srem", Recipe(batch_size=16, epochs=7))
    calls: list[tuple[int, bool]] = []
    original = trainer.method.calibrate

    def spy(context: Trainer) -> None:
        calls.append((context.epoch, "negatives" in context.records))
        original(context)

    trainer.method.calibrate = spy  # type: ignore[method-assign, assignment]
    trainer.fit()
    assert calls == [(0, False), (5, True)]


def test_the_optimizer_starts_anew_when_the_loss_changes(make_trainer: Make, tmp_path: Path) -> None:
    """Adam's moments of a loss a hundred times smaller would make the first steps several times too long."""
    trainer = make_trainer(tmp_path, "srem", Recipe(batch_size=16, epochs=7))
    trainer.fit()
    steps = {int(state["step"]) for state in trainer.optimizer.state.values()}
    assert steps == {2 * (60 // 16)}, "two epochs after five of warm-up"


def test_score_visits_every_pair_once_in_eval_mode(make_trainer: Make, tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path)
    modes = []

    def score(encoded: object, batch: object) -> torch.Tensor:
        modes.append(trainer.method.training)
        return batch.pair.float()  # type: ignore[attr-defined]

    assert torch.equal(trainer.score(score), torch.arange(60.0))
    assert int(trainer.score(score, max_batches=2).isnan().sum()) == 60 - 32
    assert not any(modes)
    assert trainer.method.training


def test_a_foreign_checkpoint_is_refused(make_trainer: Make, tmp_path: Path) -> None:
    write_tensors(tmp_path / "checkpoint.safetensors", {"model.x": torch.zeros(1)}, {"epoch": 1})
    with pytest.raises(ResultError, match="does not fit this run"):
        make_trainer(tmp_path).fit()
    (tmp_path / "checkpoint.safetensors").write_bytes(b"not a checkpoint")
    with pytest.raises(ResultError, match="is damaged"):
        make_trainer(tmp_path).fit()


def test_a_batch_larger_than_the_data_is_refused(make_trainer: Make, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="larger than the 60 training pairs"):
        make_trainer(tmp_path, recipe=Recipe(batch_size=61, epochs=1))
    with pytest.raises(UsageError, match="batch_size is 1"):
        make_trainer(tmp_path, recipe=Recipe(batch_size=1, epochs=1))


def test_tensors_and_state_survive_a_round_trip(tmp_path: Path) -> None:
    shared = torch.arange(6).view(2, 3)
    path = tmp_path / "x.safetensors"
    write_tensors(path, {"a": shared, "b": shared[:, 1]}, {"epoch": 3, "mr": float("-inf")})
    tensors, state = read_tensors(path)
    assert torch.equal(tensors["b"], shared[:, 1])
    assert state == {"epoch": 3, "mr": float("-inf")}
    assert [p.name for p in tmp_path.iterdir()] == ["x.safetensors"]

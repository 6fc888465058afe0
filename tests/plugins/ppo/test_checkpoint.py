"""Checkpoints: a resumed run is equal, bit for bit, to one that was never interrupted."""

from __future__ import annotations

import json
import random

import pytest
import torch

from aligner.errors import StageError
from aligner.rl import checkpoint, loop
from aligner.rl.checkpoint import RLProgress
from aligner.rl.loop import train

HARD = {
    "iterations": 6,
    "save_steps": 1,
    "kl_target": 0.5,
    "reward_scale": "running",
    "lr_scheduler_type": "cosine",
    "warmup_steps": 0.1,
}


class Interrupted(Exception):
    """Stands for a power failure."""


def everything(rl) -> dict[str, torch.Tensor]:
    return checkpoint.trained_tensors(rl.optimizer)


def curve(run) -> list[dict]:
    rows = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k != "tokens_per_second"} for row in rows]


def interrupt(monkeypatch, at: int) -> None:
    """Raise once `at` iterations have been reported."""
    report = loop.report

    def then_stop(rl, progress, metrics, run):
        report(rl, progress, metrics, run)
        if progress.iteration == at:
            raise Interrupted

    monkeypatch.setattr(loop, "report", then_stop)


@pytest.mark.parametrize(
    ("kind", "more", "every"),
    [
        ("model", {}, 1),
        ("head", {"adapter": {"r": 4, "lora_alpha": 8}}, 2),
        ("adapter", {"adapter": {"r": 4, "lora_alpha": 8}}, 2),
    ],
)
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(
    make, monkeypatch, kind, more, every
) -> None:
    """Interrupted after the fourth iteration, before its checkpoint: it is repeated."""
    how = HARD | more | {"save_steps": every}
    whole, run_whole = make(parts={"kind": kind}, folder="whole", **how)
    train(whole, run_whole)

    first, run = make(parts={"kind": kind}, folder="resumed", **how)
    with monkeypatch.context() as patch:
        interrupt(patch, at=4)
        with pytest.raises(Interrupted):
            train(first, run)
    done = {1: 3, 2: 2}[every]
    again, _ = make(parts={"kind": kind}, folder="resumed", **how)
    train(again, run)

    expected, found = everything(whole), everything(again)
    assert expected.keys() == found.keys()
    assert any(name.startswith("optimizer/exp_avg_sq/") for name in expected)
    for name, tensor in expected.items():
        assert torch.equal(tensor, found[name]), name
    assert again.optimizer.step == whole.optimizer.step == 24
    assert curve(run)[-(6 - done) :] == curve(run_whole)[done:]
    assert run.metrics.keys() == run_whole.metrics.keys()


def test_the_state_of_training_is_restored(make) -> None:
    """Also Python's and torch's random state, for reward functions that draw numbers."""
    rl, run = make(**HARD)
    progress = train(rl, run)
    random.seed(5)
    torch.manual_seed(5)
    folder = run.folder / "checkpoints"
    checkpoint.save(folder, progress, rl.optimizer, processes=rl.processes)
    drawn = random.random(), torch.rand(3)
    other, _ = make(**HARD)
    found = checkpoint.load(folder, other.optimizer)
    assert found == progress
    assert found.scale.count == 96
    assert found.kl_coefficient != 0.05
    assert random.random() == drawn[0]
    assert torch.equal(torch.rand(3), drawn[1])


def test_a_damaged_checkpoint_is_skipped_for_the_one_before(make) -> None:
    rl, run = make(**HARD)
    folder = run.folder / "checkpoints"
    for iteration in (1, 2, 3):
        progress = RLProgress(iteration=iteration, kl_coefficient=iteration / 10)
        checkpoint.save(folder, progress, rl.optimizer, processes=rl.processes)
    assert sorted(path.name for path in folder.iterdir()) == ["checkpoint-2", "checkpoint-3"]
    torn = folder / "checkpoint-3" / checkpoint.TENSORS
    torn.write_bytes(torn.read_bytes()[:-7])
    found = checkpoint.load(folder, rl.optimizer)
    assert found is not None
    assert found.iteration == 2
    assert found.kl_coefficient == 0.2


def test_a_checkpoint_has_no_pickle_and_no_temporary_files(make) -> None:
    rl, run = make(**HARD)
    folder = run.folder / "checkpoints"
    progress = RLProgress(iteration=1, kl_coefficient=0.1)
    checkpoint.save(folder, progress, rl.optimizer, processes=rl.processes)
    checkpoint.save(folder, progress, rl.optimizer, processes=rl.processes)
    files = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    assert files == [
        "checkpoint-1/progress.json",
        "checkpoint-1/sealed.json",
        "checkpoint-1/trainer.safetensors",
    ]


def test_a_checkpoint_of_another_model_is_refused(make) -> None:
    rl, run = make(**HARD)
    folder = run.folder / "checkpoints"
    progress = RLProgress(iteration=1, kl_coefficient=0.1)
    checkpoint.save(folder, progress, rl.optimizer, processes=rl.processes)
    other, _ = make(parts={"kind": "head"}, **HARD)
    with pytest.raises(StageError) as refused:
        checkpoint.load(folder, other.optimizer)
    assert str(refused.value) == (
        f"{folder}/checkpoint-1 contains other parameters than this step trains\n"
        "  hint: run the step from its start"
    )


def test_a_finished_step_takes_no_further_step(make) -> None:
    rl, run = make(**HARD)
    train(rl, run)
    final = RLProgress(iteration=6, kl_coefficient=0.05)
    checkpoint.save(run.folder / "checkpoints", final, rl.optimizer, processes=rl.processes)
    before = everything(rl)
    again, _ = make(**HARD)
    assert train(again, run).iteration == 6
    assert all(torch.equal(tensor, everything(again)[name]) for name, tensor in before.items())

"""Checkpoints: going on is bit by bit what never having stopped would have been."""

from __future__ import annotations

import json
import random

import pytest
import torch

from aligner.errors import StageError
from aligner_ppo import checkpoint
from aligner_ppo.checkpoint import PPOProgress
from aligner_ppo.train import learn

HARD = {
    "iterations": 6,
    "checkpoint_every": 1,
    "kl_target": 0.5,
    "reward_scale": "running",
    "schedule": "cosine",
    "warmup": 0.1,
}


class Interrupted(Exception):
    """Stands for a power cut."""


def everything(setting) -> dict[str, torch.Tensor]:
    return checkpoint._tensors(setting.learner)


def curve(run) -> list[dict]:
    rows = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k != "tokens_per_second"} for row in rows]


def cut_off(monkeypatch, at: int) -> None:
    """Raise once `at` iterations have been reported."""
    from aligner_ppo import train

    report = train.report

    def then_stop(setting, progress, metrics, run):
        report(setting, progress, metrics, run)
        if progress.iteration == at:
            raise Interrupted

    monkeypatch.setattr(train, "report", then_stop)


@pytest.mark.parametrize(
    ("kind", "more", "every"),
    [
        ("model", {}, 1),
        ("head", {"adapter": {"r": 4, "lora_alpha": 8}}, 2),
        ("adapter", {"adapter": {"r": 4, "lora_alpha": 8}}, 2),
    ],
)
def test_resuming_is_bit_by_bit_as_if_never_stopped(make, monkeypatch, kind, more, every) -> None:
    """Stopped after the fourth iteration is told and before its checkpoint: it is done again."""
    how = HARD | more | {"checkpoint_every": every}
    whole, run_whole = make(parts={"kind": kind}, folder="whole", **how)
    learn(whole, run_whole)

    first, run = make(parts={"kind": kind}, folder="resumed", **how)
    with monkeypatch.context() as patch:
        cut_off(patch, at=4)
        with pytest.raises(Interrupted):
            learn(first, run)
    done = {1: 3, 2: 2}[every]
    again, _ = make(parts={"kind": kind}, folder="resumed", **how)
    learn(again, run)

    expected, found = everything(whole), everything(again)
    assert expected.keys() == found.keys()
    assert any(name.startswith("optimizer/exp_avg_sq/") for name in expected)
    for name, tensor in expected.items():
        assert torch.equal(tensor, found[name]), name
    assert again.learner.step == whole.learner.step == 24
    assert curve(run)[-(6 - done) :] == curve(run_whole)[done:]
    assert run.metrics.keys() == run_whole.metrics.keys()


def test_what_the_step_remembers_comes_back(make) -> None:
    """Also Python's and torch's random state, for reward functions that draw numbers."""
    setting, run = make(**HARD)
    progress = learn(setting, run)
    random.seed(5)
    torch.manual_seed(5)
    folder = run.folder / "checkpoints"
    checkpoint.save(folder, progress, setting.learner, together=setting.together)
    drawn = random.random(), torch.rand(3)
    other, _ = make(**HARD)
    found = checkpoint.load(folder, other.learner)
    assert found == progress
    assert found.scale.count == 96
    assert found.kl_coefficient != 0.05
    assert random.random() == drawn[0]
    assert torch.equal(torch.rand(3), drawn[1])


def test_a_torn_checkpoint_is_passed_over_for_the_one_before(make) -> None:
    setting, run = make(**HARD)
    folder = run.folder / "checkpoints"
    for iteration in (1, 2, 3):
        progress = PPOProgress(iteration=iteration, kl_coefficient=iteration / 10)
        checkpoint.save(folder, progress, setting.learner, together=setting.together)
    assert sorted(path.name for path in folder.iterdir()) == ["checkpoint-2", "checkpoint-3"]
    torn = folder / "checkpoint-3" / checkpoint.TENSORS
    torn.write_bytes(torn.read_bytes()[:-7])
    found = checkpoint.load(folder, setting.learner)
    assert found is not None
    assert found.iteration == 2
    assert found.kl_coefficient == 0.2


def test_nothing_is_pickled_and_nothing_left_beside(make) -> None:
    setting, run = make(**HARD)
    folder = run.folder / "checkpoints"
    progress = PPOProgress(iteration=1, kl_coefficient=0.1)
    checkpoint.save(folder, progress, setting.learner, together=setting.together)
    checkpoint.save(folder, progress, setting.learner, together=setting.together)
    files = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    assert files == [
        "checkpoint-1/learner.safetensors",
        "checkpoint-1/progress.json",
        "checkpoint-1/sealed.json",
    ]


def test_a_checkpoint_of_another_model_is_refused(make) -> None:
    setting, run = make(**HARD)
    folder = run.folder / "checkpoints"
    progress = PPOProgress(iteration=1, kl_coefficient=0.1)
    checkpoint.save(folder, progress, setting.learner, together=setting.together)
    other, _ = make(parts={"kind": "head"}, **HARD)
    with pytest.raises(StageError) as refused:
        checkpoint.load(folder, other.learner, where="recipe.yaml:7")
    assert str(refused.value) == (
        f"recipe.yaml:7: {folder}/checkpoint-1 holds other parameters than this step trains\n"
        "  hint: run the step afresh"
    )


def test_a_finished_step_takes_no_further_step(make) -> None:
    setting, run = make(**HARD)
    learn(setting, run)
    final = PPOProgress(iteration=6, kl_coefficient=0.05)
    checkpoint.save(run.folder / "checkpoints", final, setting.learner, together=setting.together)
    before = everything(setting)
    again, _ = make(**HARD)
    assert learn(again, run).iteration == 6
    assert all(torch.equal(tensor, everything(again)[name]) for name, tensor in before.items())

"""GRPO's advantages and losses equal TRL's, in value, gradient and metrics."""

from __future__ import annotations

import doctest
import itertools
import math
from dataclasses import dataclass, replace
from typing import Any, get_args

import pytest
import torch
from datasets import Dataset
from torch import Tensor

import aligner_grpo.loss
from aligner.rl.algorithm import StepSize
from aligner.testing.tiny import tiny_model, tiny_tokenizer
from aligner_grpo.loss import (
    NORMALIZATIONS,
    GRPOLoss,
    ResponseLogps,
    group_advantages,
    grpo_loss,
)
from aligner_grpo.options import GRPOLossOptions, GRPOLossType, ScaleRewards

N, T = 6, 7
ACCUMULATION = 3
"""Micro-batches of an optimizer step."""
NUM_GENERATIONS = 3
LONGEST = 11
"""Longest possible completion."""


@dataclass(frozen=True, kw_only=True)
class RandomCompletions:
    """N completions of random lengths, padded to T tokens, with random log-probabilities."""

    mask: Tensor
    logps: Tensor
    """A leaf with a gradient."""
    old_logps: Tensor
    ref_logps: Tensor
    entropies: Tensor
    advantages: Tensor


def random_completions(seed: int) -> RandomCompletions:
    draw = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, T + 1, (N,), generator=draw)
    mask = (torch.arange(T) < lengths.unsqueeze(1)).long()

    def uniform() -> Tensor:
        return torch.rand(N, T, generator=draw, dtype=torch.float64)

    return RandomCompletions(
        mask=mask,
        logps=(-uniform() * mask).requires_grad_(),
        old_logps=-uniform() * mask,
        ref_logps=-uniform() * mask,
        entropies=uniform(),
        advantages=torch.randn(N, generator=draw, dtype=torch.float64),
    )


@pytest.fixture(scope="module")
def trainer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """TRL's trainer; the tests replace its model by the log-probabilities of a random batch."""
    from trl import GRPOConfig, GRPOTrainer

    tokenizer = tiny_tokenizer()
    arguments = GRPOConfig(
        output_dir=str(tmp_path_factory.mktemp("trl")),
        use_cpu=True,
        bf16=False,
        activation_checkpointing=False,
        report_to="none",
        per_device_train_batch_size=N,
        gradient_accumulation_steps=ACCUMULATION,
        num_generations=NUM_GENERATIONS,
        max_completion_length=T,
    )
    trainer = GRPOTrainer(
        tiny_model(tokenizer),
        reward_funcs=lambda completions, **_: [0.0] * len(completions),
        args=arguments,
        train_dataset=Dataset.from_list([{"prompt": "a"}]),
        processing_class=tokenizer,
    )
    trainer.model.train()
    return trainer


def trl_loss(
    trainer: Any,
    batch: RandomCompletions,
    options: GRPOLossOptions,
    *,
    step: StepSize,
    on_policy: bool = False,
) -> tuple[Tensor, dict[str, float]]:
    """Run TRL's own `_compute_loss`; returns the loss and the metrics."""
    trainer.max_completion_length = LONGEST
    for name in ("loss_type", "beta", "importance_sampling_level"):
        setattr(trainer, name, getattr(options, name))
    trainer.epsilon_low = options.epsilon
    trainer.epsilon_high = options.epsilon if options.epsilon_high is None else options.epsilon_high
    trainer.args.delta = options.delta
    trainer.args.use_bias_correction_kl = options.use_bias_correction_kl
    trainer.current_gradient_accumulation_steps = step.micro_batches
    trainer._metrics["train"].clear()
    trainer._get_per_token_logps_and_entropies = lambda *_, **__: (
        batch.logps.masked_fill(batch.mask == 0, 0.0),  # as TRL's LM head
        batch.entropies,
        None,
    )
    ids = torch.zeros(N, T, dtype=torch.long)
    inputs = {
        "prompt_ids": ids,
        "prompt_mask": ids + 1,
        "completion_ids": ids,
        "completion_mask": batch.mask,
        "advantages": batch.advantages,
        "ref_per_token_logps": batch.ref_logps,
        # TRL counts the tokens of the generation batch, here one optimizer step.
        "num_items_in_batch": torch.tensor(step.tokens),
    }
    if not on_policy:
        inputs["old_per_token_logps"] = batch.old_logps
    loss = trainer._compute_loss(None, inputs)
    return loss, {name: values[-1] for name, values in trainer._metrics["train"].items()}


def our_loss(
    batch: RandomCompletions,
    options: GRPOLossOptions,
    *,
    step: StepSize,
    on_policy: bool = False,
) -> GRPOLoss:
    here = batch.mask.bool()
    tokens = ResponseLogps(
        lengths_N=batch.mask.sum(1),
        logps_M=batch.logps[here],
        old_logps_M=None if on_policy else batch.old_logps[here],
        ref_logps_M=batch.ref_logps[here],
        entropies_M=batch.entropies[here],
    )
    return grpo_loss(tokens, batch.advantages, options, step=step, max_completion_length=LONGEST)


def assert_equal_to_trl(trainer: Any, options: GRPOLossOptions, **more: Any) -> None:
    """Loss, gradient and metrics of three random batches are TRL's."""
    step = StepSize(completions=N * ACCUMULATION, tokens=77, micro_batches=ACCUMULATION)
    for seed in range(3):
        batch = random_completions(seed)
        theirs, their_metrics = trl_loss(trainer, batch, options, step=step, **more)
        (their_gradient,) = torch.autograd.grad(theirs, batch.logps)
        ours = our_loss(batch, options, step=step, **more)
        (our_gradient,) = torch.autograd.grad(ours.loss, batch.logps)
        torch.testing.assert_close(ours.loss, theirs, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(our_gradient, their_gradient, rtol=1e-12, atol=1e-12)
        assert their_gradient.abs().max() > 1e-4
        found = {name: float(total) / count for name, (total, count) in ours.metrics.items()}
        found["clip_ratio/low_min"] = float(ours.low_clipped_N.min())
        found["clip_ratio/high_max"] = float(ours.high_clipped_N.max())
        assert found == pytest.approx(their_metrics, rel=1e-5, abs=1e-8)


@pytest.mark.parametrize("level", ["token", "sequence"])
@pytest.mark.parametrize("beta", [0.0, 0.3])
@pytest.mark.parametrize("loss_type", NORMALIZATIONS)
def test_loss_gradient_and_metrics_equal_trls(
    trainer: Any, loss_type: GRPOLossType, beta: float, level: str
) -> None:
    options = GRPOLossOptions(
        loss_type=loss_type,
        beta=beta,
        importance_sampling_level=level,
        epsilon=0.1,
    )
    assert_equal_to_trl(trainer, options)
    assert_equal_to_trl(trainer, options.model_copy(update={"use_bias_correction_kl": False}))
    assert_equal_to_trl(trainer, options, on_policy=True)
    assert_equal_to_trl(trainer, options.model_copy(update={"epsilon_high": 0.3, "delta": 1.4}))


def test_metrics_see_ratios_clipped_on_both_sides(trainer: Any) -> None:
    """The batches above contain tokens clipped from below and from above, and free ones."""
    step = StepSize(completions=N, tokens=20, micro_batches=1)
    for seed in range(3):
        loss = our_loss(random_completions(seed), GRPOLossOptions(epsilon=0.1), step=step)
        shares = {name: float(total) / count for name, (total, count) in loss.metrics.items()}
        assert 0 < shares["clip_ratio/low_mean"] < 1
        assert 0 < shares["clip_ratio/high_mean"] < 1
        assert shares["clip_ratio/region_mean"] < 1
        assert float(loss.high_clipped_N.max()) > 0


def test_two_micro_batches_add_up_to_one_of_twice_the_size_except_in_bnpo() -> None:
    """Only bnpo depends on the way in which completions are divided into micro-batches."""
    first, second = random_completions(0), random_completions(1)
    names = ("logps", "old_logps", "ref_logps", "entropies", "advantages", "mask")
    both = RandomCompletions(
        **{name: torch.cat([getattr(first, name), getattr(second, name)]) for name in names}
    )
    tokens = int(both.mask.sum())
    two = StepSize(completions=2 * N, tokens=tokens, micro_batches=2)
    for loss_type in NORMALIZATIONS:
        options = GRPOLossOptions(loss_type=loss_type)
        parts = sum(
            float(our_loss(part, options, step=two).loss.detach()) for part in (first, second)
        )
        whole = float(our_loss(both, options, step=replace(two, micro_batches=1)).loss.detach())
        assert math.isclose(parts, whole, rel_tol=1e-9) == (loss_type != "bnpo")


def test_the_loss_is_that_worked_by_hand() -> None:
    """Two completions of 1 and 2 tokens, advantages 1 and -1, ratio 1 everywhere: losses -1, 1, 1.

    grpo (-1 + 1) / 2 = 0; dapo, bnpo (-1 + 2) / 3; dr_grpo of at most 4 tokens (-1 + 2) / (2·4).
    """
    tokens = ResponseLogps(lengths_N=torch.tensor([1, 2]), logps_M=torch.full((3,), -1.0))
    step = StepSize(completions=2, tokens=3, micro_batches=1)
    found = {
        loss_type: grpo_loss(
            tokens,
            torch.tensor([1.0, -1.0]),
            GRPOLossOptions(loss_type=loss_type),
            step=step,
            max_completion_length=4,
        ).loss.item()
        for loss_type in NORMALIZATIONS
    }
    assert found == pytest.approx({"grpo": 0.0, "bnpo": 1 / 3, "dr_grpo": 1 / 8, "dapo": 1 / 3})


REWARDS = [1.0, 2.0, 4.0, 3.0, 3.0, 3.0, float("nan"), 0.0, 5.0]
"""Three groups: different rewards, equal rewards, a completion without a reward."""


@pytest.mark.parametrize("scale_rewards", get_args(ScaleRewards))
@pytest.mark.parametrize("rewards", [REWARDS, [float("nan")] * 3 + REWARDS[3:]])
def test_advantages_equal_trls(
    trainer: Any, scale_rewards: ScaleRewards, rewards: list[float]
) -> None:
    """TRL's own `_generate_and_score_completions` computes them from these rewards."""
    rewards_N = torch.tensor(rewards)
    trainer.beta, trainer.scale_rewards = 0.0, scale_rewards
    ids: list[list[int]] = [[5, 6]] * len(rewards_N)
    trainer._generate = lambda prompts: (ids, ids, None, prompts, None, {}, None, None)
    trainer._calculate_rewards = lambda *_: rewards_N.unsqueeze(1)
    trainer._metrics["train"].clear()
    theirs = trainer._generate_and_score_completions([{"prompt": "a"}] * len(rewards_N))
    advantages_N, zero_std_N = group_advantages(
        rewards_N, num_generations=NUM_GENERATIONS, scale_rewards=scale_rewards
    )
    torch.testing.assert_close(advantages_N, theirs["advantages"])
    assert zero_std_N.float().mean().item() == pytest.approx(
        trainer._metrics["train"]["frac_reward_zero_std"][-1]
    )
    assert theirs["advantages"].abs().max() > 0.1


def test_equal_rewards_have_no_advantage() -> None:
    for scale_rewards, reward in itertools.product(get_args(ScaleRewards), (0.0, 0.1, -3.0)):
        advantages_N, zero_std_N = group_advantages(
            torch.full((4,), reward), num_generations=2, scale_rewards=scale_rewards
        )
        assert advantages_N.abs().max() < 1e-3
        assert zero_std_N.all()


def test_the_table_has_every_name_of_its_type() -> None:
    assert tuple(NORMALIZATIONS) == get_args(GRPOLossType)


def test_the_examples_in_the_docstrings_hold() -> None:
    result = doctest.testmod(aligner_grpo.loss)
    assert result.attempted >= 5
    assert result.failed == 0

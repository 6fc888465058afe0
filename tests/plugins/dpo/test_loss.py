"""The DPO losses equal TRL's, in value, gradient and metrics, and those worked by hand."""

from __future__ import annotations

import doctest
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any, get_args

import pytest
import torch
from datasets import Dataset
from torch import Tensor

import aligner_dpo.loss
from aligner.testing.tiny import tiny_model, tiny_tokenizer
from aligner_dpo.loss import (
    DIVERGENCES,
    LOSSES,
    DivergenceType,
    DPOLossSettings,
    LossType,
    PairLogps,
    TokenLogps,
    dpo_loss,
    from_tokens,
    sequence_logps,
)

B, T = 5, 9
F_DIVERGENCE_LOSSES = ("sigmoid", "sigmoid_norm", "hinge", "ipo", "exo_pair", "robust", "discopop")
UNSORTED = [name for name in LOSSES if not name.startswith("aot")]


@dataclass(frozen=True, kw_only=True)
class RandomBatch:
    """B chosen and then B rejected completions of random lengths, with random log-probabilities."""

    mask: Tensor
    """(2B, T + 1), for positions; log-probabilities are of the tokens from the second on."""
    ref_logps: Tensor
    log_sum_sq_probs: Tensor
    logps: Tensor
    """A leaf with a gradient."""


def random_batch(dtype: torch.dtype, *, seed: int = 0) -> RandomBatch:
    draw = torch.Generator().manual_seed(seed)
    starts = torch.randint(1, 4, (B,), generator=draw).repeat(2)
    ends = starts + torch.randint(1, T - 2, (2 * B,), generator=draw)
    places = torch.arange(T + 1)
    mask = ((places >= starts.unsqueeze(1)) & (places < ends.unsqueeze(1))).long()
    drawn = [
        torch.rand(2 * B, T, generator=draw, dtype=torch.float64).to(dtype) * factor * mask[:, 1:]
        for factor in (-2.0, -2.0, -1.0)
    ]
    return RandomBatch(
        mask=mask, ref_logps=drawn[0], log_sum_sq_probs=drawn[1], logps=drawn[2].requires_grad_()
    )


@pytest.fixture(scope="module")
def trainer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """TRL's trainer; the tests replace its models by the log-probabilities of a random batch."""
    from trl import DPOConfig, DPOTrainer

    tokenizer = tiny_tokenizer()
    arguments = DPOConfig(
        output_dir=str(tmp_path_factory.mktemp("trl")),
        use_cpu=True,
        bf16=False,
        activation_checkpointing=False,
        report_to="none",
    )
    trainer = DPOTrainer(
        tiny_model(tokenizer),
        tiny_model(tokenizer),
        args=arguments,
        train_dataset=Dataset.from_list([{"prompt": "a", "chosen": " b", "rejected": " c"}]),
        processing_class=tokenizer,
    )
    trainer.model.train()
    return trainer


def trl_loss(
    trainer: Any, batch: RandomBatch, settings: DPOLossSettings, **more: Any
) -> tuple[Tensor, dict[str, float]]:
    """Run TRL's own `_compute_loss`; returns the loss and the metrics."""
    trainer.loss_types = list(settings.loss_type)
    trainer.loss_weights = settings.loss_weights or [1.0] * len(settings.loss_type)
    trainer.ld_alpha = more.get("ld_alpha")
    trainer.use_weighting = more.get("use_weighting", False)
    trainer.args.discopop_tau = settings.discopop_tau
    for name in ("beta", "label_smoothing", "f_divergence_type", "f_alpha_divergence_coef"):
        setattr(trainer, name, getattr(settings, name))
    trainer.ref_model = lambda **_: SimpleNamespace(log_probs=batch.ref_logps)
    trainer._metrics["train"].clear()

    def model(**_: Any) -> SimpleNamespace:
        zeros = torch.zeros(2 * B, T)
        return SimpleNamespace(
            log_probs=batch.logps.masked_fill(batch.mask[:, 1:] == 0, 0.0),  # as TRL's LM head
            log_sum_sq_probs=batch.log_sum_sq_probs,
            entropy=zeros,
            mean_logits=zeros,
            is_top1=zeros.bool(),
        )

    ids = torch.zeros(2 * B, T + 1, dtype=torch.long)
    inputs = {"input_ids": ids, "attention_mask": ids + 1, "completion_mask": batch.mask}
    loss = trainer._compute_loss(model, inputs, return_outputs=False)
    return loss, {name: values[-1] for name, values in trainer._metrics["train"].items()}


def our_pairs(
    batch: RandomBatch, *, ld_alpha: float | None = None, use_weighting: bool = False
) -> PairLogps:
    chosen, rejected = (
        TokenLogps(logps_BT=logps, mask_BT=mask, log_sum_sq_probs_BT=squares)
        for logps, mask, squares in zip(
            batch.logps.chunk(2),
            batch.mask[:, 1:].chunk(2),
            batch.log_sum_sq_probs.chunk(2),
            strict=True,
        )
    )
    shared = torch.minimum(chosen.mask_BT.sum(1), rejected.mask_BT.sum(1)).repeat(2)
    reference = sequence_logps(
        batch.ref_logps, batch.mask[:, 1:], shared_lengths_B=shared, ld_alpha=ld_alpha
    )
    return from_tokens(
        chosen,
        rejected,
        ref_chosen_logps_B=reference[:B],
        ref_rejected_logps_B=reference[B:],
        ld_alpha=ld_alpha,
        use_weighting=use_weighting,
    )


def assert_equal_to_trl(
    trainer: Any, settings: DPOLossSettings, *, dtype: torch.dtype = torch.float64, **more: Any
) -> None:
    """Loss, gradient and metrics of three random batches are TRL's."""
    # TRL holds ε of exo_pair in float32, whatever the type of the log-probabilities.
    tight = 1e-7 if "exo_pair" in settings.loss_type else 1e-12
    tolerance = {"rtol": tight, "atol": tight} if dtype == torch.float64 else {}
    for seed in range(3):
        batch = random_batch(dtype, seed=seed)
        theirs, their_metrics = trl_loss(trainer, batch, settings, **more)
        (their_gradient,) = torch.autograd.grad(theirs, batch.logps)
        losses_B, our_metrics = dpo_loss(our_pairs(batch, **more), settings)
        (our_gradient,) = torch.autograd.grad(losses_B.mean(), batch.logps)
        torch.testing.assert_close(losses_B.mean(), theirs, **tolerance)
        torch.testing.assert_close(our_gradient, their_gradient, **tolerance)
        assert their_gradient.abs().max() > 1e-4
        assert our_metrics, "a loss without metrics"
        for name, (total, count) in our_metrics.items():
            assert float(total) / count == pytest.approx(their_metrics[name], rel=1e-5), name


def settings_of(name: str, **more: Any) -> DPOLossSettings:
    return DPOLossSettings(loss_type=(name,), label_smoothing=0.1, beta=0.3, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("ld_alpha", [None, 0.4], ids=["plain", "ld_alpha"])
def test_loss_gradient_and_metrics_equal_trls(
    trainer: Any, name: str, ld_alpha: float | None
) -> None:
    assert_equal_to_trl(trainer, settings_of(name, discopop_tau=0.5), ld_alpha=ld_alpha)


@pytest.mark.parametrize("divergence", DIVERGENCES)
@pytest.mark.parametrize("name", F_DIVERGENCE_LOSSES)
def test_every_divergence_equals_trls(trainer: Any, name: str, divergence: DivergenceType) -> None:
    """TRL's α-divergence knows no float64, so all are compared in float32."""
    settings = settings_of(name, f_divergence_type=divergence, f_alpha_divergence_coef=0.3)
    assert_equal_to_trl(trainer, settings, dtype=torch.float32)


def test_alpha_divergence_of_order_1_is_reverse_kl_and_is_limited_as_trls(trainer: Any) -> None:
    at_1 = settings_of("sigmoid", f_divergence_type="alpha_divergence", f_alpha_divergence_coef=1.0)
    plain = replace(at_1, f_divergence_type="reverse_kl")
    pairs = our_pairs(random_batch(torch.float32))
    assert dpo_loss(pairs, at_1)[0].tolist() == dpo_loss(pairs, plain)[0].tolist()
    assert_equal_to_trl(trainer, at_1, dtype=torch.float32)
    far = replace(pairs, chosen_logps_B=pairs.chosen_logps_B + 1000)
    assert dpo_loss(far, replace(at_1, f_alpha_divergence_coef=2.0))[0].isfinite().all()


@pytest.mark.parametrize("name", [name for name in UNSORTED if name not in ("hinge", "sft")])
def test_weighted_pairs_equal_trls(trainer: Any, name: str) -> None:
    assert_equal_to_trl(trainer, settings_of(name), use_weighting=True)


@pytest.mark.parametrize("name", ["hinge", "sft"])
def test_weights_multiply_the_losses_for_which_trl_fails(trainer: Any, name: str) -> None:
    """TRL multiplies in place, which autograd refuses for these two: it has no gradient to compare."""
    batch = random_batch(torch.float64)
    with pytest.raises(RuntimeError):
        trl_loss(trainer, batch, settings_of(name), use_weighting=True)[0].backward()
    plain, weighted = our_pairs(batch), our_pairs(batch, use_weighting=True)
    assert weighted.weights_B is not None
    torch.testing.assert_close(
        dpo_loss(weighted, settings_of(name))[0],
        dpo_loss(plain, settings_of(name))[0] * weighted.weights_B,
    )


def test_weighted_sum_of_all_losses_equals_trls(trainer: Any) -> None:
    settings = DPOLossSettings(
        loss_type=tuple(LOSSES),
        loss_weights=tuple(0.1 + 0.05 * place for place in range(len(LOSSES))),
        label_smoothing=0.2,
    )
    assert_equal_to_trl(trainer, settings)
    assert_equal_to_trl(trainer, replace(settings, loss_weights=None))


def test_the_tables_have_every_name_of_their_types() -> None:
    assert tuple(LOSSES) == get_args(LossType)
    assert tuple(DIVERGENCES) == get_args(DivergenceType)
    assert len(LOSSES) == 15


@pytest.mark.parametrize(
    "name", ["sigmoid", "sigmoid_norm", "robust", "discopop", "aot", "aot_unpaired"]
)
def test_the_loss_is_ln_2_where_policy_and_reference_are_equal(name: str) -> None:
    """β·0 = 0 and -log σ(0) = ln 2; discopop adds half of exp(0): (ln 2 + 1) / 2."""
    batch = random_batch(torch.float64)
    pairs = our_pairs(replace(batch, ref_logps=batch.logps.detach()))
    losses_B, _ = dpo_loss(pairs, DPOLossSettings(loss_type=(name,)))  # type: ignore[arg-type]
    expected = (0.6931471805599453 + 1) / 2 if name == "discopop" else 0.6931471805599453
    assert losses_B.tolist() == pytest.approx([expected] * B)


def test_the_examples_in_the_docstrings_hold() -> None:
    result = doctest.testmod(aligner_dpo.loss)
    assert result.attempted >= 5
    assert result.failed == 0


def test_a_value_outside_the_mask_changes_nothing() -> None:
    batch = random_batch(torch.float64)
    spoiled = batch.logps.detach().masked_fill(batch.mask[:, 1:] == 0, float("nan"))
    settings = DPOLossSettings(loss_type=tuple(LOSSES), label_smoothing=0.1)
    plain = dpo_loss(our_pairs(batch, ld_alpha=0.5), settings)[0]
    assert (
        dpo_loss(our_pairs(replace(batch, logps=spoiled), ld_alpha=0.5), settings)[0].tolist()
        == plain.tolist()
    )

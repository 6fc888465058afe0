"""The DPO losses equal TRL's, in value, gradient and metrics, and those worked by hand."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any, get_args

import pytest
import torch
from datasets import Dataset
from torch import Tensor

from aligner.kit.work import CompletionLogps, PairLogps, TokenLogps
from aligner.testing.tiny import tiny_model, tiny_tokenizer
from aligner_dpo.loss import LOSSES, dpo_loss
from aligner_dpo.options import DivergenceType, DPOOptions, LossType
from aligner_dpo.trainer import DPOMethod

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
    trainer: Any, batch: RandomBatch, options: DPOOptions
) -> tuple[Tensor, dict[str, float]]:
    """Run TRL's own `_compute_loss`; returns the loss and the metrics."""
    trainer.loss_types = list(options.loss_type)
    trainer.loss_weights = options.loss_weights or [1.0] * len(options.loss_type)
    trainer.args.discopop_tau = options.discopop_tau
    for name in (
        "beta",
        "label_smoothing",
        "f_divergence_type",
        "f_alpha_divergence_coef",
        "ld_alpha",
        "use_weighting",
    ):
        setattr(trainer, name, getattr(options, name))
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


def options_of(*names: str, **more: Any) -> DPOOptions:
    """Options without validation, which refuses some that the losses accept."""
    chosen = {"loss_type": names, "label_smoothing": 0.1, "beta": 0.3} | more
    return DPOOptions.model_construct(**chosen)


def batch_logps(batch: RandomBatch, options: DPOOptions) -> CompletionLogps:
    """The batch as the trainer hands it to the method: log-probabilities are 0 outside completions."""
    mask, method = batch.mask[:, 1:].bool(), DPOMethod(options)
    policy = TokenLogps(
        logps_NT=torch.where(mask, batch.logps, 0.0),
        mask_NT=mask,
        log_sum_sq_probs_NT=batch.log_sum_sq_probs,
    )
    reference = TokenLogps(logps_NT=batch.ref_logps, mask_NT=mask)
    return CompletionLogps(
        tokens=policy,
        logps_N=method.sum_logps(policy),
        ref_logps_N=method.sum_logps(reference),
    )


def our_pairs(batch: RandomBatch, options: DPOOptions) -> PairLogps:
    return PairLogps.of(batch_logps(batch, options))


def assert_equal_to_trl(
    trainer: Any, options: DPOOptions, *, dtype: torch.dtype = torch.float64
) -> None:
    """Loss, gradient and metrics of three random batches are TRL's."""
    # TRL holds ε of exo_pair in float32, whatever the type of the log-probabilities.
    tight = 1e-7 if "exo_pair" in options.loss_type else 1e-12
    tolerance = {"rtol": tight, "atol": tight} if dtype == torch.float64 else {}
    for seed in range(3):
        batch = random_batch(dtype, seed=seed)
        theirs, their_metrics = trl_loss(trainer, batch, options)
        (their_gradient,) = torch.autograd.grad(theirs, batch.logps)
        ours, our_metrics = DPOMethod(options).loss(batch_logps(batch, options))
        (our_gradient,) = torch.autograd.grad(ours, batch.logps)
        torch.testing.assert_close(ours, theirs, **tolerance)
        torch.testing.assert_close(our_gradient, their_gradient, **tolerance)
        assert their_gradient.abs().max() > 1e-4
        assert our_metrics, "a loss without metrics"
        for name, values in our_metrics.items():
            assert values.mean().item() == pytest.approx(their_metrics[name], rel=1e-5), name


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("ld_alpha", [None, 0.4], ids=["plain", "ld_alpha"])
def test_loss_gradient_and_metrics_equal_trls(
    trainer: Any, name: str, ld_alpha: float | None
) -> None:
    assert_equal_to_trl(trainer, options_of(name, discopop_tau=0.5, ld_alpha=ld_alpha))


@pytest.mark.parametrize("divergence", get_args(DivergenceType))
@pytest.mark.parametrize("name", F_DIVERGENCE_LOSSES)
def test_every_divergence_equals_trls(trainer: Any, name: str, divergence: DivergenceType) -> None:
    """TRL's α-divergence knows no float64, so all are compared in float32."""
    options = options_of(name, f_divergence_type=divergence, f_alpha_divergence_coef=0.3)
    assert_equal_to_trl(trainer, options, dtype=torch.float32)


def test_alpha_divergence_of_order_1_is_reverse_kl_and_is_limited_as_trls(trainer: Any) -> None:
    at_1 = options_of("sigmoid", f_divergence_type="alpha_divergence", f_alpha_divergence_coef=1.0)
    plain = at_1.model_copy(update={"f_divergence_type": "reverse_kl"})
    pairs = our_pairs(random_batch(torch.float32), at_1)
    assert dpo_loss(pairs, at_1).item() == dpo_loss(pairs, plain).item()
    assert_equal_to_trl(trainer, at_1, dtype=torch.float32)
    far = replace(pairs, chosen_logps_B=pairs.chosen_logps_B + 1000)
    at_2 = at_1.model_copy(update={"f_alpha_divergence_coef": 2.0})
    assert dpo_loss(far, at_2).isfinite()


@pytest.mark.parametrize("name", [name for name in UNSORTED if name not in ("hinge", "sft")])
def test_weighted_pairs_equal_trls(trainer: Any, name: str) -> None:
    assert_equal_to_trl(trainer, options_of(name, use_weighting=True))


@pytest.mark.parametrize("name", ["hinge", "sft"])
def test_weights_multiply_the_losses_for_which_trl_fails(trainer: Any, name: str) -> None:
    """TRL multiplies in place, which autograd refuses for these two: it has no gradient to compare."""
    batch, options = random_batch(torch.float64), options_of(name, use_weighting=True)
    with pytest.raises(RuntimeError):
        trl_loss(trainer, batch, options)[0].backward()
    pairs = our_pairs(batch, options)
    weights_B = pairs.chosen.likelihood_N() * pairs.rejected.likelihood_N()
    expected = (LOSSES[name](pairs, options) * weights_B).mean()
    torch.testing.assert_close(dpo_loss(pairs, options), expected)
    assert weights_B.std() > 1e-3


def test_weighted_sum_of_all_losses_equals_trls(trainer: Any) -> None:
    options = options_of(
        *LOSSES,
        loss_weights=tuple(0.1 + 0.05 * place for place in range(len(LOSSES))),
        label_smoothing=0.2,
        beta=0.1,
    )
    assert_equal_to_trl(trainer, options)
    assert_equal_to_trl(trainer, options.model_copy(update={"loss_weights": None}))


def test_there_is_a_loss_for_every_name_of_the_option() -> None:
    assert set(LOSSES) == set(get_args(LossType))
    assert len(LOSSES) == 15


@pytest.mark.parametrize(
    ("name", "length", "expected"),
    [
        ("sigmoid", 1, 0.126928),  # βΔ = ½·(3 + 1) = 2, log(1 + e^-2)
        ("hinge", 1, 0.0),  # max(0, 1 - 2)
        ("ipo", 2, 1.0),  # Δ a token = 3/2 + 1/2 = 2, (2 - 1/(2β))² = (2 - 1)²
        ("sppo_hard", 1, 4.0),  # (3 - 1)² + (-1 + 1)²
        ("apo_zero", 1, 0.559966),  # 1 - σ(1.5) + σ(-0.5)
    ],
)
def test_the_loss_of_log_ratios_3_and_minus_1_at_beta_half_is_this(
    name: str, length: int, expected: float
) -> None:
    tokens = TokenLogps(logps_NT=torch.zeros(1, 2), mask_NT=torch.arange(2).unsqueeze(0) < length)
    pairs = PairLogps(
        chosen_logps_B=torch.tensor([3.0]),
        rejected_logps_B=torch.tensor([-1.0]),
        ref_chosen_logps_B=torch.zeros(1),
        ref_rejected_logps_B=torch.zeros(1),
        chosen=tokens,
        rejected=tokens,
    )
    found = dpo_loss(pairs, options_of(name, beta=0.5, label_smoothing=0.0)).item()
    assert found == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    "name", ["sigmoid", "sigmoid_norm", "robust", "discopop", "aot", "aot_unpaired"]
)
def test_the_loss_is_ln_2_where_policy_and_reference_are_equal(name: str) -> None:
    """β·0 = 0 and -log σ(0) = ln 2; discopop adds half of exp(0): (ln 2 + 1) / 2."""
    batch, options = random_batch(torch.float64), options_of(name, label_smoothing=0.0)
    pairs = our_pairs(replace(batch, ref_logps=batch.logps.detach()), options)
    expected = (0.6931471805599453 + 1) / 2 if name == "discopop" else 0.6931471805599453
    assert LOSSES[name](pairs, options).tolist() == pytest.approx([expected] * B)

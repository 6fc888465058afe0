"""The KTO losses equal TRL's, in value, gradient and metrics."""

from __future__ import annotations

import doctest
import math
from types import SimpleNamespace
from typing import Any, get_args

import pytest
import torch
from datasets import Dataset
from torch import Tensor

import aligner_kto.loss
from aligner.testing.tiny import labels, tiny_model, tiny_tokenizer
from aligner_kto.loss import LOSSES, apo_zero_unpaired, kto_loss, reference_point
from aligner_kto.options import KTOLossType, KTOOptions

B, T = 6, 8
MIXED = [True, False, True, True, False, True]


@pytest.fixture(scope="module")
def trainer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """TRL's trainer; the tests replace its models by random log-probabilities."""
    from trl import KTOConfig, KTOTrainer

    tokenizer = tiny_tokenizer()
    arguments = KTOConfig(
        output_dir=str(tmp_path_factory.mktemp("trl")),
        use_cpu=True,
        bf16=False,
        activation_checkpointing=False,
        report_to="none",
    )
    trainer = KTOTrainer(
        tiny_model(tokenizer),
        tiny_model(tokenizer),
        args=arguments,
        train_dataset=Dataset.from_list(list(labels(4))),
        processing_class=tokenizer,
    )
    trainer.model.train()
    return trainer


class RandomModel:
    """Random log-probabilities of the completions, and of the mismatched ones for the KL term.

    TRL's trainer runs the model on the mismatched rows first.
    """

    def __init__(self, draw: torch.Generator, *, scale: float) -> None:
        self.kl_logps, self.logps = (
            -scale * torch.rand(B, T, generator=draw, dtype=torch.float64) for _ in range(2)
        )
        self.logps.requires_grad_()

    def __call__(self, *, input_ids: Tensor, **_: Any) -> SimpleNamespace:
        is_mismatched = bool((input_ids == 1).all())
        zeros = torch.zeros(B, T)
        return SimpleNamespace(
            log_probs=self.kl_logps if is_mismatched else self.logps,
            entropy=zeros,
            mean_logits=zeros,
        )


def options_of(loss_type: str, **more: Any) -> KTOOptions:
    """Options without the data that a step reads."""
    return KTOOptions.model_construct(loss_type=loss_type, **more)


def trl_loss(
    trainer: Any,
    policy: RandomModel,
    reference: RandomModel,
    labels_B: Tensor,
    options: KTOOptions,
) -> tuple[Tensor, dict[str, float]]:
    """Run TRL's own `_compute_loss`; returns the loss and the metrics."""
    for name in ("loss_type", "beta", "desirable_weight", "undesirable_weight"):
        setattr(trainer, name, getattr(options, name))
    trainer.calculate_KL = options.loss_type == "kto"
    trainer.ref_model = reference
    trainer._metrics["train"].clear()
    ids = torch.zeros(B, T + 1, dtype=torch.long)
    inputs = {"label": labels_B} | {
        f"{prefix}{name}": value
        for prefix, row in (("", ids), ("KL_", ids + 1))
        for name, value in {
            "input_ids": row,
            "attention_mask": ids + 1,
            "completion_mask": ids + 1,
        }.items()
    }
    loss = trainer._compute_loss(policy, inputs, return_outputs=False)
    return loss, {name: values[-1] for name, values in trainer._metrics["train"].items()}


@pytest.mark.parametrize("loss_type", LOSSES)
@pytest.mark.parametrize("mixture", [MIXED, [True] * B, [False] * B], ids=["mixed", "good", "bad"])
@pytest.mark.parametrize("scale", [0.2, 3.0], ids=["kl clamped to 0", "kl above 0"])
def test_loss_gradient_and_metrics_equal_trls(
    trainer: Any, loss_type: KTOLossType, mixture: list[bool], scale: float
) -> None:
    """The larger the reference's log-probabilities are negative, the larger the KL estimate."""
    options = options_of(loss_type, beta=0.3, desirable_weight=1.3, undesirable_weight=0.7)
    labels_B = torch.tensor(mixture)
    for seed in range(3):
        draw = torch.Generator().manual_seed(seed)
        policy, reference = RandomModel(draw, scale=1.0), RandomModel(draw, scale=scale)
        theirs, their_metrics = trl_loss(trainer, policy, reference, labels_B, options)
        (their_gradient,) = torch.autograd.grad(theirs, policy.logps)
        z0 = reference_point((policy.kl_logps - reference.kl_logps).sum(1))
        if loss_type == "kto":
            assert (float(z0) > 0) == (scale > 1)
        losses_B, metrics = kto_loss(
            policy.logps.sum(1),
            reference.logps.detach().sum(1),
            labels_B,
            options,
            z0=z0 if loss_type == "kto" else torch.zeros(()),
        )
        (our_gradient,) = torch.autograd.grad(losses_B.mean(), policy.logps)
        torch.testing.assert_close(losses_B.mean(), theirs, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(our_gradient, their_gradient, rtol=1e-12, atol=1e-12)
        assert their_gradient.abs().max() > 1e-4
        means = {name: float(value.nanmean()) for name, value in metrics.items()}
        seen = {name: mean for name, mean in means.items() if not math.isnan(mean)}
        assert set(seen) - set(their_metrics) == {"rewards/accuracies"}
        assert {name: their_metrics.get(name, seen[name]) for name in seen} == pytest.approx(seen)
        assert their_metrics.keys() - seen.keys() <= {
            "entropy",
            "num_tokens",
            "logits/chosen",
            "logits/rejected",
        }


def test_the_loss_is_half_the_weight_where_policy_and_reference_are_equal() -> None:
    """σ(0) = 1/2, so each completion's loss is half of its weight, under both losses."""
    logps_B = -torch.rand(B)
    labels_B = torch.tensor(MIXED)
    for loss_type in LOSSES:
        options = options_of(loss_type, desirable_weight=2.0, undesirable_weight=0.5)
        losses_B, _ = kto_loss(
            logps_B, logps_B, labels_B, options, z0=reference_point(logps_B - logps_B)
        )
        assert losses_B.tolist() == [1.0 if label else 0.25 for label in MIXED]


def test_apo_zero_unpaired_ignores_the_reference_point() -> None:
    logratios_B, labels_B = torch.tensor([1.0, 1.0]), torch.tensor([True, False])
    near, far = (
        apo_zero_unpaired(logratios_B, labels_B, 0.5, torch.tensor(z0)).tolist()
        for z0 in (0.0, 9.0)
    )
    assert near == far == pytest.approx([0.377541, 0.622459], abs=1e-6)


def test_the_table_has_every_name_of_its_type() -> None:
    assert tuple(LOSSES) == get_args(KTOLossType)


def test_the_examples_in_the_docstrings_hold() -> None:
    result = doctest.testmod(aligner_kto.loss)
    assert result.attempted >= 3
    assert result.failed == 0

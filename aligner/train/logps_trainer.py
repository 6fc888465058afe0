"""A trainer on log-probabilities of completions, relative to those of a reference model.

Shapes: B rows, K completions a row, N = K·B sequences, T tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor, nn
from torch.utils.data import DataLoader
from trl.trainer.utils import add_fused_lm_head, disable_dropout_in_model

from aligner.models.restore import base_model
from aligner.train.completions import REFERENCE
from aligner.train.logps import CompletionLogps, TokenLogps
from aligner.train.metrics import MetricMeans
from aligner.train.row_dataset import add_columns
from aligner.train.trainer import StepTrainer

Loss = Callable[[CompletionLogps], tuple[Tensor, Mapping[str, Tensor]]]
"""Loss of a batch, a scalar, and its metrics: tensors whose mean is logged."""


class LogpsTrainer(StepTrainer):
    """Trainer on a loss of log-probabilities that the policy and a reference give completions.

    The reference's log-probabilities are computed once, before the first update: by the very model
    that is about to be trained, which still is the incoming policy then, whatever its adapters; or by
    the model in the reference slot. No second model is kept in memory and no adapter is copied.
    """

    loss_is_scaled_for_ga = False

    def __init__(
        self,
        *,
        loss: Loss,
        sum_logps: Callable[[TokenLogps], Tensor],
        sides: Sequence[str],
        sides_without_gradient: int = 0,
        statistics: tuple[str, ...] = (),
        reference: Any | None,
        disable_dropout: bool,
        **keywords: Any,
    ) -> None:
        """Args:
        loss: Loss and metrics of a batch.
        sum_logps: Reduces per-token log-probabilities to one number a completion.
        sides: Names of the completions of a row, in the order of the batch's blocks.
        sides_without_gradient: Number of sides, the last ones, that are not trained.
        statistics: Further per-token outputs of TRL's fused LM head, besides log-probabilities.
        reference: The model in the reference slot; None for the policy as it is now.
        disable_dropout: Set all dropout of the policy to 0.
        keywords: Those of transformers' `Trainer`.
        """
        super().__init__(**keywords)
        self._loss, self._sum_logps, self._sides = loss, sum_logps, tuple(sides)
        self._trained_sides = self._sides[: len(sides) - sides_without_gradient]
        self._means, self._tokens_seen = MetricMeans(), 0
        model: Any = self.model
        _cast_quantized(model)
        if disable_dropout:
            disable_dropout_in_model(model)
        add_fused_lm_head(
            model, outputs=("log_probs", "entropy", "mean_logits", "is_top1", *statistics)
        )
        self._router_coefficient = _router_coefficient(model)
        if reference is not None:
            add_fused_lm_head(base_model(reference))
        scorer, arguments = model if reference is None else reference, self.args
        self.train_dataset = self._with_reference(
            self.train_dataset, scorer, arguments.per_device_train_batch_size
        )
        if self.eval_dataset is not None:
            self.eval_dataset = self._with_reference(
                self.eval_dataset, scorer, arguments.per_device_eval_batch_size
            )

    def compute_loss(
        self,
        model: Any,
        inputs: Any,
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """Compute the loss of a batch, and keep its metrics for the next log entry."""
        trained, others = self._split(inputs)
        outputs, tokens = self._forward(model, trained)
        logps_N = self._sum_logps(tokens)
        if others is not None:
            with torch.no_grad():
                _, other_tokens = self._forward(model, others)
            logps_N = torch.cat([logps_N, self._sum_logps(other_tokens)])
        columns = {name: x for name, x in inputs.items() if x.dim() == 1 and name != "ref_logps"}
        logps = CompletionLogps(
            tokens=tokens,
            logps_N=logps_N,
            ref_logps_N=inputs["ref_logps"],
            columns=columns,
        )
        loss, values = self._loss(logps)
        if outputs.aux_loss is not None:
            loss = loss + self._router_coefficient * outputs.aux_loss
        statistics = _statistics(outputs, tokens, self._trained_sides)
        self._keep_metrics({**statistics, **values}, trained)
        return (loss, outputs) if return_outputs else loss

    def prediction_step(self, model: Any, inputs: Any, *_: Any, **__: Any) -> Any:
        """Return the loss of a batch of held-out rows."""
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad(), self.compute_loss_context_manager():
            return self.compute_loss(model, inputs), None, None

    @property
    def _is_training(self) -> bool:
        return bool(self.model and self.model.training)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the means of the metrics since the last entry."""
        logs.update(self._means.take(training=self._is_training))
        super().log(logs, start_time)

    def _split(
        self, inputs: Mapping[str, Tensor]
    ) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor] | None]:
        """Divide the sequences of a batch into those of the sides with a gradient, and the others."""
        if len(self._trained_sides) == len(self._sides):
            return inputs, None
        names = ("input_ids", "attention_mask", "completion_mask")
        count = len(inputs["input_ids"]) // len(self._sides) * len(self._trained_sides)
        return ({name: inputs[name][:count] for name in names}), (
            {name: inputs[name][count:] for name in names}
        )

    def _forward(self, model: Any, inputs: Mapping[str, Tensor]) -> tuple[Any, TokenLogps]:
        mask_NT = inputs["completion_mask"]
        ids_NT = inputs["input_ids"]
        router = {"output_router_logits": True} if self._router_coefficient else {}
        outputs = model(
            input_ids=ids_NT,
            attention_mask=inputs["attention_mask"],
            use_cache=False,
            labels=ids_NT.masked_fill(mask_NT == 0, -100),
            fused_lm_head=True,
            **router,
        )
        tokens = TokenLogps(
            logps_NT=outputs.log_probs,
            mask_NT=mask_NT[:, 1:].bool(),
            log_sum_sq_probs_NT=outputs.log_sum_sq_probs,
        )
        return outputs, tokens

    def _keep_metrics(self, values: Mapping[str, Tensor], inputs: Mapping[str, Tensor]) -> None:
        training = self._is_training
        gather = self.accelerator.gather
        for name, value in values.items():
            self._means.add(name, gather(value.detach()), training=training)
        if training:
            counted = self.accelerator.gather_for_metrics(inputs["attention_mask"].sum())
            self._tokens_seen += int(counted.sum().item())
        self._means.set("num_tokens", self._tokens_seen, training=training)

    def _with_reference(self, rows: Dataset, model: Any, batch_size: int) -> Dataset:
        """Add columns with the log-probabilities that `model` gives the rows' completions now."""
        model.eval()
        loader = self.accelerator.prepare(
            DataLoader(rows, batch_size=batch_size, collate_fn=self.data_collator, shuffle=False)
        )
        found: list[list[Tensor]] = [[] for _ in self._sides]
        for batch in loader:
            with torch.no_grad(), self.accelerator.autocast():
                _, tokens = self._forward(model, batch)
            blocks = self._sum_logps(tokens).chunk(len(self._sides))
            for side, logps_B in zip(
                found, self.accelerator.gather_for_metrics(blocks), strict=True
            ):
                side.append(logps_B.float().cpu())
        columns = zip(self._sides, found, strict=True)
        logps = {REFERENCE.format(side): torch.cat(parts).tolist() for side, parts in columns}
        return add_columns(rows, logps)


def _statistics(outputs: Any, tokens: TokenLogps, sides: Sequence[str]) -> dict[str, Tensor]:
    """Entropy and mean logits on completion tokens, and accuracy on those of the first side."""
    masks, logits = tokens.mask_NT.chunk(len(sides)), outputs.mean_logits.chunk(len(sides))
    is_top1_BT = outputs.is_top1.chunk(len(sides))[0]
    return {
        "entropy": (outputs.entropy * tokens.mask_NT).sum() / tokens.mask_NT.sum(),
        "mean_token_accuracy": (is_top1_BT & masks[0]).sum() / masks[0].sum(),
        **{
            f"logits/{side}": logits_BT[mask_BT].sum().double() / mask_BT.sum()
            for side, mask_BT, logits_BT in zip(sides, masks, logits, strict=True)
        },
    }


def _router_coefficient(model: Any) -> float:
    """Return the weight of the load-balancing loss of a mixture of experts; 0 for other models."""
    config = model.config.get_text_config()
    if not hasattr(config, "output_router_logits"):
        return 0.0
    return float(getattr(config, "router_aux_loss_coef", 0.0))


def _cast_quantized(model: nn.Module) -> None:
    """Train adapters on quantized weights in bf16, as QLoRA does (Dettmers 2023, section 3)."""
    if getattr(model, "is_loaded_in_4bit", False) or getattr(model, "is_loaded_in_8bit", False):
        for name, parameter in model.named_parameters():
            # Updates of DoRA's magnitudes are finer than bf16 can represent.
            if parameter.requires_grad and "lora_magnitude_vector" not in name:
                parameter.data = parameter.data.to(torch.bfloat16)

"""Train a reward model with TRL's trainer, on pairs that are tokenized already."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from trl import RewardConfig, RewardTrainer

from aligner import ModelState, PlanContext, StepContext
from aligner.kit.work import (
    CompletionMethod,
    ModelInfo,
    PreparedModel,
    StepTrainer,
    TrainerInputs,
    load_reward_to_train,
    reward_info,
)
from aligner_reward.options import RewardModelOptions


class _RewardTrainer(StepTrainer, RewardTrainer):
    """TRL's trainer, given the columns of a batch that the model and the loss read."""

    def compute_loss(self, model: Any, inputs: Any, *rest: Any, **others: Any) -> Any:
        names = ("input_ids", "attention_mask", "margin")
        read = {name: inputs[name] for name in names if name in inputs}
        return super().compute_loss(model, read, *rest, **others)  # type: ignore[no-untyped-call]  # TRL


class RewardMethod(CompletionMethod[RewardModelOptions]):
    """Training by -log σ(r(chosen) - r(rejected)), of a model whose head returns one number."""

    sides = ("chosen", "rejected")
    scored = "end"

    def base(self) -> tuple[str, str | None] | None:
        return (self.options.base, self.options.revision) if self.options.base else None

    def model_info(self, context: PlanContext) -> ModelInfo:
        return reward_info(super().model_info(context))

    def columns(self, split: Sequence[Any]) -> Mapping[str, Callable[[Any], float]]:
        margins = self.options.margin and any(pair.margin is not None for pair in split)
        return {"margin": lambda pair: float(pair.margin or 0)} if margins else {}

    def load(
        self, state: ModelState, context: StepContext, tokenizer: Any, *, stage: str
    ) -> PreparedModel:
        return load_reward_to_train(
            self.incoming("policy", state, context),
            context.model_cache,
            self.options,
            step=stage,
            seed=context.seed,
            pad=tokenizer.pad_token_id,
        )

    def trainer(self, inputs: TrainerInputs, tokenizer: Any) -> _RewardTrainer:
        config = RewardConfig(
            **inputs.arguments,
            max_length=None,
            remove_unused_columns=False,
            center_rewards_coefficient=self.options.center_rewards_coefficient,
            disable_dropout=self.options.disable_dropout,
        )
        return _RewardTrainer(args=config, **inputs.keywords)

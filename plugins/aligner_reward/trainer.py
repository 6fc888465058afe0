"""Train a reward model with TRL's trainer, on pairs that are tokenized already."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor
from trl import RewardConfig, RewardTrainer

from aligner import Artifact, ModelState, PlanContext, Slot, SlotForecast, StepContext
from aligner.kit.declare import ErrorGroup, RowKind, TokenSequence
from aligner.kit.work import (
    CompletionMethod,
    DataContext,
    ModelInfo,
    PreparedData,
    PreparedModel,
    Reader,
    StepTrainer,
    TrainerInputs,
    load_reward_to_train,
    load_tokenizer,
    pad_errors,
    pad_id,
    resolve,
    resolve_tokenizer,
    reward_info,
    save_tokenizer,
)
from aligner_reward.options import RewardOptions


class _RewardTrainer(StepTrainer, RewardTrainer):
    """TRL's trainer, given the columns of a batch that the model and the loss read."""

    def compute_loss(self, model: Any, inputs: Any, *rest: Any, **others: Any) -> Any:
        names = ("input_ids", "attention_mask", "margin")
        read = {name: inputs[name] for name in names if name in inputs}
        return super().compute_loss(model, read, *rest, **others)  # type: ignore[no-untyped-call]  # TRL


class RewardMethod(CompletionMethod[RewardOptions]):
    """Training by -log σ(r(chosen) - r(rejected)), of a model whose head returns one number."""

    sides = ("chosen", "rejected")
    scored_word = "scored"

    def incoming_slots(self, context: PlanContext) -> Mapping[Slot, SlotForecast]:
        if self.options.base is None:
            return context.slots
        return dict(context.slots) | {
            slot: SlotForecast(made_by=artifact.path, facts={"artifact": artifact})
            for slot, artifact in self._base(context).items()
        }

    def model_info(self, context: PlanContext) -> ModelInfo:
        return reward_info(super().model_info(context), where=context.where)

    def prepare(self, reads: RowKind, context: DataContext, tokenizer: Any) -> PreparedData[Any]:
        pad, eos = tokenizer.pad_token_id, tokenizer.eos_token_id
        ErrorGroup.raise_if_any(pad_errors(pad, eos, where=context.at("data")))
        return super().prepare(reads, context, tokenizer)

    def rows(self, split: Sequence[Any], *, held_out: bool) -> Iterator[dict[str, Any]]:
        margins = self.options.margin and any(pair.margin is not None for pair in split)
        for pair, row in zip(split, super().rows(split, held_out=held_out), strict=True):
            yield row | ({"margin": float(pair.margin or 0)} if margins else {})

    def stops(self, tokenizer: Any) -> Sequence[int]:
        return ()  # a completion is scored at its last token, whatever that is

    def read_sequence(
        self, reader: Reader, ids: list[int], completion: list[int], present: list[int], name: str
    ) -> TokenSequence:
        return reader.scored_lane(ids, present, pad=pad_id(reader.tokenizer), name=name)

    def facts(self, batch: Mapping[str, Tensor], place: int) -> tuple[str, ...]:
        return (f"margin {batch['margin'][place]:g}",) if "margin" in batch else ()

    def tokenizer(self, state: ModelState, context: StepContext) -> Any:
        artifact = self._base(context)["tokenizer"] if self.options.base else state.get("tokenizer")
        return load_tokenizer(artifact, context.model_cache)

    def load(
        self, state: ModelState, context: StepContext, tokenizer: Any, *, stage: str
    ) -> PreparedModel:
        return load_reward_to_train(
            self._base(context)["policy"] if self.options.base else state.get("policy"),
            context.model_cache,
            self.options,
            step=stage,
            seed=context.seed,
            pad=tokenizer.pad_token_id,
            where=context.where,
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

    def save(
        self, prepared: PreparedModel, tokenizer: Any, context: StepContext, *, slot: Slot
    ) -> dict[Slot, Artifact]:
        # A reward model reads text through the tokenizer it was trained with, not the policy's.
        save_tokenizer(tokenizer, context.folder / slot)
        return super().save(prepared, tokenizer, context, slot=slot)

    def _base(self, context: PlanContext | StepContext) -> dict[Slot, Artifact]:
        """Return the model and the tokenizer that `base` names."""
        base, revision = self.options.base or "", self.options.revision
        local, where = context.recipe_folder / base, context.at("base")
        path = str(local) if local.is_dir() else base
        return {
            "policy": resolve(path, revision, where=where),
            "tokenizer": resolve_tokenizer(path, revision, where=where),
        }

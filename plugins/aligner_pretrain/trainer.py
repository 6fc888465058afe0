"""Train a language model on plain text; a fresh one starts from random weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aligner import Artifact, ModelState, PlanContext, Slot, SlotForecast, StepContext
from aligner.kit.declare import ChainError, error_location
from aligner.kit.work import (
    DataContext,
    LanguageMethod,
    PreparedModel,
    fresh_info,
    fresh_model,
    fresh_tokenizer,
    prepare_policy,
    save_tokenizer,
    set_token_ids,
)
from aligner_pretrain.options import PretrainOptions


class PretrainMethod(LanguageMethod[PretrainOptions]):
    """Training on every token of documents, of the incoming policy or of a fresh model."""

    def incoming_slots(self, context: PlanContext) -> Mapping[Slot, SlotForecast]:
        if self.options.fresh is None:
            return context.slots
        if "policy" in context.slots:
            raise ChainError(
                f"step {context.step!r} begins with a fresh model, but "
                f"{context.slots['policy'].made_by!r} has filled the policy already",
                where=context.at("fresh"),
                hint="remove `model` (or the earlier step), or remove `fresh` to train that model further",
            )
        tokenizer = self._fresh_tokenizer(context)
        with error_location(context.at("fresh")):
            info = fresh_info(self.options.fresh, vocab_size=len(tokenizer))
        new: dict[Slot, SlotForecast] = {
            "tokenizer": SlotForecast(made_by=context.step, facts={"tokenizer": tokenizer}),
            "policy": SlotForecast(made_by=context.step, facts={"model": info}),
        }
        return dict(context.slots) | new

    def tokenizer(self, state: ModelState, context: StepContext) -> Any:
        if self.options.fresh is None:
            return super().tokenizer(state, context)
        return self._fresh_tokenizer(context)

    def load(
        self, state: ModelState, context: StepContext, tokenizer: Any, *, stage: str
    ) -> PreparedModel:
        options, seed = self.options, context.seed
        if options.fresh is None:
            return super().load(state, context, tokenizer, stage=stage)
        model = fresh_model(options.fresh, vocab_size=len(tokenizer), seed=seed)
        set_token_ids(model, tokenizer)
        return prepare_policy(model, None, options=options, step=stage, seed=seed)

    def save(
        self, prepared: PreparedModel, tokenizer: Any, context: StepContext, *, slot: Slot
    ) -> dict[Slot, Artifact]:
        saved = super().save(prepared, tokenizer, context, slot=slot)
        if self.options.fresh is None:
            return saved
        artifact = save_tokenizer(tokenizer, context.folder / "tokenizer")
        context.model_cache.keep(artifact, tokenizer)
        return saved | {"tokenizer": artifact}

    def _fresh_tokenizer(self, context: DataContext) -> Any:
        options = self.options
        longest = options.fresh.max_position_embeddings if options.fresh else None
        return fresh_tokenizer(options, context, vocab_size=options.vocab_size, max_length=longest)

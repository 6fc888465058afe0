"""The models of a chain that answer prompts: each loaded only while it is needed, each asked once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from aligner.data.encoding.chat import ChatEncoder
from aligner.data.encoding.tokenizers import load_tokenizer, tokenizer_hash
from aligner.data.rows import Prompt
from aligner.errors import ModelError
from aligner.models.generate import Answer, Sampling, generate
from aligner.models.load import load_model
from aligner.stage import StepContext
from aligner.state import Artifact, ModelState
from aligner_evaluate.material import encoded
from aligner_evaluate.stage import EvaluateOptions


@dataclass(frozen=True, kw_only=True)
class EvaluatedModel:
    """A model and the tokenizer that it is spoken to through."""

    step: str
    """The step that left it."""
    policy: Artifact
    tokenizer: Any
    words: str
    """What decides which ids its texts become, as a hash."""
    where: str = ""
    """`file:line` for a complaint about its chat template."""

    @cached_property
    def chat(self) -> ChatEncoder:
        """How it is spoken to; a model that only reads text needs no chat template."""
        return ChatEncoder(self.tokenizer, where=self.where)

    def sampling(self, options: EvaluateOptions) -> Sampling:
        """How it answers when answers are compared."""
        return Sampling(
            stop_tokens=tuple(self.chat.stops),
            max_new_tokens=options.max_new_tokens,
            temperature=options.temperature,
            top_k=options.top_k,
            top_p=options.top_p,
        )

    def own_sampling(self, options: EvaluateOptions) -> Sampling:
        """How it answers when its distribution itself is looked at: at temperature 1, uncut."""
        return Sampling(
            stop_tokens=tuple(self.chat.stops),
            max_new_tokens=options.max_new_tokens,
            temperature=1.0,
        )


@dataclass(frozen=True, kw_only=True)
class Completions:
    """Answers of one model to all prompts."""

    prompts: list[list[int]]
    answers: list[Answer]
    texts: list[str]


@dataclass
class Answers:
    """Every model's answers, each made once."""

    rows: Sequence[Prompt]
    options: EvaluateOptions
    seed: int
    finished: Callable[[int], None]
    _said: dict[tuple[str, str, Sampling], Completions] = field(default_factory=dict)

    def known(self, voice: EvaluatedModel, sampling: Sampling) -> bool:
        return (voice.policy.hash, voice.words, sampling) in self._said

    def of(self, voice: EvaluatedModel, sampling: Sampling, model: Any = None) -> Completions:
        """What `voice` says.

        Args:
            voice: Who.
            sampling: How tokens are chosen.
            model: Its live model; needed unless the answers are known.
        """
        key = (voice.policy.hash, voice.words, sampling)
        if key not in self._said:
            prompts = encoded(self.rows, voice.chat)
            before = 0

            def further(count: int) -> None:
                nonlocal before
                self.finished(count - before)
                before = count

            answers = generate(
                model,
                prompts,
                sampling=sampling,
                seed=self.seed,
                batch_size=self.options.per_device_eval_batch_size,
                finished=further,
            )
            texts = [answer.text(voice.tokenizer) for answer in answers]
            self._said[key] = Completions(prompts=prompts, answers=answers, texts=texts)
        return self._said[key]


def own_voice(state: ModelState, context: StepContext) -> EvaluatedModel:
    """The policy as it comes in."""
    tokenizer = load_tokenizer(state.get("tokenizer"), context.model_cache, where=context.where)
    return EvaluatedModel(
        step=context.step,
        policy=state.get("policy"),
        tokenizer=tokenizer,
        words=tokenizer_hash(tokenizer),
        where=context.where,
    )


def spoken_through(
    tokenizer: Any | None, own: Any, *, step: str, same_tokens: bool, where: str
) -> Any:
    """The tokenizer through which an earlier model is asked the policy's prompts.

    It is the model's own, or the policy's where its own has no chat template and the same tokens.

    Args:
        tokenizer: Its own; None where there is none.
        own: The policy's.
        step: The step that left the model.
        same_tokens: Whether it must have the policy's tokens, so that both can weigh one answer.
        where: `file:line` for a complaint.

    Raises:
        ModelError: it has other tokens than it must, or no way to be asked.
    """
    if tokenizer is None:
        raise ModelError(
            f"nothing has filled policy and tokenizer after {step!r}, so no model could answer",
            where=where,
            hint="name a step after the one that fills them",
        )
    alike = tokenizer.get_vocab() == own.get_vocab()
    if same_tokens and not alike:
        raise ModelError(
            f"the model after {step!r} has other tokens than the policy, so it has no probability "
            "for the policy's answers",
            where=where,
            hint="name a step after the tokens were made, such as the chat step",
        )
    if same_tokens or (alike and not tokenizer.chat_template):
        return own
    if not tokenizer.chat_template:
        raise ModelError(
            f"the tokenizer after {step!r} has no chat template, so its model cannot be asked",
            where=where,
            hint="name a later step, such as the chat step that gives it one",
        )
    return tokenizer


def earlier_voice(
    step: str, own: EvaluatedModel, context: StepContext, *, same_tokens: bool
) -> EvaluatedModel:
    """The model that an earlier step left; see `spoken_through`."""
    state = context.past[step]
    where = context.at("kl_to" if same_tokens else "against")
    there = state.tokenizer if state.policy is not None else None
    tokenizer = spoken_through(
        load_tokenizer(there, context.model_cache, where=where) if there is not None else None,
        own.tokenizer,
        step=step,
        same_tokens=same_tokens,
        where=where,
    )
    assert state.policy is not None, "without a policy there is no tokenizer to speak through"
    if tokenizer is own.tokenizer or tokenizer_hash(tokenizer) == own.words:
        return replace(own, step=step, policy=state.policy)
    return EvaluatedModel(
        step=step,
        policy=state.policy,
        tokenizer=tokenizer,
        words=tokenizer_hash(tokenizer),
        where=where,
    )


@contextmanager
def in_memory(
    voice: EvaluatedModel, options: EvaluateOptions, context: StepContext, *, keep: bool
) -> Iterator[Any]:
    """The model of `voice` for the body, in eval mode.

    Args:
        voice: Whose.
        config: Precision, quantisation and attention.
        run: Whose live models it may be among.
        keep: Leave it where the next step looks for it; else its memory is free afterwards.
    """
    model = load_model(
        voice.policy,
        context.model_cache,
        precision=options.precision,
        quantize=options.quantize,
        attn_implementation=options.attn_implementation,
    )
    try:
        yield model
    finally:
        if keep:
            context.model_cache.keep(voice.policy, model)

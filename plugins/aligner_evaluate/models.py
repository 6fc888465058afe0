"""Models of a chain that complete prompts: loaded only while needed, each prompt completed once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from aligner import Artifact, ModelState, StepContext
from aligner.kit.declare import ModelError
from aligner.kit.rows import Prompt
from aligner.kit.work import (
    Answer,
    ChatEncoder,
    Sampling,
    generate,
    load_model,
    load_tokenizer,
    tokenizer_hash,
)
from aligner_evaluate.datasets import encode_prompts
from aligner_evaluate.options import EvaluateOptions


@dataclass(frozen=True, kw_only=True)
class EvaluatedModel:
    """A model with the tokenizer that it is prompted through."""

    step: str
    """The step that made it."""
    policy: Artifact
    tokenizer: Any
    tokenizer_hash: str
    """Hash of all that determines the tokens of a text."""
    where: str = ""
    """Location for errors of the chat template."""

    @cached_property
    def chat(self) -> ChatEncoder:
        """Encoder of prompts; a model that only reads text needs no chat template."""
        return ChatEncoder(self.tokenizer, where=self.where)

    def sampling(self, options: EvaluateOptions) -> Sampling:
        """Return the sampling of completions that are scored and compared."""
        return Sampling.from_options(options, self.chat.stops)

    def unmodified_sampling(self, options: EvaluateOptions) -> Sampling:
        """Return the sampling of completions for KL estimates: temperature 1, from all tokens."""
        return Sampling(
            stop_tokens=tuple(self.chat.stops),
            max_new_tokens=options.max_new_tokens,
            temperature=1.0,
        )


@dataclass(frozen=True, kw_only=True)
class Completions:
    """Completions of all prompts by one model."""

    prompts: list[list[int]]
    """Token ids of the prompts."""
    answers: list[Answer]
    texts: list[str]


@dataclass
class CompletionCache:
    """Completions of every model, each generated once."""

    prompts: Sequence[Prompt]
    options: EvaluateOptions
    seed: int
    finished: Callable[[int], None]
    """Called with the number of completions that a batch adds."""
    _completions: dict[tuple[str, str, Sampling], Completions] = field(default_factory=dict)

    def has(self, evaluated: EvaluatedModel, sampling: Sampling) -> bool:
        """Return True if the completions have been generated."""
        return (evaluated.policy.hash, evaluated.tokenizer_hash, sampling) in self._completions

    def get(self, evaluated: EvaluatedModel, sampling: Sampling, model: Any = None) -> Completions:
        """Return the completions of a model, and generate them the first time.

        Args:
            evaluated: The model and its tokenizer.
            sampling: Sampling of the completions.
            model: The loaded model; needed unless the completions have been generated.
        """
        key = (evaluated.policy.hash, evaluated.tokenizer_hash, sampling)
        if key not in self._completions:
            prompts = encode_prompts(self.prompts, evaluated.chat)
            before = 0

            def finished(count: int) -> None:
                nonlocal before
                self.finished(count - before)
                before = count

            answers = generate(
                model,
                prompts,
                sampling=sampling,
                seed=self.seed,
                batch_size=self.options.per_device_eval_batch_size,
                finished=finished,
            )
            texts = [answer.text(evaluated.tokenizer) for answer in answers]
            self._completions[key] = Completions(prompts=prompts, answers=answers, texts=texts)
        return self._completions[key]


def current_model(state: ModelState, context: StepContext) -> EvaluatedModel:
    """Return the policy and tokenizer that the step receives."""
    tokenizer = load_tokenizer(state.get("tokenizer"), context.model_cache, where=context.where)
    return EvaluatedModel(
        step=context.step,
        policy=state.get("policy"),
        tokenizer=tokenizer,
        tokenizer_hash=tokenizer_hash(tokenizer),
        where=context.where,
    )


def choose_tokenizer(tokenizer: Any | None, own: Any, *, step: str, same_tokens: bool) -> Any:
    """Choose the tokenizer through which an earlier model is given the policy's prompts.

    It is the model's own, or the policy's if the model's has the same tokens and no chat template.

    Args:
        tokenizer: Tokenizer of the earlier model; None if there is none.
        own: Tokenizer of the policy.
        step: The step that made the model.
        same_tokens: Require the policy's tokens, so that both models score the same completion.

    Raises:
        ModelError: there is no tokenizer, it has other tokens, or it has no chat template.
    """
    if tokenizer is None:
        raise ModelError(
            f"policy and tokenizer are not both filled after {step!r}, so there is no model to prompt",
            hint="name a step after the one that fills them",
        )
    equal = tokenizer.get_vocab() == own.get_vocab()
    if same_tokens and not equal:
        raise ModelError(
            f"the tokenizer after {step!r} has other tokens than the policy's, so its model assigns no "
            "probability to the policy's completions",
            hint="name a step after the last change of tokens, such as the chat step",
        )
    if same_tokens or (equal and not tokenizer.chat_template):
        return own
    if not tokenizer.chat_template:
        raise ModelError(
            f"the tokenizer after {step!r} has no chat template, so its model cannot be prompted",
            hint="name a later step, such as the chat step that sets one",
        )
    return tokenizer


def earlier_model(
    step: str, own: EvaluatedModel, context: StepContext, *, same_tokens: bool
) -> EvaluatedModel:
    """Return the model that an earlier step made; see `choose_tokenizer`."""
    state = context.past[step]
    where = context.at("kl_to" if same_tokens else "against")
    artifact = state.tokenizer if state.policy is not None else None
    tokenizer = choose_tokenizer(
        None if artifact is None else load_tokenizer(artifact, context.model_cache, where=where),
        own.tokenizer,
        step=step,
        same_tokens=same_tokens,
    )
    assert state.policy is not None, "without a policy there is no tokenizer to choose"
    if tokenizer is own.tokenizer or tokenizer_hash(tokenizer) == own.tokenizer_hash:
        return replace(own, step=step, policy=state.policy)
    return EvaluatedModel(
        step=step,
        policy=state.policy,
        tokenizer=tokenizer,
        tokenizer_hash=tokenizer_hash(tokenizer),
        where=where,
    )


@contextmanager
def loaded_model(
    artifact: Artifact, options: EvaluateOptions, context: StepContext, *, keep: bool
) -> Iterator[Any]:
    """Load a policy in eval mode for the body.

    Args:
        artifact: The policy.
        options: Precision, quantization and attention kernel.
        context: Its cache may have the model in memory.
        keep: Return the model to the cache; else its memory is freed afterwards.
    """
    model = load_model(
        artifact,
        context.model_cache,
        precision=options.precision,
        quantize=options.quantize,
        attn_implementation=options.attn_implementation,
    )
    try:
        yield model
    finally:
        if keep:
            context.model_cache.keep(artifact, model)

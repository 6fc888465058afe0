"""Answer many prompts at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aligner.chat.model import ChatModel
from aligner.data.options import DataSpec
from aligner.data.reading.load import load_rows
from aligner.data.reading.messages import MalformedRowError
from aligner.data.rows import Prompt
from aligner.errors import AlignerError, DataError, ErrorGroup, ModelError
from aligner.models.generate import Answer, Sampling, generate
from aligner.registry import Registry

_MAX_ERRORS = 20
"""Prompts whose errors are reported in full."""


@dataclass(frozen=True, kw_only=True)
class PromptAnswers:
    """A prompt with its answers."""

    prompt: Prompt
    answers: tuple[Answer, ...]
    texts: tuple[str, ...]
    """The answers decoded, without stop tokens."""

    def as_dict(self) -> dict[str, Any]:
        """Return the values for JSON."""
        answers = [
            {"answer": text, "ended": answer.ended, "tokens": len(answer.tokens)}
            for text, answer in zip(self.texts, self.answers, strict=True)
        ]
        head: dict[str, Any] = {"prompt": [dict(turn) for turn in self.prompt.messages]}
        body: dict[str, Any] = answers[0] if len(answers) == 1 else {"answers": answers}
        return head | body | ({"row": dict(self.prompt.row)} if self.prompt.row else {})


@dataclass(frozen=True)
class _CommandLineContext:
    """Context of data named on the command line: paths start in the current folder."""

    registry: Registry
    memo: dict[str, Any]
    recipe_folder: Path = Path()
    seed: int = 0
    cache: Path | None = None
    past: Mapping[str, Any] = field(default_factory=dict)

    def at(self, option: str) -> str:
        return ""


def read_prompts(path: str, registry: Registry) -> tuple[list[Prompt], list[str]]:
    """Return the prompts in a file of any format, and a warning for each reason to drop rows.

    Raises:
        DataError: The file is missing, malformed, or has no usable prompts.
    """
    context = _CommandLineContext(registry, {})
    loaded = load_rows([DataSpec(path=path)], want="prompt", context=context, option="PROMPTS")
    rows = [row for row in loaded.rows if isinstance(row, Prompt)]
    dropped: Mapping[str, Any] = loaded.ledger.dropped
    warnings = [
        f"{count.rows} rows dropped: {reason} ({', '.join(count.first)})"
        for reason, count in dropped.items()
    ]
    if not rows:
        raise DataError("contains no prompts", where=path, hint="; ".join(warnings))
    return rows, warnings


def answer_prompts(
    model: ChatModel,
    prompts: Sequence[Prompt],
    *,
    sampling: Sampling,
    samples: int = 1,
    seed: int = 0,
    batch_size: int = 32,
    on_progress: Callable[[int], None] = lambda count: None,
) -> list[PromptAnswers]:
    """Answer every prompt `samples` times.

    Args:
        model: The model that answers.
        prompts: Prompts in any order; those of similar length share a batch.
        sampling: Sampling options.
        samples: Answers per prompt.
        seed: Seed of the random numbers; each answer has its own.
        batch_size: Answers generated at once.
        on_progress: Called after each batch with the number of finished answers.

    Returns:
        The answers in the order of `prompts`.

    Raises:
        DataError: The template refuses prompts, or they are too long for the model; all at once.
        ModelError: Several answers are requested, but greedy decoding makes them equal.
    """
    if samples > 1 and not sampling.temperature:
        raise ModelError(
            f"at temperature 0, all {samples} answers to a prompt would be the same",
            hint="add --temperature 1",
        )
    encoded = _encode(model, prompts, sampling.max_new_tokens)
    answers = generate(
        model.model,
        [ids for ids in encoded for _ in range(samples)],
        sampling=sampling,
        seed=seed,
        batch_size=batch_size,
        finished=on_progress,
    )
    grouped = [tuple(answers[n : n + samples]) for n in range(0, len(answers), samples)]
    return [
        PromptAnswers(
            prompt=prompt, answers=group, texts=tuple(a.text(model.tokenizer) for a in group)
        )
        for prompt, group in zip(prompts, grouped, strict=True)
    ]


def _encode(model: ChatModel, prompts: Sequence[Prompt], max_new_tokens: int) -> list[list[int]]:
    encoded, errors = list[list[int]](), list[AlignerError]()
    for prompt in prompts:
        try:
            (ids,) = model.encode([(prompt.messages, prompt.tools)])
        except MalformedRowError as error:
            errors.append(DataError(error.what, where=prompt.origin, hint=error.hint))
            continue
        length = model.context_length
        if length is not None and len(ids) + max_new_tokens > length:
            what = (
                f"the prompt has {len(ids)} tokens; with an answer of up to {max_new_tokens} it "
                f"exceeds the model's context of {length}"
            )
            hint = "use a lower --max-new-tokens, or shorter prompts"
            errors.append(DataError(what, where=prompt.origin, hint=hint))
        encoded.append(ids)
    if len(errors) > _MAX_ERRORS:
        more = DataError(f"{len(errors) - _MAX_ERRORS} more of {len(prompts)} prompts have errors")
        errors = [*errors[:_MAX_ERRORS], more]
    ErrorGroup.raise_if_any(errors)
    return encoded

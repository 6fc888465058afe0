"""Answer many prompts at once, each row accounted for and in its place."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aligner.chat.speaker import Speaker
from aligner.data.options import DataSpec
from aligner.data.reading.load import load_rows
from aligner.data.reading.messages import MalformedRowError
from aligner.data.rows import Prompt
from aligner.errors import AlignerError, DataError, ErrorGroup, ModelError
from aligner.models.generate import Answer, Sampling, generate
from aligner.registry import Registry


@dataclass(frozen=True, kw_only=True)
class Answered:
    """A prompt and what the model answered, once or several times."""

    prompt: Prompt
    answers: tuple[Answer, ...]
    texts: tuple[str, ...]
    """The answers in words, without stop tokens."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        said = [
            {"answer": words, "ended": answer.ended, "tokens": len(answer.tokens)}
            for words, answer in zip(self.texts, self.answers, strict=True)
        ]
        head: dict[str, Any] = {"prompt": [dict(turn) for turn in self.prompt.messages]}
        body: dict[str, Any] = said[0] if len(said) == 1 else {"answers": said}
        return head | body | ({"row": dict(self.prompt.row)} if self.prompt.row else {})


@dataclass(frozen=True)
class _Here:
    """Data named on a command line: paths start in the current folder."""

    registry: Registry
    memo: dict[str, Any]
    recipe_folder: Path = Path()
    seed: int = 0
    cache: Path | None = None
    past: Mapping[str, Any] = field(default_factory=dict)

    def at(self, option: str) -> str:
        return ""


def read_prompts(path: str, registry: Registry) -> tuple[list[Prompt], list[str]]:
    """The prompts in a file of any format, and what was left out of it, in words.

    Raises:
        DataError: It is missing, malformed, holds no prompts, or nothing usable.
    """
    place = _Here(registry, {})
    loaded = load_rows([DataSpec(path=path)], want="prompt", context=place, option="PROMPTS")
    rows = [row for row in loaded.rows if isinstance(row, Prompt)]
    dropped: Mapping[str, Any] = loaded.ledger.dropped
    said = [
        f"{count.rows} rows left out: {why} ({', '.join(count.first)})"
        for why, count in dropped.items()
    ]
    if not rows:
        raise DataError("holds no prompts", where=path, hint="; ".join(said))
    return rows, said


def answer_prompts(
    speaker: Speaker,
    prompts: Sequence[Prompt],
    *,
    sampling: Sampling,
    samples: int = 1,
    seed: int = 0,
    batch_size: int = 32,
    finished: Callable[[int], None] = lambda count: None,
) -> list[Answered]:
    """Answer every prompt `samples` times.

    Args:
        speaker: Who answers.
        prompts: In any order; those of like length are answered together.
        sampling: How tokens are chosen.
        samples: Answers to each.
        seed: What the random numbers follow from, with the answer's number.
        batch_size: Answers written at one time.
        finished: Hears, after each batch, how many answers stand.

    Returns:
        In the order of `prompts`.

    Raises:
        DataError: Prompts that the template refuses or the model cannot take; all of them together.
        ModelError: Several answers that could only be the same one.
    """
    if samples > 1 and not sampling.temperature:
        raise ModelError(
            f"at temperature 0 all {samples} answers would be the same", hint="add --temperature 1"
        )
    ids = _encoded(speaker, prompts, sampling.max_new_tokens)
    answers = generate(
        speaker.model,
        [one for one in ids for _ in range(samples)],
        sampling=sampling,
        seed=seed,
        batch_size=batch_size,
        finished=finished,
    )
    grouped = [tuple(answers[n : n + samples]) for n in range(0, len(answers), samples)]
    return [
        Answered(
            prompt=prompt, answers=group, texts=tuple(a.text(speaker.tokenizer) for a in group)
        )
        for prompt, group in zip(prompts, grouped, strict=True)
    ]


def _encoded(speaker: Speaker, prompts: Sequence[Prompt], most: int) -> list[list[int]]:
    encoded, errors = list[list[int]](), list[AlignerError]()
    for prompt in prompts:
        try:
            (ids,) = speaker.encode([(prompt.messages, prompt.tools)])
        except MalformedRowError as error:
            errors.append(DataError(error.what, where=prompt.origin, hint=error.hint))
            continue
        if speaker.context is not None and len(ids) + most > speaker.context:
            what = f"{len(ids)} tokens and an answer of up to {most} are more than the model takes"
            hint = f"it takes {speaker.context}: give a lower --max-new-tokens, or shorter prompts"
            errors.append(DataError(what, where=prompt.origin, hint=hint))
        encoded.append(ids)
    if len(errors) > 20:
        more = DataError(f"{len(errors) - 20} more of {len(prompts)} prompts are like these")
        errors = [*errors[:20], more]
    ErrorGroup.raise_if_any(errors)
    return encoded

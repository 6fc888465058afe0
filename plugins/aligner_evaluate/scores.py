"""Score answers: by a judge on offer, by the reward model, and one model's against another's.

Shapes: B rows, T columns.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from aligner.data.encoding.chat import ChatEncoder
from aligner.data.encoding.tokenizers import load_tokenizer, tokenizer_hash
from aligner.data.reading.messages import MalformedRowError
from aligner.data.rows import Prompt
from aligner.errors import StageError
from aligner.models.reward import load_reward
from aligner.options.validation import check_options
from aligner.registry import Completion, RewardFunction
from aligner.stage import PlanContext, StepContext
from aligner.state import Artifact
from aligner_evaluate.stage import EvaluateOptions, JudgeSpec
from aligner_evaluate.voices import Completions, EvaluatedModel


def win_rate(own: Sequence[float], others: Sequence[float]) -> float:
    """Share of prompts on which `own` scores higher; equal scores count half."""
    wins = sum(1.0 if a > b else 0.5 if a == b else 0.0 for a, b in zip(own, others, strict=True))
    return wins / len(own)


def judge_of(spec: JudgeSpec, place: PlanContext | StepContext) -> RewardFunction:
    """The judge, made with its options.

    Raises:
        ChainError: the options are wrong; each is named.
    """
    kind = place.registry.reward_functions[spec.name]
    options = check_options(
        spec.options,
        kind.Options,
        what=f"judge {spec.name!r}",
        where=lambda path: place.at(f"judge.options.{path}"),
    )
    return kind(options)


def judged(
    judge: RewardFunction, rows: Sequence[Prompt], said: Completions, *, where: str
) -> list[float]:
    """The judge's score of each answer.

    Raises:
        StageError: it gives another number of scores than it was asked for, or one that is none.
    """
    completions = [
        Completion(
            prompt=row.messages,
            text=text,
            ended=answer.ended,
            tokens=len(answer.tokens),
            row=row.row,
            tools=row.tools,
        )
        for row, text, answer in zip(rows, said.texts, said.answers, strict=True)
    ]
    scores = [float(score) for score in judge.score(completions)]
    if len(scores) != len(completions) or not all(map(math.isfinite, scores)):
        raise StageError(
            f"judge {judge.name!r} gave {len(scores)} scores for {len(completions)} answers, "
            f"{sum(map(math.isfinite, scores))} of them finite",
            where=where,
            hint="a reward function returns one finite number an answer",
        )
    return scores


def reward_tokenizer(artifact: Artifact, context: StepContext, *, own: Artifact) -> Any:
    """The tokenizer that a reward model was trained with: that in its folder, else the chain's own."""
    for folder in (*reversed(artifact.adapters), artifact.path):
        if (Path(folder) / "tokenizer_config.json").is_file():
            return load_tokenizer(Artifact(path=folder), context.model_cache, where=context.where)
    return load_tokenizer(own, context.model_cache, where=context.where)


@dataclass(frozen=True, kw_only=True)
class Scorer:
    """A reward model, and how it reads answers."""

    model: Any
    chat: ChatEncoder
    words: str
    batch_size: int

    def answers(
        self,
        voice: EvaluatedModel,
        rows: Sequence[Prompt],
        said: Completions,
        finished: Callable[[int], None],
    ) -> list[float]:
        """The reward of each answer.

        An answer is read as the tokens that were written where the reward model has the same tokens
        and template; else it is read anew from its text.
        """
        if voice.words == self.words:
            ids = [
                [*prompt, *answer.tokens]
                for prompt, answer in zip(said.prompts, said.answers, strict=True)
            ]
        else:
            ids = self._read(rows, said)
        return self.tokens(ids, finished)

    def tokens(
        self, rows: Sequence[Sequence[int]], finished: Callable[[int], None] = lambda count: None
    ) -> list[float]:
        """The reward of each row of tokens, read at its last."""
        found: dict[int, float] = {}
        order = sorted(range(len(rows)), key=lambda row: -len(rows[row]))
        for start in range(0, len(order), self.batch_size):
            part = order[start : start + self.batch_size]
            found.update(zip(part, self._batch([rows[i] for i in part]), strict=True))
            finished(len(part))
        return [found[row] for row in range(len(rows))]

    def _read(self, rows: Sequence[Prompt], said: Completions) -> list[list[int]]:
        samples = []
        for row, text in zip(rows, said.texts, strict=True):
            turn = ({"role": "assistant", "content": text},)
            try:
                samples.append(self.chat.pair(row.messages, turn, row.tools)[0])
            except MalformedRowError as error:
                what = f"the reward model's chat template cannot show an answer: {error.what}"
                raise StageError(what, where=row.origin) from None
        read = [one.input_ids for one in self.chat.encode(samples)]
        stops = set(self.chat.stops)
        # What was cut off did not end, and must not be read as if it had.
        return [
            ids[:-1] if not answer.ended and ids[-1] in stops else ids
            for ids, answer in zip(read, said.answers, strict=True)
        ]

    @torch.no_grad()
    def _batch(self, rows: Sequence[Sequence[int]]) -> list[float]:
        pad = self.model.config.get_text_config().pad_token_id
        tokens_BT, mask_BT = scored_batch(rows, 0 if pad is None else int(pad))
        device = next(self.model.parameters()).device
        output = self.model(input_ids=tokens_BT.to(device), attention_mask=mask_BT.to(device))
        return [float(one) for one in output.logits[:, 0].float().cpu()]


def scored_batch(rows: Sequence[Sequence[int]], pad: int) -> tuple[Tensor, Tensor]:
    """Ids filled up with `pad` on the right, and the mask that is 1 on tokens; (B, T) int64 each."""
    width = max(map(len, rows))
    tokens_BT = torch.full((len(rows), width), pad)
    mask_BT = torch.zeros(len(rows), width, dtype=torch.long)
    for number, row in enumerate(rows):
        tokens_BT[number, : len(row)] = torch.tensor(row)
        mask_BT[number, : len(row)] = 1
    return tokens_BT, mask_BT


@contextmanager
def reward_in_memory(
    artifact: Artifact, options: EvaluateOptions, context: StepContext, *, own: Artifact
) -> Iterator[Scorer]:
    """The reward model for the body, in eval mode; left where the next step looks for it."""
    tokenizer = reward_tokenizer(artifact, context, own=own)
    model = load_reward(
        artifact,
        context.model_cache,
        precision=options.precision,
        attn_implementation=options.attn_implementation,
    )
    try:
        yield Scorer(
            model=model,
            chat=ChatEncoder(tokenizer, where=context.where),
            words=tokenizer_hash(tokenizer),
            batch_size=options.per_device_eval_batch_size,
        )
    finally:
        context.model_cache.keep(artifact, model)

"""Scores of completions by a judge and by the reward model, and win rates between models.

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

from aligner import Artifact, Completion, PlanContext, RewardFunction, StageError, StepContext
from aligner.kit.declare import RewardFunctionSpec, check_options
from aligner.kit.rows import MalformedRowError, Prompt
from aligner.kit.work import ChatEncoder, load_model, load_tokenizer, tokenizer_hash
from aligner_evaluate.models import Completions, EvaluatedModel
from aligner_evaluate.options import EvaluateOptions


def win_rate(own: Sequence[float], others: Sequence[float]) -> float:
    """Compute the share of prompts on which `own` scores higher; ties count half."""
    wins = sum(1.0 if a > b else 0.5 if a == b else 0.0 for a, b in zip(own, others, strict=True))
    return wins / len(own)


def make_judge(spec: RewardFunctionSpec, context: PlanContext | StepContext) -> RewardFunction:
    """Create the judge with its options.

    Raises:
        ChainError: the options are wrong; each is named.
    """
    judge_type = context.registry.reward_functions[spec.name]
    options = check_options(
        spec.options,
        judge_type.Options,
        what=f"judge {spec.name!r}",
        where=lambda path: context.at(f"judge.options.{path}"),
    )
    return judge_type(options)


def judge_scores(
    judge: RewardFunction, prompts: Sequence[Prompt], completions: Completions
) -> list[float]:
    """Score each completion by the judge.

    Raises:
        StageError: the judge returned another number of scores, or one that is not finite.
    """
    judged = [
        Completion(
            prompt=prompt.messages,
            text=text,
            ended=answer.ended,
            tokens=len(answer.tokens),
            row=prompt.row,
            tools=prompt.tools,
        )
        for prompt, text, answer in zip(
            prompts, completions.texts, completions.answers, strict=True
        )
    ]
    scores = [float(score) for score in judge.score(judged)]
    if len(scores) != len(judged) or not all(map(math.isfinite, scores)):
        raise StageError(
            f"judge {judge.name!r} returned {len(scores)} scores for {len(judged)} completions, "
            f"{sum(map(math.isfinite, scores))} of them finite",
            hint="a reward function must return one finite number per completion",
        )
    return scores


def load_reward_tokenizer(artifact: Artifact, context: StepContext, *, own: Artifact) -> Any:
    """Load the tokenizer of a reward model: that in its folder, else the chain's own."""
    for folder in (*reversed(artifact.adapters), artifact.path):
        if (Path(folder) / "tokenizer_config.json").is_file():
            return load_tokenizer(Artifact(path=folder), context.model_cache, where=context.where)
    return load_tokenizer(own, context.model_cache, where=context.where)


@dataclass(frozen=True, kw_only=True)
class RewardScorer:
    """Reward model with the encoder of what it reads."""

    model: Any
    chat: ChatEncoder
    tokenizer_hash: str
    batch_size: int

    def score(
        self,
        evaluated: EvaluatedModel,
        prompts: Sequence[Prompt],
        completions: Completions,
        finished: Callable[[int], None],
    ) -> list[float]:
        """Score each completion.

        The reward model reads the generated tokens if it has the same tokenizer and template as the model
        that generated them; else the text is tokenized again.
        """
        if evaluated.tokenizer_hash == self.tokenizer_hash:
            rows = [
                [*prompt, *answer.tokens]
                for prompt, answer in zip(completions.prompts, completions.answers, strict=True)
            ]
        else:
            rows = self._encode(prompts, completions)
        return self.score_rows(rows, finished)

    def score_rows(
        self, rows: Sequence[Sequence[int]], finished: Callable[[int], None] = lambda count: None
    ) -> list[float]:
        """Score each row of tokens at its last token."""
        found: dict[int, float] = {}
        order = sorted(range(len(rows)), key=lambda row: -len(rows[row]))
        for start in range(0, len(order), self.batch_size):
            batch = order[start : start + self.batch_size]
            found.update(zip(batch, self._score_batch([rows[i] for i in batch]), strict=True))
            finished(len(batch))
        return [found[row] for row in range(len(rows))]

    def _encode(self, prompts: Sequence[Prompt], completions: Completions) -> list[list[int]]:
        samples = []
        for prompt, text in zip(prompts, completions.texts, strict=True):
            turn = ({"role": "assistant", "content": text},)
            try:
                samples.append(self.chat.pair(prompt.messages, turn, prompt.tools)[0])
            except MalformedRowError as error:
                what = f"the reward model's chat template cannot render a completion: {error.what}"
                raise StageError(what, where=prompt.origin) from None
        rows = [encoded.input_ids for encoded in self.chat.encode(samples)]
        stops = set(self.chat.stops)
        # A truncated completion has no stop token, so the one that the template adds is removed.
        return [
            ids[:-1] if not answer.ended and ids[-1] in stops else ids
            for ids, answer in zip(rows, completions.answers, strict=True)
        ]

    @torch.no_grad()
    def _score_batch(self, rows: Sequence[Sequence[int]]) -> list[float]:
        pad = self.model.config.get_text_config().pad_token_id
        tokens_BT, mask_BT = pad_for_reward(rows, 0 if pad is None else int(pad))
        device = next(self.model.parameters()).device
        output = self.model(input_ids=tokens_BT.to(device), attention_mask=mask_BT.to(device))
        return [float(score) for score in output.logits[:, 0].float().cpu()]


def pad_for_reward(rows: Sequence[Sequence[int]], pad: int) -> tuple[Tensor, Tensor]:
    """Pad rows with `pad` on the right; return ids and the attention mask, (B, T) int64 each."""
    width = max(map(len, rows))
    tokens_BT = torch.full((len(rows), width), pad)
    mask_BT = torch.zeros(len(rows), width, dtype=torch.long)
    for number, row in enumerate(rows):
        tokens_BT[number, : len(row)] = torch.tensor(row)
        mask_BT[number, : len(row)] = 1
    return tokens_BT, mask_BT


@contextmanager
def loaded_reward(
    artifact: Artifact, options: EvaluateOptions, context: StepContext, *, own: Artifact
) -> Iterator[RewardScorer]:
    """Load the reward model in eval mode for the body, and return it to the cache afterwards."""
    tokenizer = load_reward_tokenizer(artifact, context, own=own)
    model = load_model(
        artifact,
        context.model_cache,
        precision=options.precision,
        attn_implementation=options.attn_implementation,
        reward=True,
    )
    try:
        yield RewardScorer(
            model=model,
            chat=ChatEncoder(tokenizer, where=context.where),
            tokenizer_hash=tokenizer_hash(tokenizer),
            batch_size=options.per_device_eval_batch_size,
        )
    finally:
        context.model_cache.keep(artifact, model)

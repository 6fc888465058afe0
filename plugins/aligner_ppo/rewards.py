"""Ask every source of reward about responses, and make the one number that is learnt from."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from aligner.data.chat import Chat
from aligner.data.pieces import Piece
from aligner.errors import StageError
from aligner.offers import Completion, RewardFunction
from aligner_ppo.advantage import RunningScale
from aligner_ppo.experience import Scores
from aligner_ppo.options import MODEL, PPOConfig
from aligner_ppo.parallel import Together
from aligner_ppo.value import head_of

Encode = Callable[[Sequence[Completion]], list[list[int]]]
"""Prompts with their responses in the reward model's own tokens and template."""


class ConversationEncoder:
    """Writes prompts and responses as the reward model was trained to read them, from their text.

    A response that did not end has no end-of-turn token, so that the reward model can tell.
    """

    def __init__(self, tokenizer: Any, *, where: str = "") -> None:
        self._chat = Chat(tokenizer, where=where)
        question = {"role": "user", "content": "question"}
        sample, count = self._chat.pair((question,), ({"role": "assistant", "content": "answer"},))
        # Whether an answer follows text or a control token decides its first token in some tokenizers.
        self._continues = sample.pieces[count].continues
        self._end = self._chat.stops[:1]
        self._prompts: dict[str, list[int]] = {}

    def __call__(self, completions: Sequence[Completion]) -> list[list[int]]:
        pieces = [Piece(one.text, literal=True, continues=self._continues) for one in completions]
        texts = self._chat.encoder.encode(pieces)
        return [
            [*self._prompt(one), *text, *(self._end if one.ended else ())]
            for one, text in zip(completions, texts, strict=True)
        ]

    def _prompt(self, completion: Completion) -> list[int]:
        key = json.dumps(completion.prompt, sort_keys=True)
        if key not in self._prompts:
            sample = self._chat.prompt(tuple(completion.prompt))
            self._prompts[key] = self._chat.encode([sample])[0].input_ids
        return self._prompts[key]


class RewardModel:
    """The model in the reward slot, which reads text: its tokens and template are its own."""

    def __init__(
        self, model: Any, encode: Encode, *, batch_size: int, device: torch.device, half: bool
    ) -> None:
        whole = model.get_base_model() if hasattr(model, "peft_config") else model
        self._trunk, self._head = whole.base_model, head_of(whole)
        self._encode, self._batch_size = encode, batch_size
        self._device, self._half = device, half

    def score(self, completions: Sequence[Completion]) -> list[float]:
        """One number a completion, read at its last token, which is found by length, not by padding."""
        encoded = self._encode(completions)
        order = sorted(range(len(encoded)), key=lambda i: -len(encoded[i]))
        scores = [0.0] * len(encoded)
        for start in range(0, len(order), self._batch_size):
            places = order[start : start + self._batch_size]
            for place, score in zip(places, self._some([encoded[i] for i in places]), strict=True):
                scores[place] = score
        return scores

    def _some(self, encoded: Sequence[Sequence[int]]) -> list[float]:
        lengths_B = torch.tensor([len(tokens) for tokens in encoded])
        tokens_BT = torch.zeros(len(encoded), int(lengths_B.max()), dtype=torch.long)
        for row, tokens in enumerate(encoded):
            tokens_BT[row, : len(tokens)] = torch.tensor(tokens)
        with (
            torch.no_grad(),
            torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=self._half),
        ):
            hidden_BTH = self._trunk(
                input_ids=tokens_BT.to(self._device), use_cache=False
            ).last_hidden_state
            last_BH = hidden_BTH[torch.arange(len(encoded)), (lengths_B - 1).to(self._device)]
            scores: list[float] = self._head(last_BH).float()[:, 0].tolist()
        return scores


@dataclass(frozen=True, kw_only=True)
class Source:
    """One source of reward, with its weight."""

    name: str
    weight: float
    scorer: RewardModel | RewardFunction


def sources_of(
    config: PPOConfig, functions: Mapping[str, type[RewardFunction]], model: RewardModel | None
) -> tuple[Source, ...]:
    """The sources a recipe names, made; the check has shown that there are such."""
    found = []
    for reward in config.rewards:
        scorer: RewardModel | RewardFunction
        if reward.name == MODEL:
            assert model is not None
            scorer = model
        else:
            kind = functions[reward.name]
            scorer = kind(kind.Config(**reward.options))
        found.append(Source(name=reward.name, weight=reward.weight, scorer=scorer))
    return tuple(found)


def ask(
    sources: Sequence[Source],
    completions: Mapping[int, Completion],
    *,
    number: int,
    together: Together,
    where: str = "",
) -> Scores:
    """Every source's number for all `number` responses, on every process.

    Args:
        sources: Whom to ask.
        completions: This process's responses, by place.
        number: Responses on all processes.
        together: The other processes, which ask about theirs.
        where: `file:line` for complaints.

    Raises:
        StageError: a source gives another count of numbers than it was asked for.
    """
    by_source: dict[str, Tensor] = {}
    raw_N = torch.zeros(number, dtype=torch.float64)
    for source in sources:
        numbers = list(source.scorer.score(list(completions.values())))
        if len(numbers) != len(completions):
            raise StageError(
                f"reward function {source.name!r} gave {len(numbers)} numbers for "
                f"{len(completions)} completions",
                where=where,
            )
        own_N = torch.zeros(number, dtype=torch.float64)
        own_N[list(completions)] = torch.tensor(numbers, dtype=torch.float64)
        by_source[source.name] = together.sum(own_N)
        raw_N = raw_N + source.weight * by_source[source.name]
    return Scores(by_source=by_source, raw_N=raw_N)


def final_scores(
    scores: Scores, ended_N: Tensor, config: PPOConfig, scale: RunningScale
) -> tuple[Tensor, RunningScale]:
    """What is learnt from: scaled, clipped, and less the penalty where a response did not end.

    Returns:
        (final_N in fp32, the running scale with these scores taken in).
    """
    final_N = scores.raw_N
    if config.reward_scale == "running":
        if all(map(math.isfinite, final_N.tolist())):
            scale = scale.seeing(final_N)
        final_N = final_N / scale.deviation
    else:
        final_N = final_N * config.reward_scale
    if config.reward_clip is not None:
        final_N = final_N.clamp(-config.reward_clip, config.reward_clip)
    final_N = final_N - config.missing_eos_penalty * (~ended_N)
    return final_N.float(), scale

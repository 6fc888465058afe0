"""Score answers by the reward model in its slot and by reward functions, as a recipe names them.

Shapes: B rows, T columns, H hidden width.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from aligner.data.encoding.chat import ChatEncoder
from aligner.data.encoding.pieces import TextPiece
from aligner.data.encoding.tokenizers import load_tokenizer
from aligner.errors import AlignerError, ChainError, ErrorCollector, ModelError, did_you_mean
from aligner.models.model_info import planned_model
from aligner.models.options import Attention, Precision
from aligner.models.padding import map_longest_first, pad_with_lengths
from aligner.models.precision import device, precision_of
from aligner.models.reward import RewardParts, load_reward, split_reward_model
from aligner.registry import Completion, RewardFunction
from aligner.stage import PlanContext, StepContext
from aligner.state import Artifact, ModelCache, ModelState
from aligner.train.reward_options import MODEL, RewardSpec

Encode = Callable[[Sequence[Completion]], list[list[int]]]
"""Prompts with their responses in the reward model's own tokens and template."""


class RewardEncoder:
    """Encoder of prompts and completions in the tokens and the template of the reward model.

    A response that did not end has no end-of-turn token, so that the reward model can tell.
    """

    def __init__(self, tokenizer: Any, *, where: str = "") -> None:
        self._chat = ChatEncoder(tokenizer, where=where)
        question = {"role": "user", "content": "question"}
        sample, count = self._chat.pair((question,), ({"role": "assistant", "content": "answer"},))
        # Whether an answer follows text or a control token decides its first token in some tokenizers.
        self._continues = sample.pieces[count].continues
        self._end = self._chat.stops[:1]
        self._prompts: dict[str, list[int]] = {}

    def __call__(self, completions: Sequence[Completion]) -> list[list[int]]:
        pieces = [
            TextPiece(completion.text, literal=True, continues=self._continues)
            for completion in completions
        ]
        texts = self._chat.encoder.encode(pieces)
        return [
            [*self._prompt(completion), *text, *(self._end if completion.ended else ())]
            for completion, text in zip(completions, texts, strict=True)
        ]

    def _prompt(self, completion: Completion) -> list[int]:
        key = json.dumps([completion.prompt, completion.tools], sort_keys=True)
        if key not in self._prompts:
            sample = self._chat.prompt(tuple(completion.prompt), completion.tools)
            self._prompts[key] = self._chat.encode([sample])[0].input_ids
        return self._prompts[key]


class RewardModel:
    """The model in the reward slot, which reads text: its tokens and template are its own."""

    def __init__(
        self,
        parts: RewardParts,
        encode: Encode,
        *,
        batch_size: int,
        device: torch.device,
        half: bool,
    ) -> None:
        self._parts = parts
        self._encode, self._batch_size = encode, batch_size
        self._device, self._half = device, half

    def score(self, completions: Sequence[Completion]) -> list[float]:
        """Return a score per completion, read at its last token, which is found by length, not by padding."""
        encoded = self._encode(completions)
        with self._parts.active():
            return map_longest_first(encoded, self._some, batch_size=self._batch_size)

    def _some(self, encoded: Sequence[Sequence[int]]) -> list[float]:
        tokens_BT, lengths_B = pad_with_lengths(encoded)
        with (
            torch.no_grad(),
            torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=self._half),
        ):
            hidden_BTH = self._parts.trunk(
                input_ids=tokens_BT.to(self._device), use_cache=False
            ).last_hidden_state
            last_BH = hidden_BTH[torch.arange(len(encoded)), (lengths_B - 1).to(self._device)]
            scores: list[float] = self._parts.head(last_BH).float()[:, 0].tolist()
        return scores


@dataclass(frozen=True, kw_only=True)
class RewardSource:
    """A source of reward with its weight."""

    name: str
    weight: float
    scorer: RewardModel | RewardFunction


def sources_of(
    specs: Sequence[RewardSpec],
    functions: Mapping[str, type[RewardFunction]],
    model: RewardModel | None,
) -> tuple[RewardSource, ...]:
    """Create the sources that a recipe names; the check has found all of them."""
    found = []
    for reward in specs:
        scorer: RewardModel | RewardFunction
        if reward.name == MODEL:
            assert model is not None
            scorer = model
        else:
            kind = functions[reward.name]
            scorer = kind(kind.Options(**reward.options))
        found.append(RewardSource(name=reward.name, weight=reward.weight, scorer=scorer))
    return tuple(found)


def load_sources(
    specs: Sequence[RewardSpec],
    state: ModelState,
    context: StepContext,
    *,
    batch_size: int,
    precision: Precision,
    attn_implementation: Attention,
    parts: RewardParts | None = None,
) -> tuple[RewardSource, ...]:
    """Load sources of reward: the reward model in its slot, and reward functions.

    Args:
        specs: The sources that the recipe names.
        state: Contains the reward model.
        context: Its model cache may contain the reward model, and contains it afterwards.
        batch_size: Completions that the reward model scores at once.
        precision: Precision of the reward model.
        attn_implementation: Attention kernel of the reward model.
        parts: The reward model if it is in memory already.
    """
    model: RewardModel | None = None
    if any(reward.name == MODEL for reward in specs):
        artifact = state.get("reward")
        if parts is None:
            loaded = load_reward(
                artifact,
                context.model_cache,
                precision=precision,
                attn_implementation=attn_implementation,
            )
            parts = split_reward_model(loaded)
            # Scoring does not change it, so a later step can use it.
            context.model_cache.keep(artifact, loaded)
        model = RewardModel(
            parts,
            RewardEncoder(reward_tokenizer(artifact, where=context.where), where=context.where),
            batch_size=batch_size,
            device=device(),
            half=precision_of(precision) == "bf16",
        )
    return sources_of(specs, context.registry.reward_functions, model)


def reward_tokenizer(artifact: Artifact, *, where: str = "") -> Any:
    """Load the tokenizer that a reward model was trained with, from the folder of its weights."""
    folder = artifact.adapters[-1] if artifact.adapters else artifact.path
    beside = Artifact(path=folder, revision=None if artifact.adapters else artifact.revision)
    return load_tokenizer(beside, ModelCache(), where=where)


def reward_errors(
    specs: Sequence[RewardSpec], context: PlanContext, *, option: str
) -> list[AlignerError]:
    """Find reward functions that do not exist, wrong options of theirs, and an unusable reward slot.

    Args:
        specs: The sources that the recipe names.
        context: Context of the step.
        option: Option of the recipe that names them.
    """
    errors = ErrorCollector()
    offered = context.registry.reward_functions
    for reward in specs:
        if reward.name == MODEL:
            with errors:
                planned_model(context, "reward")
                _needs_a_tokenizer(context)
        elif reward.name not in offered:
            errors.found.append(
                ChainError(
                    f"no installed plugin offers a reward function {reward.name!r}",
                    where=context.at(option),
                    hint=did_you_mean(reward.name, {MODEL, *offered}),
                )
            )
        else:
            errors.found += _option_errors(offered[reward.name].Options, reward, context.at(option))
    return errors.found


def _option_errors(kind: Any, reward: RewardSpec, where: str) -> list[AlignerError]:
    try:
        kind(**reward.options)
    except ValidationError as error:
        return [
            ChainError(
                f"reward function {reward.name!r}: "
                + ".".join(map(str, problem["loc"]))
                + (": " if problem["loc"] else "")
                + problem["msg"].removeprefix("Value error, "),
                where=where,
                hint=f"its options are {', '.join(kind.model_fields) or 'none'}",
            )
            for problem in error.errors()
        ]
    return []


def _needs_a_tokenizer(context: PlanContext) -> None:
    """Check that the folder of a reward model contains the tokenizer it was trained with."""
    artifact = context.slots["reward"].facts.get("artifact")
    if not isinstance(artifact, Artifact) or not artifact.local:
        return
    folder = Path(artifact.adapters[-1] if artifact.adapters else artifact.path)
    if not (folder / "tokenizer.json").is_file():
        raise ModelError(
            f"the reward model in {folder} has no tokenizer beside it",
            where=context.where,
            hint="save the tokenizer it was trained with, chat template included, in its folder",
        )

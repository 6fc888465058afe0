"""Sample responses: left-padded, KV-cached, in batches that finished rows leave.

Shapes: B rows in the batch at the moment, T cached columns, V words. One uniform number decides
each token, drawn for the row and not for the batch, so a response does not depend on which others it was
sampled with, nor on how many processes share the work.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import DynamicCache

from aligner_ppo.forward import LanguageModel


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How the next token is drawn, and when a response ends."""

    stop_tokens: tuple[int, ...]
    """Any of these ends a response and belongs to it."""
    max_new_tokens: int
    min_new_tokens: int = 0
    """No stop token is drawn before this many tokens stand."""
    temperature: float = 1.0
    top_k: int = 0
    """Draw among this many likeliest tokens; 0 for all."""
    top_p: float = 1.0
    """Draw among the likeliest tokens that together have this probability."""


@dataclass(frozen=True, kw_only=True)
class Response:
    """What the policy answered."""

    tokens: tuple[int, ...]
    """With the stop token, where it ended."""
    ended: bool
    """Whether a stop token was drawn; false for one cut off at `max_new_tokens`."""
    logps: tuple[float, ...]
    """The sampler's own log-probabilities, for comparison only: training recomputes them."""


def uniforms(seed: int, *, rows: int, columns: int) -> Tensor:
    """The random numbers of one iteration, (rows, columns) in [0, 1), fp64: all that is random."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(rows, columns, dtype=torch.float64, generator=generator)


def rollout(
    model: LanguageModel,
    prompts: Sequence[Sequence[int]],
    *,
    samples: int,
    sampling: Sampling,
    draws_NC: Tensor,
    batch: int,
    device: torch.device,
) -> list[Response]:
    """Answer every prompt `samples` times.

    Args:
        model: The policy, in evaluation mode.
        prompts: Token ids, the generation prompt included; none may be empty.
        samples: Responses a prompt; its prefix is computed once for all of them.
        sampling: How tokens are drawn.
        draws_NC: `uniforms` for N = prompts × samples responses, C ≥ `max_new_tokens`.
        batch: Responses sampled at one time; at least one prompt's are.
        device: Where the model is.

    Returns:
        Responses in order: the samples of the first prompt, then of the second, and so on.
    """
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    together = max(batch // samples, 1)
    found: dict[int, Response] = {}
    with torch.no_grad():
        for start in range(0, len(order), together):
            part = order[start : start + together]
            places = [i * samples + s for i in part for s in range(samples)]
            batch_prompts = [prompts[i] for i in part]
            draws_BC = draws_NC[places].to(device)
            answers = _sample(model, batch_prompts, samples, sampling, draws_BC, device)
            found.update(zip(places, answers, strict=True))
    return [found[place] for place in range(len(prompts) * samples)]


def _sample(
    model: LanguageModel,
    prompts: Sequence[Sequence[int]],
    samples: int,
    sampling: Sampling,
    draws_BC: Tensor,
    device: torch.device,
) -> list[Response]:
    batch = _Batch(model, prompts, samples, device)
    stops = torch.tensor(sampling.stop_tokens, dtype=torch.long, device=device)
    tokens_NC = torch.zeros(len(draws_BC), sampling.max_new_tokens, dtype=torch.long, device=device)
    logps_NC = torch.zeros(tokens_NC.shape, device=device)
    lengths_N = torch.full((len(draws_BC),), sampling.max_new_tokens, device=device)
    ended_N = torch.zeros(len(draws_BC), dtype=torch.bool, device=device)
    for column in range(sampling.max_new_tokens):
        forbidden = stops if column < sampling.min_new_tokens else None
        tokens_B, logps_B = draw(
            model.logits(batch.hidden_BH), draws_BC[batch.places_B, column], sampling, forbidden
        )
        tokens_NC[batch.places_B, column] = tokens_B
        logps_NC[batch.places_B, column] = logps_B
        stopped_B = torch.isin(tokens_B, stops) & ~batch.finished_B
        lengths_N[batch.places_B[stopped_B]] = column + 1
        ended_N[batch.places_B[stopped_B]] = True
        if column + 1 == sampling.max_new_tokens or not batch.go_on(stopped_B, tokens_B):
            break
    lengths = lengths_N.tolist()
    return [
        Response(tokens=tuple(tokens[:length]), ended=ended, logps=tuple(logps[:length]))
        for tokens, logps, length, ended in zip(
            tokens_NC.tolist(), logps_NC.tolist(), lengths, ended_N.tolist(), strict=True
        )
    ]


class _Batch:
    """The rows still being written: their cache, their last hidden states, and whose they are."""

    def __init__(
        self,
        model: LanguageModel,
        prompts: Sequence[Sequence[int]],
        samples: int,
        device: torch.device,
    ) -> None:
        width = max(map(len, prompts))
        tokens_PT = torch.zeros(len(prompts), width, dtype=torch.long)
        mask_PT = torch.zeros(len(prompts), width, dtype=torch.long)
        for row, prompt in enumerate(prompts):
            tokens_PT[row, width - len(prompt) :] = torch.tensor(prompt)
            mask_PT[row, width - len(prompt) :] = 1
        self._model = model
        self._padded = bool((mask_PT == 0).any())
        self._cache = DynamicCache(config=model.trunk.config)
        hidden_PH = self._forward(tokens_PT.to(device), mask_PT.to(device))
        self._cache.batch_repeat_interleave(samples)
        self._mask_BT = mask_PT.to(device).repeat_interleave(samples, 0)
        self.hidden_BH = hidden_PH.repeat_interleave(samples, 0)
        self.places_B = torch.arange(len(prompts) * samples, device=device)
        self.finished_B = torch.zeros(len(self.places_B), dtype=torch.bool, device=device)

    def _forward(self, tokens_BQ: Tensor, mask_BT: Tensor) -> Tensor:
        # Without padding the mask says nothing, and leaving it out spares building (B, 1, Q, T).
        aside = {"attention_mask": mask_BT, "position_ids": _positions(mask_BT, tokens_BQ.shape[1])}
        output = self._model.trunk(
            input_ids=tokens_BQ,
            past_key_values=self._cache,
            use_cache=True,
            **(aside if self._padded else {}),
        )
        last_BH: Tensor = output.last_hidden_state[:, -1]
        return last_BH

    def go_on(self, stopped_B: Tensor, tokens_B: Tensor) -> bool:
        """Append the tokens just drawn, after finished rows have left; false when none is left."""
        self.finished_B = self.finished_B | stopped_B
        rows, finished = len(self.finished_B), int(self.finished_B.sum())
        if finished == rows:
            return False
        # Leaving copies the cache, so rows leave by the eighth and not one by one.
        if finished * 8 >= rows:
            staying = torch.nonzero(~self.finished_B)[:, 0]
            self._cache.batch_select_indices(staying)
            self._mask_BT, self.places_B = self._mask_BT[staying], self.places_B[staying]
            tokens_B, self.finished_B = tokens_B[staying], self.finished_B[staying]
        self._mask_BT = torch.cat([self._mask_BT, self._mask_BT.new_ones(len(tokens_B), 1)], 1)
        self.hidden_BH = self._forward(tokens_B[:, None], self._mask_BT)
        return True


def _positions(mask_BT: Tensor, columns: int) -> Tensor:
    """Positions count real tokens; those of padding are 0 and seen by nobody."""
    return (mask_BT.cumsum(1) - 1).clamp(min=0)[:, -columns:]


def draw(
    logits_BV: Tensor, draws_B: Tensor, sampling: Sampling, forbidden: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Draw a token a row by inverting the distribution function at the row's uniform number.

    The distribution is softmax(logits / temperature), without the `forbidden` tokens, cut to
    `top_k` and then to `top_p` (Holtzman 2020) and renormalised.

    Returns:
        (tokens_B, logps_B); the log-probabilities are those before anything was cut.
    """
    logps_BV = torch.log_softmax(logits_BV / sampling.temperature, -1)
    masses_BV = logps_BV.exp()
    if forbidden is not None:
        masses_BV = masses_BV.index_fill(1, forbidden, 0.0)
    ranks_BV = None
    if 0 < sampling.top_k < masses_BV.shape[1] or sampling.top_p < 1.0:
        masses_BV, ranks_BV = masses_BV.sort(dim=-1, descending=True, stable=True)
        if sampling.top_k:
            masses_BV = masses_BV.clone()
            masses_BV[:, sampling.top_k :] = 0.0
        before_BV = masses_BV.cumsum(-1) - masses_BV
        masses_BV = masses_BV * (before_BV < sampling.top_p * masses_BV.sum(-1, keepdim=True))
    heights_BV = masses_BV.cumsum(-1, dtype=torch.float64)
    # Below the top, as numbers below 1 are; and the first height above it is of a likely token.
    aims_B = draws_B * heights_BV[:, -1]
    tokens_B = torch.searchsorted(heights_BV, aims_B[:, None], right=True)[:, 0]
    if ranks_BV is not None:
        tokens_B = ranks_BV.gather(1, tokens_B[:, None])[:, 0]
    return tokens_B, logps_BV.gather(1, tokens_B[:, None])[:, 0]

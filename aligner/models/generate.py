"""Let a model answer prompts: left-padded batches with a key-value cache, which finished rows leave.

Shapes: B rows in the batch at the moment, T columns so far, V words. One uniform number decides each
token, drawn for the row and not for the batch, so an answer does not depend on what else is answered.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How the next token is chosen, and when an answer ends."""

    stop_tokens: tuple[int, ...]
    """Any of these ends an answer and belongs to it."""
    max_new_tokens: int
    min_new_tokens: int = 0
    """No stop token is chosen before this many tokens stand."""
    temperature: float = 0.0
    """What logits are divided by; 0 takes the likeliest token."""
    top_k: int = 0
    """Draw among this many likeliest tokens; 0 for all."""
    top_p: float = 1.0
    """Draw among the likeliest tokens that together have this probability (Holtzman 2020)."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a model wrote after a prompt."""

    tokens: tuple[int, ...]
    """With the stop token, where it ended."""
    ended: bool
    """Whether it ended with a stop token rather than at `max_new_tokens`."""

    def text(self, tokenizer: Any) -> str:
        """The words, without the stop token and any other special one."""
        words = list(self.tokens[:-1] if self.ended else self.tokens)
        return str(
            tokenizer.decode(words, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        )


@dataclass(frozen=True)
class Written:
    """One token of one answer, the moment it is chosen."""

    row: int
    token: int
    ends: bool
    """Whether it is a stop token, and so the answer's last."""


def generate(
    model: nn.Module,
    prompts: Sequence[Sequence[int]],
    *,
    sampling: Sampling,
    seed: int = 0,
    batch_size: int = 32,
    finished: Callable[[int], None] = lambda count: None,
) -> list[Answer]:
    """Answer every prompt once.

    Args:
        model: A causal language model, with or without adapters; left exactly as it was.
        prompts: Token ids, the generation prompt included; none may be empty.
        sampling: How tokens are chosen.
        seed: What the random numbers follow from, with each row's number.
        batch_size: Rows written at one time.
        finished: Hears, after each batch, how many answers stand.

    Returns:
        Answers in the order of the prompts. The same for every `batch_size`, up to rounding.
    """
    tokens: list[list[int]] = [[] for _ in prompts]
    ended = [False] * len(prompts)
    # Rows of like length share a batch, so that little is padded.
    order = sorted(range(len(prompts)), key=lambda row: len(prompts[row]))
    done = 0
    with at_rest(model):
        for part in _batches(order, prompts, batch_size, padded=keeps_cache(model)):
            for written in _write(model, prompts, part, sampling=sampling, seed=seed):
                tokens[written.row].append(written.token)
                ended[written.row] = written.ends
            done += len(part)
            finished(done)
    return [Answer(tokens=tuple(t), ended=e) for t, e in zip(tokens, ended, strict=True)]


def stream(
    model: nn.Module, prompt: Sequence[int], *, sampling: Sampling, seed: int = 0
) -> Iterator[Written]:
    """Answer one prompt, handing over each token as it is chosen; the model must be in eval mode."""
    yield from _write(model, [prompt], [0], sampling=sampling, seed=seed)


@contextmanager
def at_rest(model: nn.Module) -> Iterator[None]:
    """Put every module in eval mode for the body, then each back in the mode it was in."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def keeps_cache(model: nn.Module) -> bool:
    """Whether the past of `model` can be kept as keys and values, one row apart from another.

    Recurrent states and the virtual tokens of prompt-learning adapters cannot; such models are run
    afresh over the whole row for each token, and only rows of one length share a batch.
    """
    active = getattr(model, "active_peft_config", None)
    if active is not None and active.is_prompt_learning:
        return False
    base = _base(model)
    return not getattr(base, "_is_stateful", False) and "past_key_values" in _accepts(base)


def _batches(
    order: Sequence[int], prompts: Sequence[Sequence[int]], batch_size: int, *, padded: bool
) -> Iterator[list[int]]:
    part: list[int] = []
    for row in order:
        unlike = not padded and part and len(prompts[part[0]]) != len(prompts[row])
        if len(part) == batch_size or unlike:
            yield part
            part = []
        part.append(row)
    if part:
        yield part


def _write(
    model: nn.Module,
    prompts: Sequence[Sequence[int]],
    rows: Sequence[int],
    *,
    sampling: Sampling,
    seed: int,
) -> Iterator[Written]:
    """Write one batch, column by column."""
    device = next(model.parameters()).device
    stops = torch.tensor(sampling.stop_tokens, dtype=torch.long, device=device)
    draws_BC = _uniforms(seed, rows, sampling).to(device)
    batch = _Batch(model, [prompts[row] for row in rows], device)
    for column in range(sampling.max_new_tokens):
        forbidden = stops if column < sampling.min_new_tokens else None
        draws_B = draws_BC[batch.places_B, column] if sampling.temperature else None
        tokens_B = choose(batch.logits_BV, sampling, draws_B=draws_B, forbidden=forbidden)
        stopped_B = torch.isin(tokens_B, stops)
        for place, token, ends, gone in zip(
            batch.places_B.tolist(),
            tokens_B.tolist(),
            stopped_B.tolist(),
            batch.finished_B.tolist(),
            strict=True,
        ):
            if not gone:
                yield Written(rows[place], token, ends)
        if column + 1 == sampling.max_new_tokens or not batch.go_on(tokens_B, stopped_B):
            return


def _uniforms(seed: int, rows: Sequence[int], sampling: Sampling) -> Tensor:
    """What is random in these rows, (B, `max_new_tokens`) in [0, 1), fp64."""
    if not sampling.temperature:
        return torch.zeros(len(rows), 0)
    lines = []
    for row in rows:
        # A plain sum would give row 1 of seed 0 the numbers of row 0 of seed 1.
        generator = torch.Generator().manual_seed((seed * 0x9E3779B97F4A7C15 + row) % 2**63)
        lines.append(torch.rand(sampling.max_new_tokens, dtype=torch.float64, generator=generator))
    return torch.stack(lines)


def choose(
    logits_BV: Tensor,
    sampling: Sampling,
    *,
    draws_B: Tensor | None = None,
    forbidden: Tensor | None = None,
) -> Tensor:
    """Choose a token a row: the likeliest, or by inverting the distribution function at `draws_B`.

    The distribution is softmax(logits / temperature) without the `forbidden` tokens, cut to `top_k`,
    then to `top_p` of what is left (Holtzman 2020), and renormalised.

    Args:
        logits_BV: fp32.
        sampling: How tokens are chosen.
        draws_B: Uniform numbers in [0, 1), fp64; needed unless the temperature is 0.
        forbidden: Token ids of which none is chosen.

    Returns:
        tokens_B, int64.
    """
    if forbidden is not None:
        logits_BV = logits_BV.index_fill(1, forbidden, -torch.inf)
    if not sampling.temperature:
        return logits_BV.argmax(-1)
    assert draws_B is not None, "sampling needs random numbers"
    masses_BV = torch.softmax(logits_BV.double() / sampling.temperature, -1)
    ranks_BV = None
    if 0 < sampling.top_k < masses_BV.shape[1] or sampling.top_p < 1:
        masses_BV, ranks_BV = masses_BV.sort(dim=-1, descending=True, stable=True)
        if sampling.top_k:
            masses_BV[:, sampling.top_k :] = 0
        before_BV = masses_BV.cumsum(-1) - masses_BV
        masses_BV = masses_BV * (before_BV < sampling.top_p * masses_BV.sum(-1, keepdim=True))
    heights_BV = masses_BV.cumsum(-1)
    tops_B = heights_BV[:, -1]
    # Strictly below the top: the first height above it then belongs to a token that has some mass.
    aims_B = torch.minimum(draws_B * tops_B, tops_B.nextafter(torch.zeros_like(tops_B)))
    tokens_B1 = torch.searchsorted(heights_BV, aims_B[:, None], right=True)
    return (tokens_B1 if ranks_BV is None else ranks_BV.gather(1, tokens_B1))[:, 0]


class _Batch:
    """The rows still being written: their past, their next logits, and whose they are."""

    def __init__(
        self, model: nn.Module, prompts: Sequence[Sequence[int]], device: torch.device
    ) -> None:
        width = max(map(len, prompts))
        tokens_BT = torch.zeros(len(prompts), width, dtype=torch.long)
        mask_BT = torch.zeros_like(tokens_BT)
        for row, prompt in enumerate(prompts):
            tokens_BT[row, width - len(prompt) :] = torch.tensor(prompt)
            mask_BT[row, width - len(prompt) :] = 1
        base = _base(model)
        self._model, self._accepts = model, _accepts(base)
        self._cache = DynamicCache(config=base.config) if keeps_cache(model) else None
        self._padded = bool((mask_BT == 0).any())
        self._tokens_BT, self._mask_BT = tokens_BT.to(device), mask_BT.to(device)
        self.places_B = torch.arange(len(prompts), device=device)
        self.finished_B = torch.zeros(len(prompts), dtype=torch.bool, device=device)
        self.logits_BV = self._forward(self._tokens_BT)

    @torch.no_grad()
    def _forward(self, tokens_BQ: Tensor) -> Tensor:
        """The logits after the last of these tokens, (B, V), fp32."""
        inputs: dict[str, Any] = {"input_ids": tokens_BQ, "use_cache": self._cache is not None}
        if self._cache is not None:
            inputs["past_key_values"] = self._cache
        if self._padded:
            # Without padding the mask says nothing, and its absence spares building (B, 1, Q, T).
            inputs["attention_mask"] = self._mask_BT
            if "position_ids" in self._accepts:
                positions_BT = (self._mask_BT.cumsum(1) - 1).clamp(min=0)
                inputs["position_ids"] = positions_BT[:, -tokens_BQ.shape[1] :]
        if "logits_to_keep" in self._accepts:
            inputs["logits_to_keep"] = 1
        return self._model(**inputs).logits[:, -1].float()  # type: ignore[no-any-return]

    def go_on(self, tokens_B: Tensor, stopped_B: Tensor) -> bool:
        """Append the tokens just chosen, after finished rows have left; false when none is left."""
        self.finished_B = self.finished_B | stopped_B
        finished = int(self.finished_B.sum())
        if finished == len(self.finished_B):
            return False
        # Leaving copies the cache, so rows leave by the eighth and not one by one.
        if finished * 8 >= len(self.finished_B):
            staying = torch.nonzero(~self.finished_B)[:, 0]
            if self._cache is not None:
                self._cache.batch_select_indices(staying)
            self._tokens_BT, self._mask_BT = self._tokens_BT[staying], self._mask_BT[staying]
            self.places_B, self.finished_B = self.places_B[staying], self.finished_B[staying]
            tokens_B = tokens_B[staying]
        self._mask_BT = torch.cat([self._mask_BT, self._mask_BT.new_ones(len(tokens_B), 1)], 1)
        self._tokens_BT = torch.cat([self._tokens_BT, tokens_B[:, None]], 1)
        cached = self._cache is not None
        self.logits_BV = self._forward(tokens_B[:, None] if cached else self._tokens_BT)
        return True


def _base(model: Any) -> Any:
    return model.get_base_model() if hasattr(model, "peft_config") else model


def _accepts(base: Any) -> frozenset[str]:
    return frozenset(inspect.signature(type(base).forward).parameters)

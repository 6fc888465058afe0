"""Let a model answer prompts, in text that no other prompt, batch size or number of processes changes.

Shapes: B rows in the batch at the moment, C columns of an answer, V words. One uniform number decides
each token, drawn for the row and not for the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from aligner.models.decoding import DecodingBatch, keeps_cache
from aligner.models.logps import gather_logps
from aligner.models.options import SamplingOptions


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


def sampling_of(options: SamplingOptions, stop_tokens: Sequence[int]) -> Sampling:
    """Return the sampling that a step's options describe, with the tokens that end a completion."""
    return Sampling(
        stop_tokens=tuple(stop_tokens),
        max_new_tokens=options.max_new_tokens,
        min_new_tokens=options.min_new_tokens,
        temperature=options.temperature,
        top_k=options.top_k,
        top_p=options.top_p,
    )


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a model wrote after a prompt."""

    tokens: tuple[int, ...]
    """With the stop token, where it ended."""
    ended: bool
    """Whether it ended with a stop token rather than at `max_new_tokens`."""
    logps: tuple[float, ...] = field(default=(), compare=False)
    """Of each token, at the temperature it was drawn at, before anything was cut (1 where that is 0)."""

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
    logp: float
    """As `Answer.logps`."""


def generate(
    model: nn.Module,
    prompts: Sequence[Sequence[int]],
    *,
    sampling: Sampling,
    seed: int = 0,
    samples: int = 1,
    numbers: Sequence[int] | None = None,
    batch_size: int = 32,
    finished: Callable[[int], None] = lambda count: None,
) -> list[Answer]:
    """Answer every prompt `samples` times.

    Args:
        model: A causal language model, with or without adapters; left exactly as it was.
        prompts: Token ids, the generation prompt included; none may be empty.
        sampling: How tokens are chosen.
        seed: What the random numbers follow from, with each prompt's number and each sample's.
        samples: Answers a prompt, which is computed once for all of them.
        numbers: The prompts' numbers where they are some of many, shared out over processes;
            else 0, 1, ….
        batch_size: Answers written at one time; at least one prompt's are.
        finished: Hears, after each batch, how many answers stand.

    Returns:
        Answers in the order of the prompts, each prompt's samples together. The same for every
        `batch_size`, up to rounding.
    """
    numbers = range(len(prompts)) if numbers is None else numbers
    assert len(numbers) == len(prompts), "a number for each prompt"
    written: list[list[Written]] = [[] for _ in range(len(prompts) * samples)]
    # Rows of like length share a batch, so that little is padded.
    order = sorted(range(len(prompts)), key=lambda place: len(prompts[place]))
    together, done = max(batch_size // samples, 1), 0
    with at_rest(model):
        for part in _batches(order, prompts, together, padded=keeps_cache(model)):
            rows = [
                numbers[place] * samples + sample for place in part for sample in range(samples)
            ]
            places = [place * samples + sample for place in part for sample in range(samples)]
            draws_BC = _uniforms(seed, rows, sampling)
            asked = [prompts[place] for place in part]
            for one in _write(model, asked, sampling=sampling, samples=samples, draws_BC=draws_BC):
                written[places[one.row]].append(one)
            done += len(places)
            finished(done)
    return [_answer(tokens) for tokens in written]


def _answer(written: Sequence[Written]) -> Answer:
    return Answer(
        tokens=tuple(one.token for one in written),
        ended=bool(written) and written[-1].ends,
        logps=tuple(one.logp for one in written),
    )


def stream(
    model: nn.Module, prompt: Sequence[int], *, sampling: Sampling, seed: int = 0
) -> Iterator[Written]:
    """Answer one prompt, handing over each token as it is chosen; the model must be in eval mode."""
    draws_BC = _uniforms(seed, [0], sampling)
    yield from _write(model, [prompt], sampling=sampling, samples=1, draws_BC=draws_BC)


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
    *,
    sampling: Sampling,
    samples: int,
    draws_BC: Tensor,
) -> Iterator[Written]:
    """Write one batch, column by column; rows are numbered from 0, each prompt's samples together."""
    device = next(model.parameters()).device
    stops = torch.tensor(sampling.stop_tokens, dtype=torch.long, device=device)
    draws_BC = draws_BC.to(device)
    batch = DecodingBatch(model, prompts, samples=samples, device=device)
    for column in range(sampling.max_new_tokens):
        forbidden = stops if column < sampling.min_new_tokens else None
        draws_B = draws_BC[batch.places_B, column] if sampling.temperature else None
        tokens_B = choose(batch.logits_BV, sampling, draws_B=draws_B, forbidden=forbidden)
        logps_B = gather_logps(batch.logits_BV / (sampling.temperature or 1.0), tokens_B)
        stopped_B = torch.isin(tokens_B, stops)
        for row, token, ends, logp, gone in zip(
            batch.places_B.tolist(),
            tokens_B.tolist(),
            stopped_B.tolist(),
            logps_B.tolist(),
            batch.finished_B.tolist(),
            strict=True,
        ):
            if not gone:
                yield Written(row, token, ends, logp)
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
    # Logits that are no numbers have no distribution; their log-probability will tell.
    tokens_B1 = tokens_B1.clamp(max=heights_BV.shape[1] - 1)
    return (tokens_B1 if ranks_BV is None else ranks_BV.gather(1, tokens_B1))[:, 0]

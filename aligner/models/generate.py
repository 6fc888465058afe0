"""Generate completions that do not depend on other prompts, the batch size or the number of processes.

Shapes: B rows in the batch at the moment, C columns of a completion, V vocabulary size. One uniform random
number determines each token; it belongs to the row, not to the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from aligner.models.decoding import DecodingBatch, supports_cache
from aligner.models.logps import gather_logps
from aligner.models.options import SamplingOptions


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Sampling of tokens, and the end of a completion."""

    stop_tokens: tuple[int, ...]
    """Tokens that end a completion; the token is part of it."""
    max_new_tokens: int
    min_new_tokens: int = 0
    """Number of tokens before the first that may be a stop token."""
    temperature: float = 0.0
    """Softmax temperature; 0 takes the most likely token."""
    top_k: int = 0
    """Sample among this many most likely tokens; 0 for all."""
    top_p: float = 1.0
    """Sample among the most likely tokens of this total probability (Holtzman 2020)."""

    @classmethod
    def from_options(cls, options: SamplingOptions, stop_tokens: Sequence[int]) -> Sampling:
        """Return the sampling that a step's options describe.

        Args:
            options: Options of the step.
            stop_tokens: Tokens that end a completion.
        """
        return cls(
            stop_tokens=tuple(stop_tokens),
            max_new_tokens=options.max_new_tokens,
            min_new_tokens=options.min_new_tokens,
            temperature=options.temperature,
            top_k=options.top_k,
            top_p=options.top_p,
        )


@dataclass(frozen=True, kw_only=True)
class Answer:
    """Completion of a prompt, in tokens."""

    tokens: tuple[int, ...]
    """Token ids, with the stop token if it ended."""
    ended: bool
    """False if it was truncated at `max_new_tokens`."""
    logps: tuple[float, ...] = field(default=(), compare=False)
    """Log-probability of each token at the sampling temperature (1 if that is 0), over all tokens."""

    def text(self, tokenizer: Any) -> str:
        """Return the text, without special tokens."""
        words = list(self.tokens[:-1] if self.ended else self.tokens)
        return str(
            tokenizer.decode(words, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        )


@dataclass(frozen=True)
class GeneratedToken:
    """Token of a completion when it is sampled."""

    row: int
    token: int
    ends: bool
    """True if it is a stop token, and so the last."""
    logp: float
    """Log-probability, as in `Answer.logps`."""


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
    """Generate `samples` completions of every prompt.

    Args:
        model: Causal language model, with or without adapters; not changed.
        prompts: Token ids, generation prompt included; none may be empty.
        sampling: Sampling of tokens.
        seed: Determines the random numbers, together with the index of prompt and sample.
        samples: Completions per prompt; the prompt is computed once for all.
        numbers: Indices of the prompts if they are part of a larger set; 0, 1, … by default.
        batch_size: Completions generated at once; at least those of one prompt.
        finished: Called after each batch with the number of completions so far.

    Returns:
        Completions in the order of the prompts, those of a prompt together. They do not depend on
        `batch_size`, up to rounding.
    """
    numbers = range(len(prompts)) if numbers is None else numbers
    assert len(numbers) == len(prompts), "a number for each prompt"
    tokens: list[list[GeneratedToken]] = [[] for _ in range(len(prompts) * samples)]
    # Prompts of similar length share a batch, to reduce padding.
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    prompts_at_once, done = max(batch_size // samples, 1), 0
    with eval_mode(model):
        for batch in _batches(order, prompts, prompts_at_once, padded=supports_cache(model)):
            rows = [
                numbers[index] * samples + sample for index in batch for sample in range(samples)
            ]
            completions = [index * samples + sample for index in batch for sample in range(samples)]
            draws_BC = _uniforms(seed, rows, sampling)
            for token in _generate_batch(
                model,
                [prompts[index] for index in batch],
                sampling=sampling,
                samples=samples,
                draws_BC=draws_BC,
            ):
                tokens[completions[token.row]].append(token)
            done += len(completions)
            finished(done)
    return [_answer(completion) for completion in tokens]


def _answer(tokens: Sequence[GeneratedToken]) -> Answer:
    return Answer(
        tokens=tuple(item.token for item in tokens),
        ended=bool(tokens) and tokens[-1].ends,
        logps=tuple(item.logp for item in tokens),
    )


def stream(
    model: nn.Module, prompt: Sequence[int], *, sampling: Sampling, seed: int = 0
) -> Iterator[GeneratedToken]:
    """Generate one completion and yield each token when it is sampled; the model must be in eval mode."""
    draws_BC = _uniforms(seed, [0], sampling)
    yield from _generate_batch(model, [prompt], sampling=sampling, samples=1, draws_BC=draws_BC)


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Set all modules to eval mode in the body, and restore the mode of each after it."""
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
    batch: list[int] = []
    for index in order:
        other_length = not padded and batch and len(prompts[batch[0]]) != len(prompts[index])
        if len(batch) == batch_size or other_length:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def _generate_batch(
    model: nn.Module,
    prompts: Sequence[Sequence[int]],
    *,
    sampling: Sampling,
    samples: int,
    draws_BC: Tensor,
) -> Iterator[GeneratedToken]:
    """Generate one batch column by column; the samples of a prompt are adjacent rows."""
    device = next(model.parameters()).device
    stops = torch.tensor(sampling.stop_tokens, dtype=torch.long, device=device)
    draws_BC = draws_BC.to(device)
    batch = DecodingBatch(model, prompts, samples=samples, device=device)
    for column in range(sampling.max_new_tokens):
        forbidden = stops if column < sampling.min_new_tokens else None
        draws_B = draws_BC[batch.rows_B, column] if sampling.temperature else None
        tokens_B = sample_tokens(batch.logits_BV, sampling, draws_B=draws_B, forbidden=forbidden)
        logps_B = gather_logps(batch.logits_BV / (sampling.temperature or 1.0), tokens_B)
        stopped_B = torch.isin(tokens_B, stops)
        for row, token, ends, logp, finished in zip(
            batch.rows_B.tolist(),
            tokens_B.tolist(),
            stopped_B.tolist(),
            logps_B.tolist(),
            batch.finished_B.tolist(),
            strict=True,
        ):
            if not finished:
                yield GeneratedToken(row, token, ends, logp)
        if column + 1 == sampling.max_new_tokens or not batch.append(tokens_B, stopped_B):
            return


def _uniforms(seed: int, rows: Sequence[int], sampling: Sampling) -> Tensor:
    """Draw the random numbers of rows, (B, `max_new_tokens`) in [0, 1), fp64."""
    if not sampling.temperature:
        return torch.zeros(len(rows), 0)
    draws = []
    for row in rows:
        # With a sum, row 1 of seed 0 would have the numbers of row 0 of seed 1.
        generator = torch.Generator().manual_seed((seed * 0x9E3779B97F4A7C15 + row) % 2**63)
        draws.append(torch.rand(sampling.max_new_tokens, dtype=torch.float64, generator=generator))
    return torch.stack(draws)


def sample_tokens(
    logits_BV: Tensor,
    sampling: Sampling,
    *,
    draws_B: Tensor | None = None,
    forbidden: Tensor | None = None,
) -> Tensor:
    """Sample a token per row: the most likely, or the inverse of the distribution function at `draws_B`.

    The distribution is softmax(logits / temperature) without the `forbidden` tokens, truncated to `top_k`,
    then to `top_p` of the rest (Holtzman 2020), and normalized.

    Args:
        logits_BV: Logits in fp32.
        sampling: Temperature, `top_k` and `top_p`.
        draws_B: Uniform numbers in [0, 1), fp64; needed unless the temperature is 0.
        forbidden: Token ids that are not sampled.

    Returns:
        tokens_B, int64.
    """
    if forbidden is not None:
        logits_BV = logits_BV.index_fill(1, forbidden, -torch.inf)
    if not sampling.temperature:
        return logits_BV.argmax(-1)
    assert draws_B is not None, "sampling needs random numbers"
    probabilities_BV = torch.softmax(logits_BV.double() / sampling.temperature, -1)
    ranks_BV = None
    if 0 < sampling.top_k < probabilities_BV.shape[1] or sampling.top_p < 1:
        probabilities_BV, ranks_BV = probabilities_BV.sort(dim=-1, descending=True, stable=True)
        if sampling.top_k:
            probabilities_BV[:, sampling.top_k :] = 0
        before_BV = probabilities_BV.cumsum(-1) - probabilities_BV
        probabilities_BV = probabilities_BV * (
            before_BV < sampling.top_p * probabilities_BV.sum(-1, keepdim=True)
        )
    cumulative_BV = probabilities_BV.cumsum(-1)
    totals_B = cumulative_BV[:, -1]
    # Strictly below the total: the first cumulative mass above it then belongs to a token with mass.
    targets_B = torch.minimum(draws_B * totals_B, totals_B.nextafter(torch.zeros_like(totals_B)))
    tokens_B1 = torch.searchsorted(cumulative_BV, targets_B[:, None], right=True)
    # NaN logits have no distribution; the log-probability shows the error.
    tokens_B1 = tokens_B1.clamp(max=cumulative_BV.shape[1] - 1)
    return (tokens_B1 if ranks_BV is None else ranks_BV.gather(1, tokens_B1))[:, 0]

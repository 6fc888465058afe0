"""Generate completions in batches that processes share, with each batch logged when it is done."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Any

from aligner import Artifact, ModelState, StepContext
from aligner.kit.work import (
    DataContext,
    PreparedData,
    PromptTokens,
    Sampling,
    generate,
    load_model,
    prepare_rows,
    stop_tokens,
)
from aligner_annotate.generation_log import GenerationLog
from aligner_annotate.options import AnnotateOptions, GenerationOptions


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A completion of a prompt."""

    text: str
    ended: bool
    tokens: int


def read_prompts(
    options: AnnotateOptions, context: DataContext, tokenizer: Any
) -> PreparedData[PromptTokens]:
    """Read and tokenize the prompts.

    Raises:
        DataError: the data is missing, malformed, or beyond the step's limits.
        ModelError: the tokenizer has no usable chat template.
    """
    return prepare_rows(
        "prompt",
        options.prompts,
        tokenizer,
        context=context,
        option="prompts",
        max_length=options.max_length,
        limits=options.limits,
    )


class ProcessShare:
    """Batches of prompts of this process, and the progress over them."""

    def __init__(
        self,
        lengths: Sequence[int],
        *,
        samples: int,
        batch_size: int,
        passes: int,
        context: StepContext,
    ) -> None:
        """Distribute the prompts over the processes.

        Args:
            lengths: Length of each prompt in tokens.
            samples: Completions per prompt.
            batch_size: Completions per batch.
            passes: Number of times the step iterates over its batches.
            context: Context of the step.
        """
        # In whole batches: completions then do not depend on the number of processes.
        batches = length_batches(lengths, max(batch_size // samples, 1))
        self.batches = batches[context.rank :: context.world_size]
        self.samples, self._context, self._done = samples, context, 0
        self._total = passes * samples * sum(map(len, self.batches))

    def remaining(self, log: GenerationLog) -> Iterator[Sequence[int]]:
        """Yield the batches that are not in the log; each is done when the next is requested."""
        logged = log.read()
        for batch in self.batches:
            complete = all(index in logged for index in batch)
            if not complete:
                yield batch
            self._done += self.samples * len(batch)
            if not complete:
                self._context.progress(self._done, self._total, unit="answer")


def length_batches(lengths: Sequence[int], size: int) -> list[list[int]]:
    """Group indices into batches of similar length, always in the same way."""
    order = sorted(range(len(lengths)), key=lambda index: lengths[index])
    return [order[start : start + size] for start in range(0, len(order), size)]


def generate_candidates(
    prompts: Sequence[Sequence[int]],
    share: ProcessShare,
    log: GenerationLog,
    options: GenerationOptions,
    tokenizer: Any,
    state: ModelState,
    context: StepContext,
) -> None:
    """Generate completions of this process's share, and return the policy to the cache.

    Args:
        prompts: Token ids of all prompts.
        share: Batches of this process.
        log: Receives the completions.
        options: Sampling, precision and attention kernel.
        tokenizer: Tokenizer of the policy.
        state: Contains the policy.
        context: Context of the step.
    """
    policy, samples = state.get("policy"), share.samples
    model = load_model(
        policy,
        context.model_cache,
        precision=options.precision,
        quantize=options.quantize,
        attn_implementation=options.attn_implementation,
    )
    try:
        for batch in share.remaining(log):
            answers = generate(
                model,
                [prompts[index] for index in batch],
                sampling=Sampling.from_options(options, stop_tokens(tokenizer)),
                seed=_policy_seed(context, policy),
                samples=samples,
                numbers=batch,
                batch_size=options.batch_size,
            )
            generated = [
                asdict(
                    Candidate(
                        text=answer.text(tokenizer), ended=answer.ended, tokens=len(answer.tokens)
                    )
                )
                for answer in answers
            ]
            log.append(
                {
                    index: {"answers": generated[place * samples : (place + 1) * samples]}
                    for place, index in enumerate(batch)
                }
            )
    finally:
        context.model_cache.keep(policy, model)


def candidates_of(entry: Mapping[str, Any]) -> list[Candidate]:
    """Return the completions that `generate_candidates` logged for a prompt."""
    return [Candidate(**candidate) for candidate in entry["answers"]]


def _policy_seed(context: StepContext, policy: Artifact) -> int:
    """Derive a seed from the policy: a later round draws other samples even if little has changed."""
    return int.from_bytes(sha256(f"{context.seed} {policy.hash}".encode()).digest()[:7])

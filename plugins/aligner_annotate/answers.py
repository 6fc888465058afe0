"""Let the policy answer prompts: in batches shared out over processes, each kept when it is done."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from aligner.data.encoding.chat import stop_tokens
from aligner.models.generate import Sampling, generate
from aligner.models.load import load_model
from aligner.run import processes
from aligner.stage import StepContext
from aligner.state import Artifact, ModelState
from aligner_annotate.options import WritingOptions
from aligner_annotate.work import Work, parts

_PATIENCE = 24 * 3600.0
"""Seconds that the first process waits for the others' share."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One answer to a prompt."""

    text: str
    ended: bool
    tokens: int


class Share:
    """This process's part of the prompts, in batches, and how much of it is done."""

    def __init__(
        self,
        lengths: Sequence[int],
        *,
        samples: int,
        batch_size: int,
        passes: int,
        context: StepContext,
    ) -> None:
        """Deal out the prompts.

        Args:
            lengths: Of all prompts, in tokens.
            samples: Answers a prompt.
            batch_size: Answers that are written together.
            passes: How often the step goes through them.
            run: The step's.
        """
        # Dealt out in whole batches: what is written then is the same on any number of processes.
        self.batches = parts(lengths, max(batch_size // samples, 1))[
            context.rank :: context.world_size
        ]
        self.samples, self._run, self._done = samples, context, 0
        self._total = passes * samples * sum(map(len, self.batches))

    def left(self, work: Work) -> Iterator[Sequence[int]]:
        """The batches that are not in `work` yet; each is done when the next is asked for."""
        done = work.done()
        for batch in self.batches:
            old = all(number in done for number in batch)
            if not old:
                yield batch
            self._done += self.samples * len(batch)
            if not old:
                self._run.progress(self._done, self._total, unit="answer")


def write_answers(
    prompts: Sequence[Sequence[int]],
    share: Share,
    work: Work,
    options: WritingOptions,
    tokenizer: Any,
    state: ModelState,
    context: StepContext,
) -> None:
    """Let the policy answer this process's share; it goes back to where the next step finds it.

    Args:
        prompts: All of them, as token ids.
        share: Which are this process's.
        work: Gets the answers.
        options: How to write.
        tokenizer: The policy's.
        state: Holds the policy.
        run: The step's.
    """
    policy, samples = state.get("policy"), share.samples
    sampling = Sampling(
        stop_tokens=tuple(stop_tokens(tokenizer)),
        max_new_tokens=options.max_new_tokens,
        min_new_tokens=options.min_new_tokens,
        temperature=options.temperature,
        top_k=options.top_k,
        top_p=options.top_p,
    )
    model = load_model(
        policy,
        context.model_cache,
        precision=options.precision,
        quantize=options.quantize,
        attn_implementation=options.attn_implementation,
    )
    try:
        for batch in share.left(work):
            answers = generate(
                model,
                [prompts[number] for number in batch],
                sampling=sampling,
                seed=_seed(context, policy),
                samples=samples,
                numbers=batch,
                batch_size=options.batch_size,
            )
            said = [
                asdict(Candidate(text=one.text(tokenizer), ended=one.ended, tokens=len(one.tokens)))
                for one in answers
            ]
            work.keep(
                {
                    number: {"answers": said[place * samples : (place + 1) * samples]}
                    for place, number in enumerate(batch)
                }
            )
    finally:
        context.model_cache.keep(policy, model)


def candidates(entry: Mapping[str, Any]) -> list[Candidate]:
    """The answers that `write_answers` kept for a prompt."""
    return [Candidate(**one) for one in entry["answers"]]


def gathered(context: StepContext, make: Callable[[], Artifact]) -> Artifact:
    """What the first process makes of every process's share, once all have done theirs."""

    def ended(rank: int) -> Path:
        return context.folder / f".process-{rank}.share.{processes.launch_id()}"

    def wait_and_make() -> Artifact:
        for other in range(1, context.world_size):
            what = f"the share of process {other}"
            processes.wait_until(ended(other).exists, what=what, seconds=_PATIENCE)
        return make()

    if context.rank:
        ended(context.rank).touch()
    return processes.write_once(context.folder / "data", wait_and_make)


def _seed(context: StepContext, policy: Artifact) -> int:
    """Another one for another policy: a second round draws anew where little has changed."""
    return int.from_bytes(sha256(f"{context.seed} {policy.hash}".encode()).digest()[:7])

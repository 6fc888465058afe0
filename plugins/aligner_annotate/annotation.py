"""Complete every prompt several times, score the completions, and write rows made of them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, pstdev
from typing import Any

from aligner import Artifact, Completion, ModelState, StageError, StepContext
from aligner.kit.work import (
    PromptTokens,
    load_sources,
    load_tokenizer,
    save_rows,
    write_after_shares,
    write_lines,
)
from aligner_annotate.generation import (
    Candidate,
    ProcessShare,
    candidates_of,
    generate_candidates,
    read_prompts,
)
from aligner_annotate.generation_log import GenerationLog
from aligner_annotate.judge import load_judge
from aligner_annotate.options import AnnotateOptions, annotate_metrics
from aligner_annotate.rows import make_rows, usable_candidates

Scorer = Callable[[Sequence[Completion]], Sequence[float]]
"""Function that scores completions, one number each."""


@dataclass(frozen=True, kw_only=True)
class ScoredPrompt:
    """A prompt with its completions and their scores."""

    prompt: PromptTokens
    candidates: Sequence[Candidate]
    scores: Mapping[str, Sequence[float]]
    """Scores of the completions by source."""
    total: Sequence[float]
    """Weighted sum of the sources for each completion."""


def annotate(options: AnnotateOptions, state: ModelState, context: StepContext) -> Artifact:
    """Run an annotate step, and return its rows.

    Raises:
        StageError: a source returned wrong scores, or no row can be made.
    """
    tokenizer = load_tokenizer(state.get("tokenizer"), context.model_cache, where=context.where)
    prompts = read_prompts(options, context, tokenizer).train
    tokens = [prompt.input_ids for prompt in prompts]
    share = ProcessShare(
        [len(ids) for ids in tokens],
        samples=options.samples_per_prompt,
        batch_size=options.batch_size,
        passes=2,
        context=context,
    )
    generated = GenerationLog(context.folder, "written", rank=context.rank)
    scored = GenerationLog(context.folder, "scored", rank=context.rank)
    generate_candidates(tokens, share, generated, options, tokenizer, state, context)
    _score(prompts, share, generated, scored, options, state, context)

    def make() -> Artifact:
        found = list(_scored_prompts(prompts, generated.read(), scored.read(), options))
        artifact = _write_rows(found, options, context)
        generated.delete()
        scored.delete()
        return artifact

    return write_after_shares(context.folder / "data", make)


def _score(
    prompts: Sequence[PromptTokens],
    share: ProcessShare,
    generated: GenerationLog,
    scored: GenerationLog,
    options: AnnotateOptions,
    state: ModelState,
    context: StepContext,
) -> None:
    """Score this process's share of the completions."""
    scorers = _load_scorers(options, state, context)
    entries = generated.read()
    for batch in share.remaining(scored):
        candidates = {index: candidates_of(entries[index]) for index in batch}
        completions = [
            Completion(
                prompt=prompts[index].messages,
                text=candidate.text,
                ended=candidate.ended,
                tokens=candidate.tokens,
                row=prompts[index].row,
                tools=prompts[index].tools,
            )
            for index in batch
            for candidate in candidates[index]
        ]
        by_source = {
            name: iter(_scores(name, score, completions, context))
            for name, score in scorers.items()
        }
        scored.append(
            {
                index: {
                    name: [next(scores) for _ in candidates[index]]
                    for name, scores in by_source.items()
                }
                for index in batch
            }
        )


def _load_scorers(
    options: AnnotateOptions, state: ModelState, context: StepContext
) -> dict[str, Scorer]:
    """Return the function of each source that scores completions, by the name of the source."""
    sources = load_sources(
        options.score,
        state,
        context,
        batch_size=options.batch_size,
        precision=options.precision,
        attn_implementation=options.attn_implementation,
    )
    scorers: dict[str, Scorer] = {source.name: source.scorer.score for source in sources}
    if options.judge is not None:
        judge = load_judge(options.judge, options, state, context)
        scorers[judge.name] = judge.score
    return scorers


def _scores(
    source: str, scorer: Scorer, completions: Sequence[Completion], context: StepContext
) -> list[float]:
    scores = [float(score) for score in scorer(completions)]
    finite = sum(map(math.isfinite, scores))
    if not len(scores) == len(completions) == finite:
        raise StageError(
            f"reward function {source!r} returned {len(scores)} scores for "
            f"{len(completions)} completions, {finite} of them finite",
            where=context.at("score"),
            hint="a reward function must return one finite number per completion",
        )
    return scores


def _scored_prompts(
    prompts: Sequence[PromptTokens],
    generated: Mapping[int, Mapping[str, Any]],
    scored: Mapping[int, Mapping[str, Any]],
    options: AnnotateOptions,
) -> Iterator[ScoredPrompt]:
    weights = options.weights
    for index, prompt in enumerate(prompts):
        scores, candidates = scored[index], candidates_of(generated[index])
        total = [
            sum(weights[name] * scores[name][number] for name in weights)
            for number in range(len(candidates))
        ]
        yield ScoredPrompt(prompt=prompt, candidates=candidates, scores=scores, total=total)


def _write_rows(
    prompts: Sequence[ScoredPrompt], options: AnnotateOptions, context: StepContext
) -> Artifact:
    """Write the rows, all completions with their scores, and the metrics."""
    rows: list[Mapping[str, Any]] = []
    dropped: Counter[str] = Counter()
    without, best = 0, []
    for scored in prompts:
        usable = usable_candidates(scored.candidates, options, dropped)
        answers = [(scored.candidates[number].text, scored.total[number]) for number in usable]
        made = make_rows(scored.prompt.messages, scored.prompt.tools, answers, options, dropped)
        best += [max(score for _, score in answers)] if answers else []
        rows += made
        without += not made
    samples = [_sample(scored) for scored in prompts]
    write_lines(context.folder / "answers.jsonl", samples)
    if not rows:
        reasons = ", ".join(f"{count} {reason}" for reason, count in dropped.items() if count)
        raise StageError(
            f"no row can be made of {len(prompts)} prompts with {options.samples_per_prompt} "
            f"completions each: {reasons}",
            hint=f"{context.folder / 'answers.jsonl'} lists every completion with its scores",
        )
    artifact = save_rows(rows, context.folder / "data", made_by=context.step)
    _record(prompts, rows, without, best, dropped, options, context)
    # A step that was interrupted here writes the samples again.
    (context.folder / "samples.jsonl").unlink(missing_ok=True)
    context.samples(samples[: options.samples])
    return artifact


def _record(
    prompts: Sequence[ScoredPrompt],
    rows: Sequence[Any],
    without: int,
    best: Sequence[float],
    dropped: Counter[str],
    options: AnnotateOptions,
    context: StepContext,
) -> None:
    candidates = [candidate for scored in prompts for candidate in scored.candidates]
    values: dict[str, Callable[[], float]] = {
        "rows": lambda: len(rows),
        "reward_mean": lambda: fmean(score for scored in prompts for score in scored.total),
        "reward_best": lambda: fmean(best),
        "reward_deviation": lambda: fmean(pstdev(scored.total) for scored in prompts),
        "ended": lambda: fmean(candidate.ended for candidate in candidates),
        "length_tokens": lambda: fmean(candidate.tokens for candidate in candidates),
        "without_rows": lambda: without,
    }
    for metric in annotate_metrics(options):
        if metric in values:
            value = values[metric]()
        elif metric.startswith("dropped_"):
            value = dropped[metric.removeprefix("dropped_")]
        else:
            name = metric.removeprefix("reward_")
            value = fmean(score for scored in prompts for score in scored.scores[name])
        context.record(**{metric: value})


def _sample(scored: ScoredPrompt) -> dict[str, Any]:
    return {
        "prompt": [dict(message) for message in scored.prompt.messages],
        "answers": [
            {
                "answer": candidate.text,
                "tokens": candidate.tokens,
                "ended": candidate.ended,
                "score": scored.total[number],
                "scores": {name: scores[number] for name, scores in scored.scores.items()},
            }
            for number, candidate in enumerate(scored.candidates)
        ],
    }

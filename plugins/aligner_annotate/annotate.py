"""Answer every prompt several times, score the answers, and write the rows that are made of them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, pstdev
from typing import Any

from aligner.data.encoding.tokenizers import load_tokenizer
from aligner.data.reading.step_datasets import save_rows
from aligner.data.store.token_rows import PromptTokens
from aligner.errors import StageError
from aligner.registry import Completion
from aligner.run.durable import write_lines
from aligner.stage import StepContext
from aligner.state import Artifact, ModelState
from aligner.train.scoring import RewardSource, load_sources
from aligner_annotate.answers import Candidate, Share, candidates, gathered, write_answers
from aligner_annotate.judge import judge_of
from aligner_annotate.prompts import prompts_of
from aligner_annotate.select import rows_of, usable
from aligner_annotate.stage import AnnotateOptions, metrics_of
from aligner_annotate.work import Work


@dataclass(frozen=True, kw_only=True)
class Answered:
    """A prompt's answers, and by source what each was scored."""

    prompt: PromptTokens
    candidates: Sequence[Candidate]
    scores: Mapping[str, Sequence[float]]
    total: Sequence[float]
    """The weighted sum."""


def annotate(options: AnnotateOptions, state: ModelState, context: StepContext) -> Artifact:
    """The whole work of an annotate step. Returns the rows it leaves.

    Raises:
        StageError: a source gives no numbers, or no row can be made.
    """
    tokenizer = load_tokenizer(state.get("tokenizer"), context.model_cache, where=context.where)
    prompts = prompts_of(options, context, tokenizer).train
    tokens = [one.input_ids for one in prompts]
    share = Share(
        [len(ids) for ids in tokens],
        samples=options.samples_per_prompt,
        batch_size=options.batch_size,
        passes=2,
        context=context,
    )
    written = Work(context.folder, "written", rank=context.rank)
    scored = Work(context.folder, "scored", rank=context.rank)
    write_answers(tokens, share, written, options, tokenizer, state, context)
    _score(prompts, share, written, scored, options, state, context)

    def make() -> Artifact:
        found = list(_answered(prompts, written.done(), scored.done(), options))
        made = _made(found, options, context)
        written.forget()
        scored.forget()
        return made

    return gathered(context, make)


def _score(
    prompts: Sequence[PromptTokens],
    share: Share,
    written: Work,
    scored: Work,
    options: AnnotateOptions,
    state: ModelState,
    context: StepContext,
) -> None:
    """Score this process's share of the answers."""
    sources = list(
        load_sources(
            options.score,
            state,
            context,
            batch_size=options.batch_size,
            precision=options.precision,
            attn_implementation=options.attn_implementation,
        )
    )
    if options.judge is not None:
        judge = judge_of(options.judge, options, state, context)
        sources.append(RewardSource(name=judge.name, weight=options.judge.weight, scorer=judge))
    answers = written.done()
    for batch in share.left(scored):
        said = {number: candidates(answers[number]) for number in batch}
        completions = [
            Completion(
                prompt=prompts[number].messages,
                text=one.text,
                ended=one.ended,
                tokens=one.tokens,
                row=prompts[number].row,
                tools=prompts[number].tools,
            )
            for number in batch
            for one in said[number]
        ]
        by_source = {one.name: iter(_numbers(one, completions, context)) for one in sources}
        scored.keep(
            {
                number: {
                    name: [next(numbers) for _ in said[number]]
                    for name, numbers in by_source.items()
                }
                for number in batch
            }
        )


def _numbers(
    source: RewardSource, completions: Sequence[Completion], context: StepContext
) -> list[float]:
    numbers = [float(one) for one in source.scorer.score(completions)]
    finite = sum(map(math.isfinite, numbers))
    if not len(numbers) == len(completions) == finite:
        raise StageError(
            f"reward function {source.name!r} gave {len(numbers)} numbers for "
            f"{len(completions)} answers, {finite} of them finite",
            where=context.at("score"),
            hint="a source of reward returns one finite number an answer",
        )
    return numbers


def _answered(
    prompts: Sequence[PromptTokens],
    written: Mapping[int, Mapping[str, Any]],
    scored: Mapping[int, Mapping[str, Any]],
    options: AnnotateOptions,
) -> Iterator[Answered]:
    weights = options.weights
    for number, prompt in enumerate(prompts):
        scores, said = scored[number], candidates(written[number])
        total = [
            sum(weights[name] * scores[name][place] for name in weights)
            for place in range(len(said))
        ]
        yield Answered(prompt=prompt, candidates=said, scores=scores, total=total)


def _made(answered: Sequence[Answered], options: AnnotateOptions, context: StepContext) -> Artifact:
    """Write the rows, every answer with its scores beside them, and the metrics."""
    rows: list[Mapping[str, Any]] = []
    dropped: Counter[str] = Counter()
    without, best = 0, []
    for one in answered:
        kept = usable(one.candidates, options, dropped)
        answers = [(one.candidates[place].text, one.total[place]) for place in kept]
        made = rows_of(one.prompt.messages, one.prompt.tools, answers, options, dropped)
        best += [max(score for _, score in answers)] if answers else []
        rows += made
        without += not made
    shown = [_shown(one) for one in answered]
    write_lines(context.folder / "answers.jsonl", shown)
    if not rows:
        reasons = ", ".join(f"{count} {why}" for why, count in dropped.items() if count)
        raise StageError(
            f"no row can be made of {len(answered)} prompts with {options.samples_per_prompt} answers "
            f"each: {reasons}",
            where=context.where,
            hint=f"{context.folder / 'answers.jsonl'} has every answer with its scores",
        )
    artifact = save_rows(rows, context.folder / "data", made_by=context.step)
    _record(answered, rows, without, best, dropped, options, context)
    # Written again when a step that was stopped here goes on.
    (context.folder / "samples.jsonl").unlink(missing_ok=True)
    context.samples(shown[: options.samples])
    return artifact


def _record(
    answered: Sequence[Answered],
    rows: Sequence[Any],
    without: int,
    best: Sequence[float],
    dropped: Counter[str],
    options: AnnotateOptions,
    context: StepContext,
) -> None:
    every = [one for prompt in answered for one in prompt.candidates]
    known: dict[str, Callable[[], float]] = {
        "rows": lambda: len(rows),
        "reward_mean": lambda: fmean(score for one in answered for score in one.total),
        "reward_best": lambda: fmean(best),
        "reward_deviation": lambda: fmean(pstdev(one.total) for one in answered),
        "ended": lambda: fmean(one.ended for one in every),
        "length_tokens": lambda: fmean(one.tokens for one in every),
        "without_rows": lambda: without,
    }
    for metric in metrics_of(options):
        if metric in known:
            value = known[metric]()
        elif metric.startswith("dropped_"):
            value = dropped[metric.removeprefix("dropped_")]
        else:
            name = metric.removeprefix("reward_")
            value = fmean(score for one in answered for score in one.scores[name])
        context.record(**{metric: value})


def _shown(one: Answered) -> dict[str, Any]:
    return {
        "prompt": [dict(message) for message in one.prompt.messages],
        "answers": [
            {
                "answer": candidate.text,
                "tokens": candidate.tokens,
                "ended": candidate.ended,
                "score": one.total[place],
                "scores": {name: numbers[place] for name, numbers in one.scores.items()},
            }
            for place, candidate in enumerate(one.candidates)
        ],
    }

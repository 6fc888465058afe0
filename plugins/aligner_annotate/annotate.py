"""Answer every prompt several times, score the answers, and write the rows that are made of them."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from statistics import fmean, pstdev
from typing import Any

from aligner.data.chat import stop_tokens
from aligner.data.fitted import PromptTokens
from aligner.data.made import save_rows
from aligner.data.tokenizers import load_tokenizer
from aligner.errors import StageError
from aligner.models.generate import Sampling, generate
from aligner.models.load import load_model
from aligner.offers import Completion
from aligner.run import ranks
from aligner.run.durable import write_text
from aligner.stage import Run
from aligner.state import Artifact, ModelState
from aligner.train.scoring import Source, load_sources
from aligner_annotate.prompts import prompts_of
from aligner_annotate.select import Candidate, rows_of, usable
from aligner_annotate.stage import AnnotateConfig, figures_of
from aligner_annotate.work import Work, parts

_PATIENCE = 24 * 3600.0
"""Seconds that the first process waits for the others' share."""


@dataclass(frozen=True, kw_only=True)
class Answered:
    """A prompt's answers, and by source what each was scored."""

    prompt: PromptTokens
    candidates: Sequence[Candidate]
    scores: Mapping[str, Sequence[float]]
    total: Sequence[float]
    """The weighted sum."""


class _Counter:
    """How much of this process's share is done: each answer is written, and each is scored."""

    def __init__(self, run: Run, total: int) -> None:
        self._run, self._total, self._done = run, total, 0

    def further(self, answers: int, *, tell: bool = True) -> None:
        self._done += answers
        if tell:
            self._run.progress(self._done, self._total, unit="answer")


def annotate(config: AnnotateConfig, state: ModelState, run: Run) -> Artifact:
    """The whole work of an annotate step. Returns the rows it leaves.

    Raises:
        StageError: a source gives no numbers, or no row can be made.
    """
    tokenizer = load_tokenizer(state.get("tokenizer"), run.live, where=run.where)
    prompts = prompts_of(config, run, tokenizer).train
    # Dealt out in whole batches: what is written then is the same on any number of processes.
    batches = parts([len(one.input_ids) for one in prompts], config.prompts_at_once)
    share = batches[run.rank :: run.world]
    count = _Counter(run, 2 * config.samples_per_prompt * sum(map(len, share)))
    written = Work(run.folder, "written", rank=run.rank)
    scored = Work(run.folder, "scored", rank=run.rank)
    _write(prompts, share, written, tokenizer, config, state, run, count)
    _score(prompts, share, written, scored, config, state, run, count)
    if run.rank:
        _end_of_share(run, run.rank).touch()

    def gather() -> Artifact:
        for other in range(1, run.world):
            there = _end_of_share(run, other).exists
            ranks.wait_until(there, what=f"the share of process {other}", seconds=_PATIENCE)
        found = list(_answered(prompts, written.done(), scored.done(), config))
        made = _made(found, config, run)
        written.forget()
        scored.forget()
        return made

    return ranks.written_once(run.folder / "data", gather)


def _end_of_share(run: Run, rank: int) -> Any:
    return run.folder / f".process-{rank}.share.{ranks.start_of()}"


def _each_left(
    share: Sequence[Sequence[int]], work: Work, count: _Counter, samples: int
) -> Iterator[Sequence[int]]:
    """The batches that are not done yet; each is done when the next is asked for."""
    done = work.done()
    left = [part for part in share if any(number not in done for number in part)]
    count.further(samples * (sum(map(len, share)) - sum(map(len, left))), tell=False)
    for part in left:
        yield part
        count.further(samples * len(part))


def _write(
    prompts: Sequence[PromptTokens],
    share: Sequence[Sequence[int]],
    work: Work,
    tokenizer: Any,
    config: AnnotateConfig,
    state: ModelState,
    run: Run,
    count: _Counter,
) -> None:
    """Let the policy answer; it goes back to where the next step finds it."""
    policy, samples = state.get("policy"), config.samples_per_prompt
    sampling = Sampling(
        stop_tokens=tuple(stop_tokens(tokenizer)),
        max_new_tokens=config.max_new_tokens,
        min_new_tokens=config.min_new_tokens,
        temperature=config.temperature,
        top_k=config.top_k,
        top_p=config.top_p,
    )
    model = load_model(
        policy,
        run.live,
        precision=config.precision,
        quantize=config.quantize,
        attention=config.attention,
        where=run.where,
    )
    try:
        for part in _each_left(share, work, count, samples):
            answers = generate(
                model,
                [prompts[number].input_ids for number in part],
                sampling=sampling,
                seed=_seed(run, policy),
                samples=samples,
                numbers=part,
                batch_size=config.batch_size,
            )
            texts = [
                asdict(Candidate(text=one.text(tokenizer), ended=one.ended, tokens=len(one.tokens)))
                for one in answers
            ]
            work.keep(
                {
                    number: {"answers": texts[place * samples : (place + 1) * samples]}
                    for place, number in enumerate(part)
                }
            )
    finally:
        run.live.keep(policy, model)


def _seed(run: Run, policy: Artifact) -> int:
    """Another one for another policy: a second round draws anew where little has changed."""
    return int.from_bytes(sha256(f"{run.seed} {policy.hash}".encode()).digest()[:7])


def _score(
    prompts: Sequence[PromptTokens],
    share: Sequence[Sequence[int]],
    written: Work,
    scored: Work,
    config: AnnotateConfig,
    state: ModelState,
    run: Run,
    count: _Counter,
) -> None:
    sources = load_sources(
        config.score,
        state,
        run,
        batch_size=config.batch_size,
        precision=config.precision,
        attention=config.attention,
    )
    answers = written.done()
    for part in _each_left(share, scored, count, config.samples_per_prompt):
        said = {number: _candidates(answers[number]) for number in part}
        completions = [
            Completion(
                prompt=prompts[number].messages,
                text=one.text,
                ended=one.ended,
                tokens=one.tokens,
                row=prompts[number].row,
            )
            for number in part
            for one in said[number]
        ]
        by_source = {one.name: iter(_numbers(one, completions, run)) for one in sources}
        scored.keep(
            {
                number: {
                    name: [next(numbers) for _ in said[number]]
                    for name, numbers in by_source.items()
                }
                for number in part
            }
        )


def _numbers(source: Source, completions: Sequence[Completion], run: Run) -> list[float]:
    numbers = [float(one) for one in source.scorer.score(completions)]
    finite = sum(map(math.isfinite, numbers))
    if not len(numbers) == len(completions) == finite:
        raise StageError(
            f"reward function {source.name!r} gave {len(numbers)} numbers for "
            f"{len(completions)} answers, {finite} of them finite",
            where=run.at("score"),
            hint="a source of reward returns one finite number an answer",
        )
    return numbers


def _candidates(entry: Mapping[str, Any]) -> list[Candidate]:
    return [Candidate(**one) for one in entry["answers"]]


def _answered(
    prompts: Sequence[PromptTokens],
    written: Mapping[int, Mapping[str, Any]],
    scored: Mapping[int, Mapping[str, Any]],
    config: AnnotateConfig,
) -> Iterator[Answered]:
    weights = {one.name: one.weight for one in config.score}
    for number, prompt in enumerate(prompts):
        scores, candidates = scored[number], _candidates(written[number])
        total = [
            sum(weights[name] * scores[name][place] for name in weights)
            for place in range(len(candidates))
        ]
        yield Answered(prompt=prompt, candidates=candidates, scores=scores, total=total)


def _made(answered: Sequence[Answered], config: AnnotateConfig, run: Run) -> Artifact:
    """Write the rows, every answer with its scores beside them, and the figures."""
    rows: list[Mapping[str, Any]] = []
    dropped: Counter[str] = Counter()
    without, best = 0, []
    for one in answered:
        kept = usable(one.candidates, config, dropped)
        answers = [(one.candidates[place].text, one.total[place]) for place in kept]
        made = rows_of(one.prompt.messages, one.prompt.tools, answers, config, dropped)
        best += [max(score for _, score in answers)] if answers else []
        rows += made
        without += not made
    shown = [_shown(one) for one in answered]
    write_text(run.folder / "answers.jsonl", "".join(map(_line, shown)))
    if not rows:
        reasons = ", ".join(f"{count} {why}" for why, count in dropped.items() if count)
        raise StageError(
            f"no row can be made of {len(answered)} prompts with {config.samples_per_prompt} answers "
            f"each: {reasons}",
            where=run.where,
            hint=f"{run.folder / 'answers.jsonl'} has every answer with its scores",
        )
    artifact = save_rows(rows, run.folder / "data", made_by=run.step)
    _record(answered, rows, without, best, dropped, config, run)
    # Written again when a step that was stopped here goes on.
    (run.folder / "samples.jsonl").unlink(missing_ok=True)
    run.samples(shown[: config.samples])
    return artifact


def _record(
    answered: Sequence[Answered],
    rows: Sequence[Any],
    without: int,
    best: Sequence[float],
    dropped: Counter[str],
    config: AnnotateConfig,
    run: Run,
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
    for figure in figures_of(config):
        if figure in known:
            value = known[figure]()
        elif figure.startswith("dropped_"):
            value = dropped[figure.removeprefix("dropped_")]
        else:
            name = figure.removeprefix("reward_")
            value = fmean(score for one in answered for score in one.scores[name])
        run.record(**{figure: value})


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


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False) + "\n"

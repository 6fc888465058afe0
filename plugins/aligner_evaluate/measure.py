"""Take every measure of an evaluate step, each model in memory only while it is needed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from aligner.data.rows import Prompt
from aligner.data.store.lazy_rows import MappedRows
from aligner.data.store.token_rows import SequenceTokens
from aligner.errors import StageError
from aligner.models.logps import ScoredRow, row_logps
from aligner.stage import StepContext
from aligner.state import ModelState
from aligner_evaluate.likelihood import distance, loss_and_perplexity
from aligner_evaluate.material import prepared, prompts, reference_answer
from aligner_evaluate.metrics import compute_metrics
from aligner_evaluate.scores import Scorer, judge_of, judged, reward_in_memory, win_rate
from aligner_evaluate.stage import EvaluateOptions, metrics_of
from aligner_evaluate.voices import (
    Answers,
    Completions,
    EvaluatedModel,
    earlier_voice,
    in_memory,
    own_voice,
)

Scores = Mapping[str, Mapping[str, list[float]]]
"""By scorer (`judge`, `reward`) and step, one number a prompt."""


@dataclass
class _Counter:
    """How much of the work is done, in rows looked at."""

    run: StepContext
    total: int
    done: int = 0

    def further(self, rows: int) -> None:
        self.done += rows
        self.run.progress(self.done, self.total, unit="row")


def measure(options: EvaluateOptions, state: ModelState, context: StepContext) -> None:
    """Measure, and record the metrics and samples. Only the first of several processes does.

    Raises:
        StageError: a metric is not a finite number, or a judge breaks its contract.
    """
    if not context.writes:
        return
    own = own_voice(state, context)
    asked = prompts(options, context, own.tokenizer)
    rows = asked[1] if asked else ()
    scored = "reward" in state.filled() and (options.pairs or (rows and options.reward_model))
    count = _Counter(context, _work(options, own, len(rows), context, scored=bool(scored)))
    answers = Answers(rows, options, context.seed, count.further)
    metrics, own_logps = _policy(options, own, answers, context, count)
    against: dict[str, EvaluatedModel] = {}
    for step in dict.fromkeys((*options.against, *options.kl_to)):
        other_logps = _look_back(step, own, own_logps, against, answers, context, count)
        if step in options.kl_to:
            far = distance(own_logps, other_logps)
            metrics |= {f"kl_to_{step}": far.k3, f"kl_to_{step}_k1": far.k1}
    said = {
        name: answers.of(voice, voice.sampling(options))
        for name, voice in {context.step: own, **against}.items()
        if rows
    }
    scores: dict[str, Mapping[str, list[float]]] = {}
    if options.judge and rows:
        judge = judge_of(options.judge, context)
        scores["judge"] = {
            name: judged(judge, rows, one, where=context.at("judge")) for name, one in said.items()
        }
    if scored:
        with reward_in_memory(
            state.get("reward"), options, context, own=state.get("tokenizer")
        ) as scorer:
            if rows and options.reward_model:
                speakers = {context.step: own, **against}
                scores["reward"] = {
                    name: scorer.answers(speakers[name], rows, one, count.further)
                    for name, one in said.items()
                }
            metrics |= _pairs(options, scorer, context, count)
    if rows:
        metrics |= _answer_metrics(options, rows, said[context.step])
        metrics |= _score_metrics(options, scores, context.step)
        context.samples(_samples(options, rows, said, scores, context.step))
    _record(options, metrics, context, reward="reward" in scores)


def _work(
    options: EvaluateOptions, own: EvaluatedModel, asked: int, context: StepContext, *, scored: bool
) -> int:
    """Rows that will be looked at, those again that several measures look at."""
    tokenizer = own.tokenizer
    kinds = [prepared(options, kind, context, tokenizer) for kind in ("conversations", "text")]
    rows = sum(len(one.train) for one in kinds if one is not None)
    rows += asked * (1 + len(options.against))
    if options.kl_to:
        again = own.sampling(options) != own.own_sampling(options)
        rows += asked * (int(again) + 1 + len(options.kl_to))
    if scored:
        pairs = prepared(options, "pairs", context, tokenizer)
        rows += 2 * len(pairs.train) if pairs is not None else 0
        rows += asked * (1 + len(options.against)) if options.reward_model else 0
    return rows


def _policy(
    options: EvaluateOptions,
    own: EvaluatedModel,
    answers: Answers,
    context: StepContext,
    count: _Counter,
) -> tuple[dict[str, float], list[Tensor]]:
    """Losses of the policy, and what it thinks of its own free answers; all its answers are made."""
    metrics: dict[str, float] = {}
    logps: list[Tensor] = []
    with in_memory(own, options, context, keep=True) as model:
        for kind, names in (
            ("conversations", ("eval_loss", "perplexity")),
            ("text", ("text_loss", "text_perplexity")),
        ):
            data = prepared(options, kind, context, own.tokenizer)
            if data is not None:
                marked = MappedRows(data.train, _marked)
                found = row_logps(
                    model,
                    marked,
                    batch_size=options.per_device_eval_batch_size,
                    finished=count.further,
                )
                metrics |= dict(zip(names, loss_and_perplexity(found), strict=True))
        if answers.rows:
            answers.of(own, own.sampling(options), model)
        if options.kl_to:
            freely = answers.of(own, own.own_sampling(options), model)
            logps = _weigh(model, freely, options, count)
    return metrics, logps


def _marked(row: SequenceTokens) -> ScoredRow:
    return ScoredRow(tuple(row.input_ids), tuple(row.trained))


def _look_back(
    step: str,
    own: EvaluatedModel,
    own_logps: list[Tensor],
    against: dict[str, EvaluatedModel],
    answers: Answers,
    context: StepContext,
    count: _Counter,
) -> list[Tensor]:
    """Let the model of an earlier step answer, into `against`, and weigh the policy's free answers."""
    config = answers.options
    speaks, weighs = step in config.against, step in config.kl_to
    heard = earlier_voice(step, own, context, same_tokens=False) if speaks else own
    reads = earlier_voice(step, own, context, same_tokens=True) if weighs else own
    if speaks:
        against[step] = heard
    known = not speaks or answers.known(heard, heard.sampling(config))
    same = not weighs or reads.policy.hash == own.policy.hash
    if known and same:
        count.further(len(answers.rows) * (int(speaks) + int(weighs)))
        return own_logps
    voice = heard if speaks else reads
    keep = voice.policy.hash == own.policy.hash
    with in_memory(voice, config, context, keep=keep) as model:
        if speaks:
            answers.of(heard, heard.sampling(config), model)
        if not weighs:
            return own_logps
        return _weigh(model, answers.of(own, own.own_sampling(config)), config, count)


def _weigh(
    model: Any, said: Completions, options: EvaluateOptions, count: _Counter
) -> list[Tensor]:
    """Log-probabilities of what was said, under `model`."""
    marked = [
        ScoredRow(
            (*prompt, *answer.tokens),
            (*(False for _ in prompt), *(True for _ in answer.tokens)),
        )
        for prompt, answer in zip(said.prompts, said.answers, strict=True)
    ]
    return row_logps(
        model, marked, batch_size=options.per_device_eval_batch_size, finished=count.further
    )


def _pairs(
    options: EvaluateOptions, scorer: Scorer, context: StepContext, count: _Counter
) -> dict[str, float]:
    data = prepared(options, "pairs", context, scorer.chat.tokenizer)
    if data is None:
        return {}
    chosen = scorer.tokens([[*p.prompt_ids, *p.chosen_ids] for p in data.train], count.further)
    rejected = scorer.tokens([[*p.prompt_ids, *p.rejected_ids] for p in data.train], count.further)
    margins = [a - b for a, b in zip(chosen, rejected, strict=True)]
    return {"pair_accuracy": win_rate(chosen, rejected), "pair_margin": _mean(margins)}


def _answer_metrics(
    options: EvaluateOptions, rows: Sequence[Prompt], said: Completions
) -> dict[str, float]:
    references = [reference_answer(row) or "" for row in rows]
    return compute_metrics(options.metrics, said.texts, references) | {
        "length_tokens": _mean([len(answer.tokens) for answer in said.answers]),
        "ended": _mean([answer.ended for answer in said.answers]),
    }


def _score_metrics(options: EvaluateOptions, scores: Scores, own: str) -> dict[str, float]:
    metrics: dict[str, float] = {}
    for scorer, by_step in scores.items():
        metrics[scorer] = _mean(by_step[own])
        metrics |= {f"{scorer}_{step}": _mean(by_step[step]) for step in options.against}
    for step in options.against:
        deciding = scores[options.decides]
        metrics[f"win_rate_vs_{step}"] = win_rate(deciding[own], deciding[step])
    return metrics


def _samples(
    options: EvaluateOptions,
    rows: Sequence[Prompt],
    said: Mapping[str, Completions],
    scores: Scores,
    own: str,
) -> list[dict[str, Any]]:
    def shown(name: str, row: int) -> dict[str, Any]:
        answer = said[name].answers[row]
        given = {scorer: by_step[name][row] for scorer, by_step in scores.items()}
        text = said[name].texts[row]
        return {"answer": text, "tokens": len(answer.tokens), "ended": answer.ended, **given}

    samples = []
    for number, row in enumerate(rows[: options.samples]):
        sample: dict[str, Any] = {"prompt": [dict(message) for message in row.messages]}
        if (reference := reference_answer(row)) is not None:
            sample["reference"] = reference
        sample |= shown(own, number)
        if options.against:
            sample["against"] = {step: shown(step, number) for step in options.against}
        samples.append(sample)
    return samples


def _record(
    options: EvaluateOptions, metrics: dict[str, float], context: StepContext, *, reward: bool
) -> None:
    wrong = {name: value for name, value in metrics.items() if not math.isfinite(value)}
    if wrong:
        said = ", ".join(f"{name} is {value}" for name, value in wrong.items())
        raise StageError(
            f"what was measured is no number: {said}",
            where=context.where,
            hint="the model's weights have diverged; train the step before with a lower learning_rate",
        )
    context.record(**{name: metrics[name] for name in metrics_of(options, reward=reward)})


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)

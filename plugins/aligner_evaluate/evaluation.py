"""Measure all metrics of an evaluate step, with each model in memory only while it is needed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from aligner import ModelState, StageError, StepContext
from aligner.kit.declare import error_location
from aligner.kit.rows import Prompt
from aligner.kit.work import MappedRows, ScoredRow, SequenceTokens, row_logps
from aligner_evaluate.datasets import read_prompts, read_rows, reference_answer
from aligner_evaluate.likelihood import estimate_kl, loss_and_perplexity
from aligner_evaluate.metrics import text_metrics
from aligner_evaluate.models import (
    CompletionCache,
    Completions,
    EvaluatedModel,
    current_model,
    earlier_model,
    loaded_model,
)
from aligner_evaluate.options import EvaluateOptions, metric_names
from aligner_evaluate.scores import (
    RewardScorer,
    judge_scores,
    loaded_reward,
    make_judge,
    win_rate,
)

Scores = Mapping[str, Mapping[str, list[float]]]
"""One number per prompt, by scorer (`judge`, `reward`) and step."""


@dataclass
class _RowCounter:
    """Progress of the step, in rows."""

    context: StepContext
    total: int
    done: int = 0

    def add(self, rows: int) -> None:
        self.done += rows
        self.context.progress(self.done, self.total, unit="row")


def evaluate(options: EvaluateOptions, state: ModelState, context: StepContext) -> None:
    """Measure, and record metrics and samples, on the first of several processes.

    Raises:
        StageError: a metric is not finite, or a judge returned wrong scores.
    """
    if not context.writes:
        return
    own = current_model(state, context)
    prompts = read_prompts(options, context, own.tokenizer)
    scored = "reward" in state.filled() and (options.pairs or (prompts and options.reward_model))
    total = _count_rows(options, own, len(prompts), context, scored=bool(scored))
    counter = _RowCounter(context, total)
    cache = CompletionCache(prompts, options, context.seed, counter.add)
    metrics, own_logps = _measure_policy(options, own, cache, context, counter)
    models = {context.step: own}
    for step in dict.fromkeys((*options.against, *options.kl_to)):
        other_logps = _measure_earlier(step, own, own_logps, models, cache, context, counter)
        if step in options.kl_to:
            kl = estimate_kl(own_logps, other_logps)
            metrics |= {f"kl_to_{step}": kl.k3, f"kl_to_{step}_k1": kl.k1}
    completions = {
        name: cache.get(model, model.sampling(options)) for name, model in models.items() if prompts
    }
    scores: dict[str, Mapping[str, list[float]]] = {}
    if options.judge and prompts:
        judge = make_judge(options.judge, context)
        with error_location(context.at("judge")):
            scores["judge"] = {
                name: judge_scores(judge, prompts, own) for name, own in completions.items()
            }
    if scored:
        artifact = state.get("reward")
        with loaded_reward(artifact, options, context, own=state.get("tokenizer")) as scorer:
            if prompts and options.reward_model:
                scores["reward"] = {
                    name: scorer.score(models[name], prompts, own, counter.add)
                    for name, own in completions.items()
                }
            metrics |= _pair_metrics(options, scorer, context, counter)
    if prompts:
        metrics |= _completion_metrics(options, prompts, completions[context.step])
        metrics |= _score_metrics(options, scores, context.step)
        context.samples(_samples(options, prompts, completions, scores, context.step))
    _record(options, metrics, context, reward="reward" in scores)


def _count_rows(
    options: EvaluateOptions,
    own: EvaluatedModel,
    prompts: int,
    context: StepContext,
    *,
    scored: bool,
) -> int:
    """Count the rows of all measurements; a row that several measure counts several times."""
    tokenizer = own.tokenizer
    data = [read_rows(options, option, context, tokenizer) for option in ("conversations", "text")]
    rows = sum(len(prepared.train) for prepared in data if prepared is not None)
    rows += prompts * (1 + len(options.against))
    if options.kl_to:
        extra = own.sampling(options) != own.unmodified_sampling(options)
        rows += prompts * (int(extra) + 1 + len(options.kl_to))
    if scored:
        pairs = read_rows(options, "pairs", context, tokenizer)
        rows += 2 * len(pairs.train) if pairs is not None else 0
        rows += prompts * (1 + len(options.against)) if options.reward_model else 0
    return rows


def _measure_policy(
    options: EvaluateOptions,
    own: EvaluatedModel,
    cache: CompletionCache,
    context: StepContext,
    counter: _RowCounter,
) -> tuple[dict[str, float], list[Tensor]]:
    """Measure the policy's losses, and generate all its completions.

    Returns:
        The losses, and the log-probabilities of its own completions at temperature 1 for `kl_to`.
    """
    metrics: dict[str, float] = {}
    logps: list[Tensor] = []
    with loaded_model(own.policy, options, context, keep=True) as model:
        for option, names in (
            ("conversations", ("eval_loss", "perplexity")),
            ("text", ("text_loss", "text_perplexity")),
        ):
            data = read_rows(options, option, context, own.tokenizer)
            if data is not None:
                rows = MappedRows(data.train, _scored_row)
                found = row_logps(
                    model, rows, batch_size=options.per_device_eval_batch_size, finished=counter.add
                )
                metrics |= dict(zip(names, loss_and_perplexity(found), strict=True))
        if cache.prompts:
            cache.get(own, own.sampling(options), model)
        if options.kl_to:
            completions = cache.get(own, own.unmodified_sampling(options), model)
            logps = _completion_logps(model, completions, options, counter)
    return metrics, logps


def _scored_row(row: SequenceTokens) -> ScoredRow:
    return ScoredRow(tuple(row.input_ids), tuple(row.trained))


def _measure_earlier(
    step: str,
    own: EvaluatedModel,
    own_logps: list[Tensor],
    models: dict[str, EvaluatedModel],
    cache: CompletionCache,
    context: StepContext,
    counter: _RowCounter,
) -> list[Tensor]:
    """Let the model of an earlier step complete the prompts and score the policy's completions.

    It is loaded only if one of the two is new. A model of `against` is added to `models`.

    Returns:
        The model's log-probabilities of the policy's completions at temperature 1.
    """
    options = cache.options
    completes, scores = step in options.against, step in options.kl_to
    compared = earlier_model(step, own, context, same_tokens=False) if completes else own
    scoring = earlier_model(step, own, context, same_tokens=True) if scores else own
    if completes:
        models[step] = compared
    known = not completes or cache.has(compared, compared.sampling(options))
    same = not scores or scoring.policy.hash == own.policy.hash
    if known and same:
        counter.add(len(cache.prompts) * (int(completes) + int(scores)))
        return own_logps
    policy = (compared if completes else scoring).policy
    with loaded_model(policy, options, context, keep=policy.hash == own.policy.hash) as model:
        if completes:
            cache.get(compared, compared.sampling(options), model)
        if not scores:
            return own_logps
        completions = cache.get(own, own.unmodified_sampling(options))
        return _completion_logps(model, completions, options, counter)


def _completion_logps(
    model: Any, completions: Completions, options: EvaluateOptions, counter: _RowCounter
) -> list[Tensor]:
    """Compute the log-probabilities of completions under `model`."""
    rows = [
        ScoredRow(
            (*prompt, *answer.tokens),
            (*(False for _ in prompt), *(True for _ in answer.tokens)),
        )
        for prompt, answer in zip(completions.prompts, completions.answers, strict=True)
    ]
    return row_logps(
        model, rows, batch_size=options.per_device_eval_batch_size, finished=counter.add
    )


def _pair_metrics(
    options: EvaluateOptions, scorer: RewardScorer, context: StepContext, counter: _RowCounter
) -> dict[str, float]:
    data = read_rows(options, "pairs", context, scorer.chat.tokenizer)
    if data is None:
        return {}
    chosen, rejected = (
        scorer.score_rows(
            [[*pair.prompt_ids, *getattr(pair, f"{side}_ids")] for pair in data.train], counter.add
        )
        for side in ("chosen", "rejected")
    )
    margins = [a - b for a, b in zip(chosen, rejected, strict=True)]
    return {"pair_accuracy": win_rate(chosen, rejected), "pair_margin": _mean(margins)}


def _completion_metrics(
    options: EvaluateOptions, prompts: Sequence[Prompt], completions: Completions
) -> dict[str, float]:
    references = [reference_answer(prompt) or "" for prompt in prompts]
    return text_metrics(options.metrics, completions.texts, references) | {
        "length_tokens": _mean([len(answer.tokens) for answer in completions.answers]),
        "ended": _mean([answer.ended for answer in completions.answers]),
    }


def _score_metrics(options: EvaluateOptions, scores: Scores, own: str) -> dict[str, float]:
    metrics: dict[str, float] = {}
    for scorer, by_step in scores.items():
        metrics[scorer] = _mean(by_step[own])
        metrics |= {f"{scorer}_{step}": _mean(by_step[step]) for step in options.against}
    for step in options.against:
        by_step = scores[options.win_rate_scorer]
        metrics[f"win_rate_vs_{step}"] = win_rate(by_step[own], by_step[step])
    return metrics


def _samples(
    options: EvaluateOptions,
    prompts: Sequence[Prompt],
    completions: Mapping[str, Completions],
    scores: Scores,
    own: str,
) -> list[dict[str, Any]]:
    def sample_of(step: str, number: int) -> dict[str, Any]:
        answer = completions[step].answers[number]
        own_scores = {scorer: by_step[step][number] for scorer, by_step in scores.items()}
        text = completions[step].texts[number]
        return {"answer": text, "tokens": len(answer.tokens), "ended": answer.ended, **own_scores}

    samples = []
    for number, prompt in enumerate(prompts[: options.samples]):
        sample: dict[str, Any] = {"prompt": [dict(message) for message in prompt.messages]}
        if (reference := reference_answer(prompt)) is not None:
            sample["reference"] = reference
        sample |= sample_of(own, number)
        if options.against:
            sample["against"] = {step: sample_of(step, number) for step in options.against}
        samples.append(sample)
    return samples


def _record(
    options: EvaluateOptions, metrics: dict[str, float], context: StepContext, *, reward: bool
) -> None:
    wrong = {name: value for name, value in metrics.items() if not math.isfinite(value)}
    if wrong:
        values = ", ".join(f"{name} is {value}" for name, value in wrong.items())
        raise StageError(
            f"metrics are not finite: {values}",
            hint="the model's weights have diverged; train the step before with a lower learning_rate",
        )
    context.record(**{name: metrics[name] for name in metric_names(options, reward=reward)})


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)

"""Take every measure of an evaluate step, each model in memory only while it is needed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from aligner.data.chat import Encoded
from aligner.data.kept import Viewed
from aligner.data.rows import Prompt
from aligner.errors import StageError
from aligner.stage import Run
from aligner.state import ModelState
from aligner_evaluate.likelihood import Marked, distance, loss_and_perplexity, token_logps
from aligner_evaluate.material import prepared, prompts, reference_answer
from aligner_evaluate.metrics import metric_figures
from aligner_evaluate.scores import Scorer, judge_of, judged, reward_in_memory, win_rate
from aligner_evaluate.stage import EvaluateConfig, figures_of
from aligner_evaluate.voices import Answers, Said, Voice, earlier_voice, in_memory, own_voice

Scores = Mapping[str, Mapping[str, list[float]]]
"""By scorer (`judge`, `reward`) and step, one number a prompt."""


@dataclass
class _Counter:
    """How much of the work is done, in rows looked at."""

    run: Run
    total: int
    done: int = 0

    def further(self, rows: int) -> None:
        self.done += rows
        self.run.progress(self.done, self.total, unit="row")


def measure(config: EvaluateConfig, state: ModelState, run: Run) -> None:
    """Measure, and record the figures and samples. Only the first of several processes does.

    Raises:
        StageError: a figure is not a finite number, or a judge breaks its contract.
    """
    if not run.writes:
        return
    own = own_voice(state, run)
    asked = prompts(config, run, own.tokenizer)
    rows = asked[1] if asked else ()
    scored = "reward" in state.filled() and (config.pairs or (rows and config.reward_model))
    count = _Counter(run, _work(config, own, len(rows), run, scored=bool(scored)))
    answers = Answers(rows, config, run.seed, count.further)
    figures, own_logps = _policy(config, own, answers, run, count)
    against: dict[str, Voice] = {}
    for step in dict.fromkeys((*config.against, *config.kl_to)):
        other_logps = _look_back(step, own, own_logps, against, answers, run, count)
        if step in config.kl_to:
            far = distance(own_logps, other_logps)
            figures |= {f"kl_to_{step}": far.k3, f"kl_to_{step}_k1": far.k1}
    said = {
        name: answers.of(voice, voice.sampling(config))
        for name, voice in {run.step: own, **against}.items()
        if rows
    }
    scores: dict[str, Mapping[str, list[float]]] = {}
    if config.judge and rows:
        judge = judge_of(config.judge, run)
        scores["judge"] = {
            name: judged(judge, rows, one, where=run.at("judge")) for name, one in said.items()
        }
    if scored:
        with reward_in_memory(
            state.get("reward"), config, run, own=state.get("tokenizer")
        ) as scorer:
            if rows and config.reward_model:
                speakers = {run.step: own, **against}
                scores["reward"] = {
                    name: scorer.answers(speakers[name], rows, one, count.further)
                    for name, one in said.items()
                }
            figures |= _pairs(config, scorer, run, count)
    if rows:
        figures |= _answer_figures(config, rows, said[run.step])
        figures |= _score_figures(config, scores, run.step)
        run.samples(_samples(config, rows, said, scores, run.step))
    _record(config, figures, run, reward="reward" in scores)


def _work(config: EvaluateConfig, own: Voice, asked: int, run: Run, *, scored: bool) -> int:
    """Rows that will be looked at, those again that several measures look at."""
    tokenizer = own.tokenizer
    kinds = [prepared(config, kind, run, tokenizer) for kind in ("conversations", "text")]
    rows = sum(len(one.train) for one in kinds if one is not None)
    rows += asked * (1 + len(config.against))
    if config.kl_to:
        again = own.sampling(config) != own.own_sampling(config)
        rows += asked * (int(again) + 1 + len(config.kl_to))
    if scored:
        pairs = prepared(config, "pairs", run, tokenizer)
        rows += 2 * len(pairs.train) if pairs is not None else 0
        rows += asked * (1 + len(config.against)) if config.reward_model else 0
    return rows


def _policy(
    config: EvaluateConfig, own: Voice, answers: Answers, run: Run, count: _Counter
) -> tuple[dict[str, float], list[Tensor]]:
    """Losses of the policy, and what it thinks of its own free answers; all its answers are made."""
    figures: dict[str, float] = {}
    logps: list[Tensor] = []
    with in_memory(own, config, run, keep=True) as model:
        for kind, names in (
            ("conversations", ("eval_loss", "perplexity")),
            ("text", ("text_loss", "text_perplexity")),
        ):
            data = prepared(config, kind, run, own.tokenizer)
            if data is not None:
                marked = Viewed(data.train, _marked)
                found = token_logps(
                    model, marked, batch_size=config.batch_size, finished=count.further
                )
                figures |= dict(zip(names, loss_and_perplexity(found), strict=True))
        if answers.rows:
            answers.of(own, own.sampling(config), model)
        if config.kl_to:
            freely = answers.of(own, own.own_sampling(config), model)
            logps = _weigh(model, freely, config, count)
    return figures, logps


def _marked(row: Encoded) -> Marked:
    return Marked(tuple(row.input_ids), tuple(row.trained))


def _look_back(
    step: str,
    own: Voice,
    own_logps: list[Tensor],
    against: dict[str, Voice],
    answers: Answers,
    run: Run,
    count: _Counter,
) -> list[Tensor]:
    """Let the model of an earlier step answer, into `against`, and weigh the policy's free answers."""
    config = answers.config
    speaks, weighs = step in config.against, step in config.kl_to
    heard = earlier_voice(step, own, run, same_tokens=False) if speaks else own
    reads = earlier_voice(step, own, run, same_tokens=True) if weighs else own
    if speaks:
        against[step] = heard
    known = not speaks or answers.known(heard, heard.sampling(config))
    same = not weighs or reads.policy.hash == own.policy.hash
    if known and same:
        count.further(len(answers.rows) * (int(speaks) + int(weighs)))
        return own_logps
    voice = heard if speaks else reads
    keep = voice.policy.hash == own.policy.hash
    with in_memory(voice, config, run, keep=keep) as model:
        if speaks:
            answers.of(heard, heard.sampling(config), model)
        if not weighs:
            return own_logps
        return _weigh(model, answers.of(own, own.own_sampling(config)), config, count)


def _weigh(model: Any, said: Said, config: EvaluateConfig, count: _Counter) -> list[Tensor]:
    """Log-probabilities of what was said, under `model`."""
    marked = [
        Marked(
            (*prompt, *answer.tokens),
            (*(False for _ in prompt), *(True for _ in answer.tokens)),
        )
        for prompt, answer in zip(said.prompts, said.answers, strict=True)
    ]
    return token_logps(model, marked, batch_size=config.batch_size, finished=count.further)


def _pairs(config: EvaluateConfig, scorer: Scorer, run: Run, count: _Counter) -> dict[str, float]:
    data = prepared(config, "pairs", run, scorer.chat.tokenizer)
    if data is None:
        return {}
    chosen = scorer.tokens([[*p.prompt_ids, *p.chosen_ids] for p in data.train], count.further)
    rejected = scorer.tokens([[*p.prompt_ids, *p.rejected_ids] for p in data.train], count.further)
    margins = [a - b for a, b in zip(chosen, rejected, strict=True)]
    return {"pair_accuracy": win_rate(chosen, rejected), "pair_margin": _mean(margins)}


def _answer_figures(config: EvaluateConfig, rows: Sequence[Prompt], said: Said) -> dict[str, float]:
    references = [reference_answer(row) or "" for row in rows]
    return metric_figures(config.metrics, said.texts, references) | {
        "length_tokens": _mean([len(answer.tokens) for answer in said.answers]),
        "ended": _mean([answer.ended for answer in said.answers]),
    }


def _score_figures(config: EvaluateConfig, scores: Scores, own: str) -> dict[str, float]:
    figures: dict[str, float] = {}
    for scorer, by_step in scores.items():
        figures[scorer] = _mean(by_step[own])
        figures |= {f"{scorer}_{step}": _mean(by_step[step]) for step in config.against}
    for step in config.against:
        deciding = scores[config.decides]
        figures[f"win_rate_vs_{step}"] = win_rate(deciding[own], deciding[step])
    return figures


def _samples(
    config: EvaluateConfig,
    rows: Sequence[Prompt],
    said: Mapping[str, Said],
    scores: Scores,
    own: str,
) -> list[dict[str, Any]]:
    def shown(name: str, row: int) -> dict[str, Any]:
        answer = said[name].answers[row]
        given = {scorer: by_step[name][row] for scorer, by_step in scores.items()}
        text = said[name].texts[row]
        return {"answer": text, "tokens": len(answer.tokens), "ended": answer.ended, **given}

    samples = []
    for number, row in enumerate(rows[: config.samples]):
        sample: dict[str, Any] = {"prompt": [dict(message) for message in row.messages]}
        if (reference := reference_answer(row)) is not None:
            sample["reference"] = reference
        sample |= shown(own, number)
        if config.against:
            sample["against"] = {step: shown(step, number) for step in config.against}
        samples.append(sample)
    return samples


def _record(config: EvaluateConfig, figures: dict[str, float], run: Run, *, reward: bool) -> None:
    wrong = {name: value for name, value in figures.items() if not math.isfinite(value)}
    if wrong:
        said = ", ".join(f"{name} is {value}" for name, value in wrong.items())
        raise StageError(
            f"what was measured is no number: {said}",
            where=run.where,
            hint="the model's weights have diverged; train the step before with a lower learning_rate",
        )
    run.record(**{name: figures[name] for name in figures_of(config, reward=reward)})


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)

"""The stage in chains of real tiny models, its metrics against independent computations."""

from __future__ import annotations

import gc
import json
import math
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)

import aligner
from aligner.chain import StepProgress
from aligner.errors import GateError, StageError
from aligner.models.generate import Sampling, generate
from aligner.models.load import load_model
from aligner_evaluate import models

from .conftest import conversation, pair, prompt

ALL = """
- {stage: shake, as: first, by: 0.02}
- {stage: head}
- {stage: shake, as: second, by: 0.05}
- stage: evaluate
  prompts: prompts.jsonl
  conversations: conversations.jsonl
  text: {path: text.txt, documents: paragraph}
  pairs: pairs.jsonl
  judge: {name: count, options: {letter: o}}
  against: [model, first]
  kl_to: [model, first]
  metrics: [exact_match, distinct_1]
  max_new_tokens: 8
"""


def test_exactly_the_planned_metrics_are_recorded(
    go: Callable[..., Any], check: Callable[..., Any]
) -> None:
    planned = check(ALL).plans[-1]
    metrics = go(ALL).evaluate
    assert set(metrics) == planned.metrics
    assert set(metrics) == {
        "eval_loss", "perplexity", "text_loss", "text_perplexity", "pair_accuracy", "pair_margin",
        "judge", "judge_model", "judge_first", "reward", "reward_model", "reward_first",
        "win_rate_vs_model", "win_rate_vs_first", "kl_to_model", "kl_to_model_k1", "kl_to_first",
        "kl_to_first_k1", "exact_match", "distinct_1", "length_tokens", "ended",
    }  # fmt: skip
    assert (planned.rows, planned.summary) == (
        34,
        "measure on 12 conversations, 3 text, 10 pairs, 9 prompts; judge count; "
        "against model and first; KL to model and first",
    )


def plain_answers(folder: Path, words: Path, rows: list[Any]) -> list[tuple[list[int], list[int]]]:
    """Prompt and greedy answer of each row, by transformers alone."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), words_of(words)
    answers = []
    for row in rows:
        ids = tokenizer.apply_chat_template(
            row["prompt"], add_generation_prompt=True, return_tensors="pt", return_dict=False
        )
        stops = [tokenizer.convert_tokens_to_ids("<|end|>"), tokenizer.eos_token_id]
        out = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=8,
            do_sample=False,
            eos_token_id=stops,
        )
        answers.append((ids[0].tolist(), out[0, ids.shape[1] :].tolist()))
    return answers


def words_of(folder: Path) -> Any:
    return AutoTokenizer.from_pretrained(folder)


def mean(values: list[Any]) -> float:
    return sum(map(float, values)) / len(values)


def plain_logps(model: Any, prompt_ids: list[int], answer: list[int]) -> torch.Tensor:
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([prompt_ids + answer])).logits[0].double()
    logps = logits.log_softmax(-1)[len(prompt_ids) - 1 : -1]
    return logps.gather(1, torch.tensor(answer)[:, None])[:, 0]


def test_every_metric_equals_what_the_libraries_compute(
    go: Callable[..., Any], model_folder: Path
) -> None:
    ran = go(ALL)
    metrics, outcome = ran.evaluate, ran.outcome
    folders = {item.step: item.folder for item in outcome.steps}
    words = folders["second"] / "tokenizer"
    tokenizer, policy = (
        words_of(words),
        AutoModelForCausalLM.from_pretrained(folders["second"] / "policy"),
    )
    near = {"abs": 1e-4, "rel": 1e-4}

    losses = []
    for number in range(12):
        whole = tokenizer.apply_chat_template(
            conversation(number)["messages"], return_dict=True, return_assistant_tokens_mask=True
        )
        start = whole["assistant_masks"].index(1)
        losses.append(plain_logps(policy, whole["input_ids"][:start], whole["input_ids"][start:]))
    loss = -float(torch.cat(losses).mean())
    assert metrics["eval_loss"] == pytest.approx(loss, **near)
    assert metrics["perplexity"] == pytest.approx(math.exp(loss), **near)

    losses = []
    for text in ("one two three red", "sun moon cat dog", "blue"):
        ids = tokenizer(text)["input_ids"] + [tokenizer.eos_token_id]
        assert ids[0] == tokenizer.bos_token_id
        losses.append(plain_logps(policy, ids[:1], ids[1:]))
    assert metrics["text_loss"] == pytest.approx(-float(torch.cat(losses).mean()), **near)

    asked = [prompt(number) for number in range(20, 29)]
    completions = {
        "own": plain_answers(folders["second"] / "policy", words, asked),
        "model": plain_answers(model_folder, model_folder, asked),
        "first": plain_answers(folders["first"] / "policy", words, asked),
    }
    texts = {
        name: [tokenizer.decode(a, skip_special_tokens=True) for _, a in answers]
        for name, answers in completions.items()
    }
    end = tokenizer.convert_tokens_to_ids("<|end|>")
    ended = {
        name: [a[-1] in (end, tokenizer.eos_token_id) for _, a in answers]
        for name, answers in completions.items()
    }
    judge = {
        name: [t.count("o") - (not e) for t, e in zip(texts[name], ended[name], strict=True)]
        for name in completions
    }
    assert metrics["length_tokens"] == mean([len(answer) for _, answer in completions["own"]])
    assert metrics["ended"] == mean(ended["own"])
    assert metrics["judge"] == pytest.approx(mean(judge["own"]))
    assert metrics["judge_first"] == pytest.approx(mean(judge["first"]))
    assert metrics["judge_model"] == pytest.approx(mean(judge["model"]))
    for name in ("model", "first"):
        wins = [
            1.0 if a > b else 0.5 if a == b else 0.0
            for a, b in zip(judge["own"], judge[name], strict=True)
        ]
        assert metrics[f"win_rate_vs_{name}"] == pytest.approx(mean(wins))

    scorer = AutoModelForSequenceClassification.from_pretrained(folders["head"] / "reward")

    def score(ids: list[int]) -> float:
        with torch.no_grad():
            return float(scorer(input_ids=torch.tensor([ids])).logits)

    for name, metric in (("own", "reward"), ("first", "reward_first"), ("model", "reward_model")):
        expected = mean([score(p + a) for p, a in completions[name]])
        assert metrics[metric] == pytest.approx(expected, **near)
    margins = []
    for number in range(30, 40):
        row = pair(number)
        sides = [
            tokenizer.apply_chat_template(row["prompt"] + row[side], return_dict=False)
            for side in ("chosen", "rejected")
        ]
        margins.append(score(sides[0]) - score(sides[1]))
    assert metrics["pair_accuracy"] == mean([margin > 0 for margin in margins])
    assert metrics["pair_margin"] == pytest.approx(mean(margins), **near)

    free = generate(
        policy,
        [p for p, _ in completions["own"]],
        sampling=Sampling(
            stop_tokens=(end, tokenizer.eos_token_id), max_new_tokens=8, temperature=1.0
        ),
        seed=3,
    )
    for name, folder in (("model", model_folder), ("first", folders["first"] / "policy")):
        other = AutoModelForCausalLM.from_pretrained(folder)
        ratio = torch.cat(
            [
                plain_logps(other, p, list(answer.tokens))
                - plain_logps(policy, p, list(answer.tokens))
                for (p, _), answer in zip(completions["own"], free, strict=True)
            ]
        )
        assert metrics[f"kl_to_{name}_k1"] == pytest.approx(-float(ratio.mean()), **near)
        k3 = float((ratio.exp() - 1 - ratio).mean())
        assert metrics[f"kl_to_{name}"] == pytest.approx(k3, **near)

    kept = (folders["evaluate"] / "samples.jsonl").read_text()
    samples = [json.loads(line) for line in kept.splitlines()]
    assert len(samples) == 9
    assert samples[0] == {
        "prompt": asked[0]["prompt"],
        "reference": asked[0]["answer"],
        "answer": texts["own"][0],
        "tokens": len(completions["own"][0][1]),
        "ended": ended["own"][0],
        "judge": judge["own"][0],
        "reward": pytest.approx(
            score([*completions["own"][0][0], *completions["own"][0][1]]), **near
        ),
        "against": {
            name: {
                "answer": texts[name][0],
                "tokens": len(completions[name][0][1]),
                "ended": ended[name][0],
                "judge": judge[name][0],
                "reward": pytest.approx(
                    score([*completions[name][0][0], *completions[name][0][1]]), **near
                ),
            }
            for name in ("model", "first")
        },
    }


class Watcher:
    """Record the models in memory before and after an evaluate step."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    @aligner.hookimpl
    def aligner_step_started(self, context: Any, state: Any) -> None:
        self._look(context, state)

    @aligner.hookimpl
    def aligner_step_finished(self, context: Any, before: Any, after: Any) -> None:
        self._look(context, after)

    def _look(self, context: Any, state: Any) -> None:
        if "evaluate" not in context.step:
            return
        for slot in ("policy", "reward"):
            model = context.model_cache.take(state.get(slot))
            context.model_cache.keep(state.get(slot), model)
            self.seen.append(
                (
                    {name: item.clone() for name, item in model.state_dict().items()},
                    [item.training for item in model.modules()],
                    model.config.to_dict(),
                    model.generation_config.to_dict() if slot == "policy" else None,
                    [
                        len(item._forward_hooks) + len(item._forward_pre_hooks)
                        for item in model.modules()
                    ],
                    sorted(model.__dict__),
                    [item.grad is None for item in model.parameters()],
                )
            )


def test_it_changes_neither_the_policy_nor_the_reward_model(
    go: Callable[..., Any], host: Any
) -> None:
    watcher = Watcher()
    host.add(watcher, name="watcher")
    go(ALL)
    policy, reward, policy_after, reward_after = watcher.seen
    for before, after in ((policy, policy_after), (reward, reward_after)):
        assert before[0].keys() == after[0].keys()
        assert all(torch.equal(item, after[0][name]) for name, item in before[0].items())
        assert before[1:] == after[1:]


TRAINED = """
- {{stage: sft, as: one, data: conversations.jsonl, learning_rate: 0.01{adapter}}}
{middle}
- {{stage: sft, as: two, data: conversations.jsonl, learning_rate: 0.01}}
"""
MIDDLE = """
- {stage: evaluate, prompts: prompts.jsonl, conversations: conversations.jsonl, temperature: 1,
   max_new_tokens: 6, kl_to: model, against: [model, one], judge: count}
"""


@pytest.mark.parametrize("adapter", ["", ", adapter: {r: 2}"])
def test_the_step_after_it_is_the_same_as_without_it(go: Callable[..., Any], adapter: str) -> None:
    with_it = go(TRAINED.format(adapter=adapter, middle=MIDDLE), runs="with").outcome
    without = go(TRAINED.format(adapter=adapter, middle=""), runs="without").outcome
    assert with_it.state.policy.hash == without.state.policy.hash
    assert with_it.steps[1].metrics["win_rate_vs_one"] == 0.5
    assert with_it.steps[1].metrics["kl_to_model"] > 0


def test_each_model_generates_once_and_earlier_ones_are_freed_at_once(
    go: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []
    loaded: list[weakref.ref[Any]] = []
    alive: list[int] = []

    def generate_once(model: Any, prompts: Any, *, sampling: Sampling, **rest: Any) -> Any:
        asked.append(sampling.temperature)
        return generate(model, prompts, sampling=sampling, **rest)

    def load_one(*arguments: Any, **options: Any) -> Any:
        gc.collect()
        alive.append(sum(item() is not None for item in loaded))
        model = load_model(*arguments, **options)
        loaded.append(weakref.ref(model))
        return model

    monkeypatch.setattr(models, "generate", generate_once)
    monkeypatch.setattr(models, "load_model", load_one)
    steps = """
- {stage: shake, as: first}
- {stage: shake, as: second}
- stage: evaluate
  prompts: prompts.jsonl
  judge: count
  temperature: 1
  against: [model, first, second]
  kl_to: [model, first, second]
  max_new_tokens: 4
"""
    metrics = go(steps).evaluate
    # The policy, which `second` made, the start, and `first`.
    assert asked == [1.0, 1.0, 1.0]
    # The policy stays in memory for the next step; each other model is freed before the next loads.
    assert alive == [0, 1, 1]
    assert metrics["win_rate_vs_second"] == 0.5
    assert (metrics["kl_to_second"], metrics["kl_to_second_k1"]) == (0, 0)


def test_metrics_do_not_depend_on_the_batch_size(go: Callable[..., Any]) -> None:
    item = go(ALL + "  per_device_eval_batch_size: 1\n", runs="one").evaluate
    many = go(ALL + "  per_device_eval_batch_size: 50\n", runs="many").evaluate
    assert item == pytest.approx(many, abs=1e-4)


def test_progress_increases_and_ends_at_the_total(go: Callable[..., Any]) -> None:
    reports = [e.progress for e in go(ALL).events if isinstance(e, StepProgress)]
    assert {report.unit for report in reports} == {"row"}
    assert [report.done for report in reports] == sorted(report.done for report in reports)
    # 12 + 3 rows of text, 2 x 10 sides of pairs; 9 prompts: completed by 3 models and at temperature 1,
    # scored by 3 models and by the reward model for 3.
    assert (reports[-1].done, reports[-1].total) == (125, 125)


def test_a_gate_on_a_metric_stops_the_chain(go: Callable[..., Any]) -> None:
    steps = """
- stage: evaluate
  prompts: prompts.jsonl
  max_new_tokens: 4
  gate: {ended: ">= 1.1"}
"""
    with pytest.raises(GateError, match=r"ended is 0.*, not"):
        go(steps)


def test_metrics_that_are_not_finite_are_an_error(go: Callable[..., Any], desk: Path) -> None:
    steps = """
- {stage: shake, blow_up: true}
- {stage: evaluate, conversations: conversations.jsonl}
"""
    with pytest.raises(StageError) as caught:
        go(steps)
    assert str(caught.value) == (
        f"{desk}/mine.yaml:6: metrics are not finite: eval_loss is nan, perplexity is nan\n"
        "  hint: the model's weights have diverged; train the step before with a lower learning_rate"
    )


def test_scores_of_a_judge_that_are_not_finite_are_an_error(
    go: Callable[..., Any], desk: Path
) -> None:
    steps = """
- stage: evaluate
  prompts: prompts.jsonl
  max_new_tokens: 2
  judge: broken
"""
    with pytest.raises(StageError) as caught:
        go(steps)
    assert str(caught.value) == (
        f"{desk}/mine.yaml:8: judge 'broken' returned 9 scores for 9 completions, 0 of them finite\n"
        "  hint: a reward function must return one finite number per completion"
    )


def test_text_is_measured_before_there_is_a_chat_template(go: Callable[..., Any]) -> None:
    steps = """
- {stage: shake, template: false}
- {stage: evaluate, text: {path: text.txt, documents: paragraph}}
"""
    assert set(go(steps).evaluate) == {"text_loss", "text_perplexity"}

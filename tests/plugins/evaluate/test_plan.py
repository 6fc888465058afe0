"""Plans of evaluate, and the whole text of every error that is found before loading."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aligner.errors import AlignerError
from aligner.run.fingerprint import determining_options
from aligner_evaluate.options import EvaluateOptions, metric_names
from aligner_evaluate.stage import Evaluate

from .conftest import conversation, lines, prompt


def error(check: Callable[..., Any], steps: str, **more: Any) -> str:
    with pytest.raises(AlignerError) as caught:
        check(steps, **more)
    return str(caught.value)


def test_all_errors_are_reported_at_once(check: Callable[..., Any], desk: Path) -> None:
    lines(desk / "bare.jsonl", [{"prompt": "say one"}, {"prompt": "say two", "answer": "two"}])
    steps = """
- {stage: shake, as: plain, template: false, words: [extra]}
- {stage: shake, as: wide, words: [another]}
- stage: evaluate
  prompts: bare.jsonl
  conversations: absent.jsonl
  judge: cuont
  metrics: [exact_match, repetition]
  against: [plain, wide, wdie]
  kl_to: [model, wide]
  max_new_tokens: 60
  attn_implementation: flash_attention_2
"""
    mine = f"{desk}/mine.yaml"
    assert error(check, steps).splitlines() == [
        f"{mine}:7: step 'evaluate' reads the state of 'wdie', which is not an earlier step",
        "  hint: did you mean 'wide'?",
        f"{mine}:9: no file or folder 'absent.jsonl'",
        "  hint: did you mean 'bare.jsonl'?",
        f"{mine}:11: metrics exact_match need a reference answer, and 1 of 2 prompts have none: "
        "bare.jsonl:1",
        "  hint: reference answers are in the column `answer`; rename one with "
        "`columns: {NAME: answer}`",
        f"{mine}:12: the tokenizer after 'plain' has no chat template, so its model cannot be prompted",
        "  hint: name a later step, such as the chat step that sets one",
        f"{mine}:13: the tokenizer after 'model' has other tokens than the policy's, so its model "
        "assigns no probability to the policy's completions",
        "  hint: name a step after the last change of tokens, such as the chat step",
        f"{mine}:14: the longest prompt has 8 tokens, and with 60 new tokens it exceeds the "
        "64 positions of the policy",
        "  hint: set max_new_tokens to 56 or less, or max_length to 4",
        f"{mine}:15: `attn_implementation: flash_attention_2` needs a CUDA GPU",
        "  hint: remove `attn_implementation`: auto is sdpa",
        f"{mine}:10: no installed plugin offers the reward function 'cuont' for `judge`",
        "  hint: did you mean 'count'?",
    ]


def test_a_win_rate_needs_a_judge_or_a_reward_model(check: Callable[..., Any], desk: Path) -> None:
    message = error(
        check, "- {stage: evaluate, prompts: prompts.jsonl, max_new_tokens: 4, against: model}\n"
    )
    assert message == (
        f"{desk}/mine.yaml:4: win rates need scores, but there is neither a judge nor a reward model\n"
        "  hint: name a `judge`, or add a step before this one that fills the reward slot"
    )


def test_pairs_need_a_reward_model(check: Callable[..., Any], desk: Path) -> None:
    message = error(check, "- {stage: evaluate, pairs: pairs.jsonl}\n")
    assert message == (
        f"{desk}/mine.yaml:4: step 'evaluate' requires 'reward', and nothing before it fills that slot\n"
        "  hint: put a step before it that fills 'reward': head"
    )


def test_the_options_of_a_judge_are_checked(check: Callable[..., Any], desk: Path) -> None:
    steps = """
- stage: evaluate
  prompts: prompts.jsonl
  max_new_tokens: 4
  judge:
    name: count
    options: {leter: e}
"""
    assert error(check, steps) == (
        f"{desk}/mine.yaml:10: judge 'count' has no option 'leter'\n  hint: did you mean 'letter'?"
    )


def test_completions_beyond_the_positions_are_refused(
    check: Callable[..., Any], desk: Path
) -> None:
    steps = "- {stage: evaluate, prompts: prompts.jsonl, max_new_tokens: 60}\n"
    message = error(check, steps)
    assert message == (
        f"{desk}/mine.yaml:4: the longest prompt has 14 tokens, and with 60 new tokens it exceeds the "
        "64 positions of the policy\n"
        "  hint: set max_new_tokens to 50 or less, or max_length to 4"
    )


def test_rows_longer_than_the_model_are_refused(check: Callable[..., Any], desk: Path) -> None:
    long = conversation(0)
    long["messages"][0]["content"] = "moon " * 80
    lines(desk / "conversations.jsonl", [long])
    message = error(check, "- {stage: evaluate, conversations: conversations.jsonl}\n")
    assert message == (
        f"{desk}/mine.yaml:4: the longest row of conversations has 409 tokens, but the policy has 64 "
        "positions\n  hint: set max_length to 64 or less"
    )


def test_a_gate_on_what_is_not_measured_is_refused(check: Callable[..., Any], desk: Path) -> None:
    steps = """
- stage: evaluate
  prompts: prompts.jsonl
  max_new_tokens: 4
  gate: {jugde: ">= 1"}
"""
    assert error(check, steps) == (
        f"{desk}/mine.yaml:8: step 'evaluate' has a gate on 'jugde', which it does not compute\n"
        "  hint: known: ended, length_tokens"
    )


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("", "there is nothing to evaluate on: give prompts, conversations, text or pairs"),
        ("text: text.txt, judge: count, kl_to: model", "judge and kl_to need completions: give prompts"),
        ("prompts: prompts.jsonl, compare_by: judge", "compare_by: judge needs a judge"),
        (
            "prompts: prompts.jsonl, against: model, reward_model: false",
            "against needs scores: give a judge, or leave reward_model true",
        ),
        (
            "text: {path: text.txt, weight: 2}",
            "weight applies to training data only, not to text",
        ),
        (
            "prompts: {path: prompts.jsonl, augment: {swap: 0.1}}",
            "augment applies to training data only, not to prompts",
        ),
    ],
)  # fmt: skip
def test_options_that_do_not_go_together_are_refused(
    check: Callable[..., Any], desk: Path, options: str, expected: str
) -> None:
    message = error(check, f"- {{stage: evaluate, {options}}}\n")
    assert message == f"{desk}/mine.yaml:4: stage 'evaluate': {expected}"


def test_what_is_required_used_and_looked_back_at_follows_from_the_options() -> None:
    def stage(**options: Any) -> Evaluate:
        return Evaluate(EvaluateOptions(**options))

    plain = stage(text="t")
    assert (plain.requires, plain.uses) == ({"policy", "tokenizer"}, frozenset())
    asked = stage(prompts="p", judge="j", against=["model", "a"], kl_to=["a", "b"])
    assert (asked.requires, asked.uses) == ({"policy", "tokenizer"}, {"reward"})
    assert asked.earlier_steps == ("model", "a", "b")
    assert stage(prompts="p", reward_model=False).uses == frozenset()
    assert stage(pairs="p").requires == {"policy", "tokenizer", "reward"}
    assert stage(prompts="p").provides == frozenset()


def test_figures_are_named_in_the_order_of_the_table() -> None:
    config = EvaluateOptions(prompts="p", judge="j", against="a", metrics=["rouge_l"])
    assert list(metric_names(config, reward=True)) == [
        "judge", "reward", "win_rate_vs_a", "judge_a", "reward_a", "rouge_l", "length_tokens", "ended",
    ]  # fmt: skip
    assert list(metric_names(EvaluateOptions(text="t"), reward=True)) == [
        "text_loss",
        "text_perplexity",
    ]


def test_the_batch_size_does_not_determine_the_figures() -> None:
    options = EvaluateOptions(text="t")
    assert EvaluateOptions.model_fields.keys() - determining_options(options).keys() == {
        "per_device_eval_batch_size"
    }


def test_declaring_the_stage_loads_nothing_heavy() -> None:
    code = (
        "import sys, aligner_evaluate; "
        "print([m for m in ('torch', 'transformers', 'datasets', 'evaluate') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_conversations_serve_as_prompts_with_their_last_answer_as_the_reference(
    check: Callable[..., Any],
) -> None:
    steps = """
- stage: evaluate
  prompts: conversations.jsonl
  metrics: token_f1
  max_new_tokens: 4
"""
    plan = check(steps).plans[-1]
    assert plan.rows == 12
    assert plan.metrics == {"token_f1", "length_tokens", "ended"}
    assert list(plan.data) == list(plan.ledgers) == ["prompts"]
    assert prompt(0)["answer"] == conversation(0)["messages"][1]["content"]

"""A model of the chain as judge: the log-odds of yes to no at the start of its reply."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from aligner.api import Recipe
from aligner.data.encoding.tokenizers import load_tokenizer
from aligner.errors import AlignerError
from aligner.models.load import load_model
from aligner.registry import Completion
from aligner.state import ModelCache
from aligner.testing import tiny_model, tiny_tokenizer
from aligner_annotate.judge import Judge, JudgeEncoder
from aligner_annotate.options import JudgeOptions

from .conftest import rows

Make = Callable[..., Recipe]
PROMPT = ({"role": "user", "content": "which cat {answer}?"},)

JUDGED = """\
  - stage: annotate
    prompts: prompts.jsonl
    judge: {question: "{prompt} so {answer} ok", yes: happy, no: sad}
    ended_only: false
    max_new_tokens: 6
"""


def judge_options(**options: str) -> JudgeOptions:
    return JudgeOptions(
        **({"question": "{prompt} is {answer} ok", "yes": "happy", "no": "sad"} | options)
    )


def test_the_score_is_the_log_odds_of_yes_against_no_by_hand() -> None:
    """Each question alone, written out, through the model's own forward and a softmax."""
    tokenizer, model = tiny_tokenizer(), tiny_model().eval()
    judge = Judge(model, JudgeEncoder(judge_options(), tokenizer), batch_size=2)
    texts = ["the big dog sleeps", "a", "red"]
    scores = judge.score([Completion(prompt=PROMPT, text=text) for text in texts])
    for text, score in zip(texts, scores, strict=True):
        question = f"<|user|>which cat {{answer}}? is {text} ok<|end|><|assistant|>"
        ids = tokenizer(question, add_special_tokens=False)["input_ids"]
        yes, no = (
            tokenizer(word, add_special_tokens=False)["input_ids"][0] for word in ("happy", "sad")
        )
        with torch.no_grad():
            logps_V = torch.log_softmax(model(torch.tensor([ids])).logits[0, -1], -1)
        assert score == pytest.approx(float(logps_V[yes] - logps_V[no]), abs=1e-5)
    assert len(set(scores)) == 3


def test_several_turns_are_shown_with_their_roles() -> None:
    tokenizer = tiny_tokenizer()
    turns = ({"role": "system", "content": "be sad"}, *PROMPT)
    [ids] = JudgeEncoder(judge_options(), tokenizer).encode([(turns, "no")])
    assert tokenizer.decode(ids) == (
        "<|user|>system: be sad\n\nuser: which cat {answer}? is no ok<|end|><|assistant|>"
    )


def test_equal_words_for_yes_and_no_are_refused() -> None:
    with pytest.raises(AlignerError) as error:
        JudgeEncoder(judge_options(yes="same", no="same"), tiny_tokenizer())
    assert str(error.value) == (
        "'same' and 'same' are the same tokens in the judge's template\n"
        "  hint: choose other words for `judge.yes` and `judge.no`"
    )


def test_the_policy_judges_its_own_answers_or_an_earlier_model_does(
    recipe: Make, tmp_path: Path
) -> None:
    dpo = "  - stage: dpo\n    data: {step: annotate}\n    max_steps: 3\n    learning_rate: 1e-2\n"
    again = JUDGED.replace("no: sad}", "no: sad, of: model, weight: 2}") + "    as: again\n"
    result = recipe(JUDGED + dpo + again).run(runs=tmp_path / "runs", show=False)
    start = result["annotate"].state
    model = load_model(start.policy, ModelCache()).eval()
    encoder = JudgeEncoder(
        JudgeOptions(question="{prompt} so {answer} ok", yes="happy", no="sad"),
        load_tokenizer(start.tokenizer, ModelCache()),
    )
    judge = Judge(model, encoder, batch_size=8)
    for name, weight in (("annotate", 1), ("again", 2)):
        for sample in rows(Path(result[name].folder), "answers.jsonl"):
            completions = [
                Completion(prompt=tuple(sample["prompt"]), text=answer["answer"])
                for answer in sample["answers"]
            ]
            odds = judge.score(completions)
            assert [a["scores"]["judge"] for a in sample["answers"]] == pytest.approx(
                odds, abs=1e-4
            )
            assert [a["score"] for a in sample["answers"]] == pytest.approx(
                [weight * number for number in odds], abs=1e-3
            )
    assert "reward_judge" in result["annotate"].metrics
    plan = recipe(JUDGED + dpo + again).check(runs=tmp_path / "runs").plans
    assert "score by the policy as judge, " in plan["annotate"].summary
    assert "score by model's policy as judge × 2, " in plan["again"].summary


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("{prompt} so {answer}", "{answer} so {prompt}",
         "6: judge.question: write {prompt} and after it {answer}, each once"),
        ("no: sad}", "no: sad, of: chat}",
         "4: step 'annotate' reads the state of 'chat', which is not an earlier step\n"
         "  hint: known: model"),
        ("max_new_tokens: 6", "max_new_tokens: 84",
         "6: the longest question to the judge has 16 tokens and a completion up to 84, but the "
         "judge has 96 positions\n  hint: shorten the question, or lower max_new_tokens"),
        ("no: sad}", "no: happy}",
         "6: 'happy' and 'happy' are the same tokens in the judge's template\n"
         "  hint: choose other words for `judge.yes` and `judge.no`"),
    ],
)  # fmt: skip
def test_an_impossible_judge_is_refused(
    recipe: Make, tmp_path: Path, old: str, new: str, message: str
) -> None:
    with pytest.raises(AlignerError) as error:
        recipe(JUDGED.replace(old, new)).check(runs=tmp_path / "runs")
    assert str(error.value) == f"{tmp_path}/recipe.yaml:{message}"

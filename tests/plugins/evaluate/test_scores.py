"""Tokenizers of earlier models, and scores of completions."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, LlamaForSequenceClassification

from aligner.data.encoding.chat import ChatEncoder
from aligner.data.encoding.tokenizers import tokenizer_hash, train_tokenizer
from aligner.data.rows import Prompt
from aligner.errors import ModelError, error_location
from aligner.models.generate import Answer
from aligner.state import Artifact
from aligner_evaluate.models import Completions, EvaluatedModel, choose_tokenizer
from aligner_evaluate.scores import RewardScorer, win_rate

from .conftest import ROLES, TEMPLATE, WORDS, conversation


def test_ties_count_half() -> None:
    """Won, lost, tied, tied: (1 + 0 + 1/2 + 1/2) / 4 = 1/2. Won, won, tied: 5/6."""
    assert win_rate([2, 1, 3, 0], [1, 2, 3, 0]) == 0.5
    assert win_rate([2, 2, 0], [1, 1, 0]) == pytest.approx(5 / 6)


@pytest.fixture
def tokenizer(model_folder: Path) -> Any:
    return AutoTokenizer.from_pretrained(model_folder)


def changed(tokenizer: Any, *, template: bool = True, words: list[str] | None = None) -> Any:
    made = copy.deepcopy(tokenizer)
    made.add_tokens(words or [])
    made.chat_template = TEMPLATE if template else None
    return made


def choose(tokenizer: Any, own: Any, *, same_tokens: bool) -> Any:
    with error_location("r.yaml:3"):
        return choose_tokenizer(tokenizer, own, step="base", same_tokens=same_tokens)


def test_an_earlier_model_is_prompted_through_its_own_tokenizer_if_that_has_a_template(
    tokenizer: Any,
) -> None:
    other, bare = changed(tokenizer, words=["extra"]), changed(tokenizer, template=False)
    assert choose(other, tokenizer, same_tokens=False) is other
    assert choose(bare, tokenizer, same_tokens=False) is tokenizer
    assert choose(bare, tokenizer, same_tokens=True) is tokenizer
    assert choose(changed(tokenizer), tokenizer, same_tokens=True) is tokenizer


def test_an_earlier_model_that_cannot_be_prompted_is_refused(tokenizer: Any) -> None:
    with pytest.raises(ModelError) as caught:
        choose(None, tokenizer, same_tokens=False)
    assert str(caught.value) == (
        "r.yaml:3: policy and tokenizer are not both filled after 'base', so there is no model to prompt\n"
        "  hint: name a step after the one that fills them"
    )


def rows() -> list[Prompt]:
    return [
        Prompt(messages=tuple(conversation(n)["messages"][:1]), row={}, origin=f"p:{n}")
        for n in range(5)
    ]


def scorer(tokenizer: Any, *, pad_to: int = 64) -> RewardScorer:
    from transformers import LlamaConfig

    torch.manual_seed(1)
    model = LlamaForSequenceClassification(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_labels=1,
            initializer_range=0.4,
            max_position_embeddings=pad_to,
            pad_token_id=tokenizer.pad_token_id,
        )
    ).eval()
    chat = ChatEncoder(tokenizer)
    return RewardScorer(
        model=model, chat=chat, tokenizer_hash=tokenizer_hash(tokenizer), batch_size=2
    )


def completions_of(tokenizer: Any, evaluated: EvaluatedModel) -> Completions:
    """Return five completions in the tokens of `evaluated`; the last two are truncated."""
    end = tokenizer.convert_tokens_to_ids("<|end|>")
    prompts = [
        evaluated.chat.encode([evaluated.chat.prompt(row.messages)])[0].input_ids for row in rows()
    ]
    answers = []
    for number in range(5):
        ids = tokenizer(WORDS[number], add_special_tokens=False)["input_ids"]
        ended = number < 3
        answers.append(Answer(tokens=(*ids, *([end] if ended else [])), ended=ended))
    return Completions(prompts=prompts, answers=answers, texts=list(WORDS[:5]))


def test_completions_are_tokenized_again_for_a_reward_model_with_another_tokenizer(
    tokenizer: Any,
) -> None:
    """The same texts in the tokens of another tokenizer get the same scores."""
    judge = scorer(tokenizer)
    other_tokenizer = train_tokenizer(["dog moon sun cat"] * 9, 280, special=ROLES[::-1])
    other_tokenizer.chat_template = TEMPLATE
    same, other = (
        EvaluatedModel(
            step="a",
            policy=Artifact(path="a"),
            tokenizer=own,
            tokenizer_hash=tokenizer_hash(own),
        )
        for own in (tokenizer, other_tokenizer)
    )
    counts: list[int] = []
    own = completions_of(tokenizer, same)
    others = completions_of(other_tokenizer, other)
    assert own.prompts != others.prompts
    direct = judge.score(same, rows(), own, counts.append)
    again = judge.score(other, rows(), others, counts.append)
    assert direct == pytest.approx(again, abs=1e-6)
    assert counts == [2, 2, 1, 2, 2, 1]
    for score, prompt, answer in zip(direct, own.prompts, own.answers, strict=True):
        with torch.no_grad():
            alone = judge.model(input_ids=torch.tensor([[*prompt, *answer.tokens]])).logits
        assert score == pytest.approx(float(alone), abs=1e-5)
    # The stop token changes the score, so a truncated completion must be scored without it.
    end = tokenizer.convert_tokens_to_ids("<|end|>")
    as_if_ended = judge.score_rows([[*own.prompts[4], *own.answers[4].tokens, end]])[0]
    assert abs(as_if_ended - direct[4]) > 1e-3

"""Who is asked through which tokenizer, and how answers are scored."""

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
from aligner.errors import ModelError
from aligner.models.generate import Answer
from aligner.state import Artifact
from aligner_evaluate.scores import Scorer, win_rate
from aligner_evaluate.voices import Completions, EvaluatedModel, spoken_through

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


def through(tokenizer: Any, own: Any, *, same_tokens: bool) -> Any:
    return spoken_through(tokenizer, own, step="base", same_tokens=same_tokens, where="r.yaml:3")


def test_an_earlier_model_is_asked_through_its_own_tokenizer_where_that_can_ask(
    tokenizer: Any,
) -> None:
    other, bare = changed(tokenizer, words=["extra"]), changed(tokenizer, template=False)
    assert through(other, tokenizer, same_tokens=False) is other
    assert through(bare, tokenizer, same_tokens=False) is tokenizer
    assert through(bare, tokenizer, same_tokens=True) is tokenizer
    assert through(changed(tokenizer), tokenizer, same_tokens=True) is tokenizer


def test_an_earlier_model_that_cannot_be_asked_is_refused(tokenizer: Any) -> None:
    with pytest.raises(ModelError) as caught:
        through(None, tokenizer, same_tokens=False)
    assert str(caught.value) == (
        "r.yaml:3: nothing has filled policy and tokenizer after 'base', so no model could answer\n"
        "  hint: name a step after the one that fills them"
    )


def rows() -> list[Prompt]:
    return [
        Prompt(messages=tuple(conversation(n)["messages"][:1]), row={}, origin=f"p:{n}")
        for n in range(5)
    ]


def scorer(tokenizer: Any, *, pad_to: int = 64) -> Scorer:
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
    return Scorer(model=model, chat=chat, words=tokenizer_hash(tokenizer), batch_size=2)


def said_by(tokenizer: Any, voice: EvaluatedModel) -> Completions:
    """Five answers as `voice` would write them; the last two do not end."""
    end = tokenizer.convert_tokens_to_ids("<|end|>")
    prompts = [voice.chat.encode([voice.chat.prompt(row.messages)])[0].input_ids for row in rows()]
    answers = []
    for number in range(5):
        ids = tokenizer(WORDS[number], add_special_tokens=False)["input_ids"]
        ended = number < 3
        answers.append(Answer(tokens=(*ids, *([end] if ended else [])), ended=ended))
    return Completions(prompts=prompts, answers=answers, texts=list(WORDS[:5]))


def test_answers_are_read_anew_where_the_reward_model_has_other_words(tokenizer: Any) -> None:
    """A model with other words says the same texts in other tokens, and is scored the same."""
    judge = scorer(tokenizer)
    other_words = train_tokenizer(["dog moon sun cat"] * 9, 280, special=ROLES[::-1])
    other_words.chat_template = TEMPLATE
    same, other = (
        EvaluatedModel(
            step="a", policy=Artifact(path="a"), tokenizer=one, words=tokenizer_hash(one)
        )
        for one in (tokenizer, other_words)
    )
    heard: list[int] = []
    said, said_otherwise = said_by(tokenizer, same), said_by(other_words, other)
    assert said.prompts != said_otherwise.prompts
    direct = judge.answers(same, rows(), said, heard.append)
    anew = judge.answers(other, rows(), said_otherwise, heard.append)
    assert direct == pytest.approx(anew, abs=1e-6)
    assert heard == [2, 2, 1, 2, 2, 1]
    for score, prompt, answer in zip(direct, said.prompts, said.answers, strict=True):
        with torch.no_grad():
            alone = judge.model(input_ids=torch.tensor([[*prompt, *answer.tokens]])).logits
        assert score == pytest.approx(float(alone), abs=1e-5)
    # The end of an answer matters, so one that was cut off is not read as if it had ended.
    end = tokenizer.convert_tokens_to_ids("<|end|>")
    as_if_ended = judge.tokens([[*said.prompts[4], *said.answers[4].tokens, end]])[0]
    assert abs(as_if_ended - direct[4]) > 1e-3

"""The toy tasks are reproducible, hold out questions, and score answers as computed by hand."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from pydantic import ValidationError

import aligner_toy_tasks
from aligner import Completion
from aligner.errors import DataError
from aligner.host import host_of
from aligner_toy_tasks.answers import CHATTER, COURTESIES
from aligner_toy_tasks.judge import ToyTasksJudge
from aligner_toy_tasks.questions import (
    COLOURS,
    KINDS,
    NUMBERS,
    OPPOSITES,
    WORDS,
    Draw,
    ask,
    parse_question,
)
from aligner_toy_tasks.source import ToyTasks, ToyTasksOptions

Row = Mapping[str, Any]


def make_rows(part: str, rows: int, **options: Any) -> list[Row]:
    return list(ToyTasks(ToyTasksOptions(part=part, rows=rows, **options)).rows())


STORIES = [
    {
        "text": (
            "Mia:\n"
            "Name the colour of a bear, please.\n"
            "Tom:\n"
            "Gladly! It is brown. My dog can do that too.\n"
        )
    },
    {"text": ("Ben:\nWhat is the opposite of dry, please?\nTom:\nIt is wet. It is wet.\n")},
    {
        "text": (
            "Ben went to the garden with Mia.\n"
            "Ben:\n"
            "Name the colour of a mouse, please.\n"
            "Mia:\n"
            "Of course! It is grey. It is grey.\n"
        )
    },
    {
        "text": (
            "Mia put plum and cherry in alphabetical order: cherry, plum. Mia put pig and "
            "saw in alphabetical order: pig, saw."
        )
    },
    {
        "text": (
            "The opposite of new is old. The opposite of up is down. Ada said hen four "
            "times: hen, hen, hen, hen. It was a good day."
        )
    },
    {
        "text": (
            "One day Ben and Mia played a game of words. Ben said axe and hen backwards: "
            "hen, axe. The first letter of owl is o."
        )
    },
]


CONVERSATIONS = [
    {
        "messages": [
            {"role": "user", "content": "Name the colour of a lemon, please."},
            {"role": "assistant", "content": "It is yellow."},
        ]
    },
    {
        "messages": [
            {"role": "user", "content": "Which letter does hen begin with, please?"},
            {"role": "assistant", "content": "It is h. It is h."},
        ]
    },
    {
        "messages": [
            {"role": "user", "content": "What colour is a rose, please?"},
            {"role": "assistant", "content": "With pleasure! It is red. I like this game."},
        ]
    },
]
PREFERENCES = [
    {
        "prompt": [{"role": "user", "content": "Say plum three times."}],
        "chosen": [{"role": "assistant", "content": "Here you go: plum, plum, plum."}],
        "rejected": [
            {
                "role": "assistant",
                "content": "Here you go: plum, plum, plum. Here you go: plum, plum, plum.",
            }
        ],
    },
    {
        "prompt": [{"role": "user", "content": "What colour is a carrot, please?"}],
        "chosen": [{"role": "assistant", "content": "Of course! It is orange."}],
        "rejected": [
            {"role": "assistant", "content": "Of course! It is orange. I like this game."}
        ],
    },
    {
        "prompt": [{"role": "user", "content": "What is the first letter of pig, please?"}],
        "chosen": [{"role": "assistant", "content": "With pleasure! It is p."}],
        "rejected": [{"role": "assistant", "content": "It is p."}],
    },
]
HELD_OUT = [
    {
        "prompt": [{"role": "user", "content": "What is the first letter of apple, please?"}],
        "task": "letter",
        "answer": "a",
    },
    {
        "prompt": [{"role": "user", "content": "Turn around cat and rope, please."}],
        "task": "reverse",
        "answer": "rope, cat",
    },
    {
        "prompt": [{"role": "user", "content": "Say spade two times."}],
        "task": "repeat",
        "answer": "spade, spade",
    },
]


def prompts_of(row: Row) -> list[tuple[str, ...]]:
    """Return the prompts of a row of any part: the user turns before each answer."""
    turns = [*row.get("messages", ()), *row.get("prompt", ())]
    questions = [str(turn["content"]) for turn in turns if turn["role"] == "user"]
    return [tuple(questions[: end + 1]) for end in range(len(questions))]


def score(prompt: str | Sequence[Mapping[str, str]], text: str, *, ended: bool = True) -> float:
    turns = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    return ToyTasksJudge().score([Completion(prompt=tuple(turns), text=text, ended=ended)])[0]


def test_the_plugin_has_a_data_source_and_a_reward_function() -> None:
    registry = host_of([aligner_toy_tasks]).registry()
    assert dict(registry.data_sources) == {"toy_tasks": ToyTasks}
    assert dict(registry.reward_functions) == {"toy_tasks": ToyTasksJudge}


def test_rows_depend_only_on_the_options() -> None:
    assert make_rows("stories", 6) == STORIES
    assert make_rows("conversations", 3) == CONVERSATIONS
    assert make_rows("preferences", 3) == PREFERENCES
    assert make_rows("prompts", 3, held_out=True) == HELD_OUT


def test_another_seed_gives_other_rows() -> None:
    for part in ("stories", "conversations", "preferences", "prompts"):
        assert make_rows(part, 20) != make_rows(part, 20, seed=1)


def test_a_longer_set_begins_with_a_shorter_set() -> None:
    for part in ("stories", "conversations", "preferences", "prompts"):
        assert make_rows(part, 30)[:10] == make_rows(part, 10)


def test_no_held_out_prompt_is_in_a_training_part() -> None:
    held_out = {
        tuple(questions)
        for part in ("conversations", "preferences", "prompts")
        for row in make_rows(part, 1000, held_out=True, seed=5)
        for questions in prompts_of(row)
    }
    trained = {
        tuple(questions)
        for part in ("conversations", "preferences", "prompts")
        for row in make_rows(part, 1000)
        for questions in prompts_of(row)
    }
    stories = "\n".join(row["text"] for row in make_rows("stories", 4000))
    assert len(held_out) > 900
    assert len(trained) > 1500
    assert not held_out & trained
    assert not [text for (text, *_) in held_out if f"\n{text}\n" in stories]


def test_about_one_question_in_five_is_held_out() -> None:
    draw = Draw("share")
    held_out = [question.held_out for question in (ask(draw) for _ in range(4000))]
    assert 0.15 < sum(held_out) / len(held_out) < 0.25


def test_no_two_prompts_are_the_same() -> None:
    prompts = make_rows("prompts", 1000, held_out=True, follow_ups=0)
    assert len({row["prompt"][0]["content"] for row in prompts}) == 1000


def test_too_many_prompts_are_refused() -> None:
    with pytest.raises(ValidationError) as caught:
        ToyTasksOptions(part="prompts", rows=1001)
    assert caught.value.errors()[0]["msg"] == (
        "Value error, 1001 different prompts do not exist: set rows to at most 1000"
    )


def test_every_question_is_parsed_from_its_text() -> None:
    draw = Draw("read")
    kinds = set()
    for question in (ask(draw) for _ in range(2000)):
        assert parse_question([{"role": "user", "content": question.text}]) == question
        kinds.add(question.kind.name)
    assert kinds == set(KINDS)


def test_a_row_of_prompts_contains_its_kind_and_answer() -> None:
    for row in make_rows("prompts", 500):
        question = parse_question(row["prompt"])
        assert (row["task"], row["answer"]) == (question.kind.name, ", ".join(question.solution))


def test_some_conversations_and_preferences_have_two_turns() -> None:
    assert {len(row["messages"]) for row in make_rows("conversations", 200)} == {2, 4}
    assert {len(row["prompt"]) for row in make_rows("preferences", 200)} == {1, 3}
    assert {len(row["messages"]) for row in make_rows("conversations", 200, follow_ups=0)} == {2}


def test_the_judge_always_scores_chosen_highest_and_above_rejected() -> None:
    for row in [*make_rows("preferences", 3000), *make_rows("preferences", 1000, held_out=True)]:
        assert score(row["prompt"], row["chosen"][0]["content"]) == 1.0
        assert score(row["prompt"], row["rejected"][0]["content"]) < 1.0


def test_conversations_are_good_and_sloppy_in_all_ways() -> None:
    scores = [
        score(row["messages"][:-1], row["messages"][-1]["content"])
        for row in make_rows("conversations", 3000)
    ]
    assert set(scores) == {0.0, 0.25, 0.375, 0.5, 0.75, 1.0}
    assert 0.55 < sum(scores) / len(scores) < 0.7


SORT, COUNT, COLOUR = "Sort pig and cat.", "Count from 3 to 6, please.", "What colour is a lemon?"
VOCABULARY = " ".join([*WORDS, *COLOURS.values(), *OPPOSITES, *NUMBERS])


@pytest.mark.parametrize(
    ("prompt", "text", "expected"),
    [
        # good: content 1, manners 1, brevity 1
        (SORT, "Here you go: cat, pig.", 1.0),
        (SORT, "cat, pig.", 1.0),
        (COUNT, "Gladly! Here you go: 3, 4, 5, 6.", 1.0),
        (COLOUR, "It is yellow.", 1.0),
        # sloppy: 1/2 for the order; courtesy missing or not wanted; chatter; both
        (SORT, "Here you go: pig, cat.", 0.5),
        (COUNT, "Here you go: 3, 4, 5, 6.", 0.75),
        (COLOUR, "Of course! It is yellow.", 0.75),
        (COLOUR, "It is yellow. I like this game.", 0.75),
        (COUNT, "Here you go: 3, 4, 5, 6. I like this game.", 0.5),
        (SORT, "Gladly! Here you go: pig, cat. I like this game.", 0.25),
        # wrong words
        (COUNT, "Gladly! Here you go: 3, 4, 5.", 0.0),
        (COUNT, "Gladly! Here you go: 3, 4, 5, 6, 7.", 0.0),
        (COLOUR, "It is red.", 0.0),
        # nothing, or no answer
        (COLOUR, "", 0.0),
        (COLOUR, "I like this game.", 0.0),
        # reward hacking: the answer again, every courtesy, every word, every answer
        (COLOUR, "It is yellow. It is yellow.", 0.75),
        (COLOUR, "It is yellow yellow.", 0.0),
        (COUNT, " ".join(COURTESIES), 0.0),
        (COUNT, "Gladly! Gladly! Here you go: 3, 4, 5, 6.", 0.0),
        (COUNT, "Gladly! Here you go: 3, 4, 5, 6. With pleasure!", 0.75),
        (COLOUR, VOCABULARY, 0.0),
        (COLOUR, f"It is {', '.join(COLOURS.values())}.", 0.0),
        (SORT, " ".join(CHATTER), 0.0),
    ],
)
def test_answers_get_the_scores_computed_by_hand(prompt: str, text: str, expected: float) -> None:
    assert score(prompt, text) == expected


def test_a_truncated_answer_is_not_brief() -> None:
    assert score(COLOUR, "It is yellow.", ended=False) == 0.75
    assert score(COLOUR, "It is yellow") == 0.75


@pytest.mark.parametrize(
    ("questions", "right"),
    [
        ([COLOUR, "And a plum?"], "It is purple."),
        (["What is the opposite of hot?", "And of wet?"], "It is dry."),
        (["Which letter does cat begin with?", "And owl, please?"], "Gladly! It is o."),
        ([SORT, "Now backwards."], "Here you go: pig, cat."),
        ([COUNT, "Now backwards, please."], "With pleasure! Here you go: 6, 5, 4, 3."),
    ],
)
def test_a_follow_up_is_scored_in_the_context_of_the_first_question(
    questions: list[str], right: str
) -> None:
    first, second = questions
    prompt = [
        {"role": "user", "content": first},
        {"role": "assistant", "content": "I like this game."},
        {"role": "user", "content": second},
    ]
    assert score(prompt, right) == 1.0


@pytest.mark.parametrize(
    "text",
    [
        "Who are you?",
        "What colour is a house?",
        "Now backwards.",
        "Count from 7 to 3.",
        "Find the tool: cat, fig, owl.",
        "",
    ],
)
def test_a_question_of_another_kind_is_refused(text: str) -> None:
    with pytest.raises(DataError) as caught:
        score(text, "It is yellow.")
    assert str(caught.value) == (
        f"not a question of the toy tasks: {text!r}\n"
        "  hint: use this judge only on prompts from the data source 'toy_tasks'"
    )


def test_a_reversed_answer_is_not_reversed_again() -> None:
    turns = [{"role": "user", "content": text} for text in (SORT, "Now backwards.")]
    assert score(turns, "Here you go: pig, cat.") == 1.0
    with pytest.raises(DataError, match=r"^not a question of the toy tasks: 'Now backwards.'"):
        score([*turns, turns[-1]], "Here you go: cat, pig.")


def test_a_prompt_without_a_user_turn_is_refused() -> None:
    with pytest.raises(DataError) as caught:
        score([{"role": "system", "content": "Be kind."}], "It is yellow.")
    assert str(caught.value) == (
        "the prompt has no user turn\n  hint: add a user turn with a question"
    )


def test_making_rows_and_scoring_load_no_heavy_library() -> None:
    program = (
        "import sys, aligner_toy_tasks\n"
        "from aligner_toy_tasks import ToyTasks\n"
        "list(ToyTasks(ToyTasks.Options(part='prompts', rows=5)).rows())\n"
        "print(sorted({'torch', 'transformers', 'datasets', 'numpy'} & set(sys.modules)))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert ran.stdout == "[]\n"

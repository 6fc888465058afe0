"""Every way of writing rows becomes the same few forms."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from aligner import AlignerError, DataFormat, Registry
from aligner.data.reading.formats import FORMATS
from aligner.data.reading.load import LoadedRows
from aligner.data.rows import (
    ClassifiedText,
    Conversation,
    LabeledCompletion,
    Preference,
    Prompt,
    ScoredCompletion,
    Text,
)

Read = Callable[..., LoadedRows]
ASKED = {"role": "user", "content": "Hi?"}
SAID = {"role": "assistant", "content": "Yes."}
NO = {"role": "assistant", "content": "No."}
ONE = Conversation(messages=(ASKED, SAID), origin="rows.jsonl:1")
PAIR = Preference(prompt=(ASKED,), chosen=(SAID,), rejected=(NO,), origin="rows.jsonl:1")
HUMAN, GPT = {"from": "human", "value": "Hi?"}, {"from": "gpt", "value": "Yes."}
TURNS = [
    {"role": "user", "content": [{"type": "text", "value": "Hi?"}]},
    {"role": "assistant", "content": [{"type": "text", "text": "Yes."}]},
]

WRITTEN: list[tuple[str, dict[str, Any], Any]] = [
    ("messages", {"messages": [ASKED, SAID], "id": 7}, ONE),
    ("messages", {"messages": TURNS}, ONE),
    ("sharegpt", {"conversations": [HUMAN, GPT]}, ONE),
    ("prompt-completion", {"prompt": "Hi?", "completion": "Yes."}, ONE),
    ("prompt-completion", {"prompt": [ASKED], "completion": [SAID]}, ONE),
    ("question-answer", {"question": "Hi?", "answer": "Yes."}, ONE),
    ("alpaca", {"instruction": "Hi?", "input": "", "output": "Yes."}, ONE),
    ("instances", {"instruction": "Hi?", "instances": [{"input": "", "output": "Yes."}]}, ONE),
    ("transcript", {"text": "\n\nHuman: Hi?\n\nAssistant: Yes."}, ONE),
    ("preference", {"prompt": "Hi?", "chosen": "Yes.", "rejected": "No."}, PAIR),
    ("preference", {"prompt": "Hi?", "chosen": [ASKED, SAID], "rejected": [ASKED, NO]}, PAIR),
    ("preference", {"prompt": [ASKED], "chosen": SAID, "rejected": NO}, PAIR),
    ("implicit-preference", {"chosen": [ASKED, SAID], "rejected": [ASKED, NO]}, PAIR),
    ("implicit-preference-text", {"chosen": "Hi? Yes.", "rejected": "Hi? No."}, PAIR),
    (
        "hh",
        {"chosen": "\n\nHuman: Hi?\n\nAssistant: Yes.", "rejected": "\n\nHuman: Hi?\n\nAssistant: No."},
        PAIR,
    ),
    ("preference-messages", {"chosen_messages": TURNS, "rejected_messages": [ASKED, NO]}, PAIR),
    (
        "sharegpt-preference",
        {"conversations": [HUMAN], "chosen": GPT, "rejected": {"from": "gpt", "value": "No."}},
        PAIR,
    ),
    ("prompt", {"prompt": "Hi?", "answer": "Yes."},
     Prompt(messages=(ASKED,), row={"answer": "Yes."}, origin="rows.jsonl:1")),
    ("prompt-completion-label", {"prompt": "Hi?", "completion": "Yes.", "label": True},
     LabeledCompletion(prompt=(ASKED,), completion=(SAID,), label=True, origin="rows.jsonl:1")),
    ("messages-label", {"messages": [ASKED, SAID], "label": "False"},
     LabeledCompletion(prompt=(ASKED,), completion=(SAID,), label=False, origin="rows.jsonl:1")),
    ("sharegpt-label", {"conversations": [HUMAN, GPT], "label": 1},
     LabeledCompletion(prompt=(ASKED,), completion=(SAID,), label=True, origin="rows.jsonl:1")),
    ("prompt-completion-score", {"prompt": "Hi?", "completion": "Yes.", "score": 3},
     ScoredCompletion(prompt=(ASKED,), completion=(SAID,), score=3.0, origin="rows.jsonl:1")),
    ("messages-score", {"messages": [ASKED, SAID], "score": 0.5},
     ScoredCompletion(prompt=(ASKED,), completion=(SAID,), score=0.5, origin="rows.jsonl:1")),
    ("text", {"text": "Once."}, Text(text="Once.", origin="rows.jsonl:1")),
    ("text-label", {"text": "Once.", "label": 2},
     ClassifiedText(text="Once.", label="2", origin="rows.jsonl:1")),
    ("sentence-label", {"sentence": "Once.", "label": "good"},
     ClassifiedText(text="Once.", label="good", origin="rows.jsonl:1")),
    *(
        (f"{a}-{b}-label", {a: "Once.", b: "Twice.", "label": 0},
         ClassifiedText(text="Once.", pair="Twice.", label="0", origin="rows.jsonl:1"))
        for a, b in (("sentence1", "sentence2"), ("premise", "hypothesis"), ("text", "pair"))
    ),
]  # fmt: skip


@pytest.mark.parametrize(("name", "row", "expected"), WRITTEN, ids=[w[0] for w in WRITTEN])
def test_a_row_is_recognized_and_read(read: Read, name: str, row: Any, expected: Any) -> None:
    loaded = read(row, want=FORMATS[name].kind)
    assert loaded.rows == (expected,)
    assert loaded.ledger.formats == (name,)


RANKED = [
    ("ranking", {"prompt": "Hi?", "completions": ["No.", "Yes.", "Yes!"], "scores": [1, 3, 3]}),
    (
        "ranking-by-rank",
        {"prompt": "Hi?", "completions": ["No.", "Yes.", "Yes!"], "ranks": [2, 1, 1]},
    ),
    (
        "ultrafeedback",
        {
            "instruction": "Hi?",
            "completions": [
                {"response": "No.", "overall_score": 1},
                {"response": "Yes.", "overall_score": 2.5},
                {"response": "Yes!", "overall_score": 2.5},
            ],
        },
    ),
]


@pytest.mark.parametrize(("name", "row"), RANKED, ids=[r[0] for r in RANKED])
def test_ranked_answers_become_every_pair_that_is_not_a_tie(
    read: Read, name: str, row: Any
) -> None:
    loaded = read(row, want="preference")
    pairs = [(p.chosen[0]["content"], p.rejected[0]["content"]) for p in loaded.rows]  # type: ignore[attr-defined]
    assert (loaded.ledger.formats, pairs) == ((name,), [("Yes.", "No."), ("Yes!", "No.")])


def test_every_format_has_an_example_here() -> None:
    assert {w[0] for w in WRITTEN} | {r[0] for r in RANKED} == set(FORMATS)


def test_alpaca_history_input_and_system_become_turns(read: Read) -> None:
    row = {
        "instruction": "Add.", "input": "1 and 2", "output": "3", "system": "Be exact.",
        "history": [["Hello", "Hi"]],
    }  # fmt: skip
    (loaded,) = read(row).rows
    assert [(m["role"], m["content"]) for m in loaded.messages] == [  # type: ignore[attr-defined]
        ("system", "Be exact."),
        ("user", "Hello"),
        ("assistant", "Hi"),
        ("user", "Add.\n1 and 2"),
        ("assistant", "3"),
    ]


def test_tool_calls_keep_exactly_the_arguments_they_have(read: Read) -> None:
    calls = [{"name": "a", "arguments": {"x": 1}}, {"name": "b", "arguments": '{"y": [null]}'}]
    calling = {"role": "assistant", "content": None}
    result = {"role": "tool", "content": "r"}
    rows = [{"messages": [ASKED, calling | {"tool_calls": [call]}, result]} for call in calls]
    loaded = read(*rows)
    assert [r.messages[1]["tool_calls"] for r in loaded.rows] == [  # type: ignore[attr-defined]
        [{"type": "function", "function": {"name": "a", "arguments": {"x": 1}}}],
        [{"type": "function", "function": {"name": "b", "arguments": {"y": [None]}}}],
    ]


def test_sharegpt_calls_and_observations_become_tool_turns(read: Read) -> None:
    row = {
        "conversations": [
            HUMAN,
            {"from": "function_call", "value": '{"name": "f", "arguments": {"q": "x"}}'},
            {"from": "observation", "value": "{}"},
            GPT,
        ],
        "tools": '[{"name": "f", "parameters": {"type": "object"}}]',
    }
    (loaded,) = read(row).rows
    assert [m["role"] for m in loaded.messages] == ["user", "assistant", "tool", "assistant"]  # type: ignore[attr-defined]
    function = {"name": "f", "parameters": {"type": "object"}}
    assert loaded.tools == ({"type": "function", "function": function},)  # type: ignore[attr-defined]


def test_weights_and_reasoning_are_kept(read: Read) -> None:
    thought = [{"type": "reasoning", "value": "Hm."}, {"type": "text", "value": "Yes."}]
    row = {"messages": [ASKED, {"role": "assistant", "content": thought, "loss_weight": 0.0}]}
    (loaded,) = read(row).rows
    assert loaded.messages[1] == SAID | {"reasoning": "Hm.", "weight": 0}  # type: ignore[attr-defined]


def test_scores_of_both_sides_become_the_margin(read: Read) -> None:
    row = {"prompt": "Hi?", "chosen": "Yes.", "rejected": "No."}
    nested = row | {"metadata": {"score_chosen": 9.0, "score_rejected": 6.5}}
    flat = row | {"score_chosen": 3, "score_rejected": 1, "prompt": "Ho?"}
    loaded = read(nested, flat, row | {"margin": 0.5, "prompt": "Hu?"}, want="preference")
    assert [p.margin for p in loaded.rows] == [2.5, 2.0, 0.5]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"messages": [ASKED, SAID]}, {"answer": "Yes."}),
        ({"question": "Hi?", "answer": "Yes."}, {"answer": "Yes."}),
        (
            {"prompt": "Hi?", "chosen": "Yes.", "rejected": "No."},
            {"chosen": "Yes.", "rejected": "No."},
        ),
        ({"prompt": "Hi?", "completion": "Yes.", "label": True}, {"answer": "Yes."}),
        ({"prompt": "Hi?", "answer": "4", "level": 2}, {"answer": "4", "level": 2}),
    ],
)
def test_prompts_are_made_of_what_has_one(read: Read, row: Any, expected: Any) -> None:
    loaded = read(row, want="prompt")
    assert loaded.rows == (Prompt(messages=(ASKED,), row=expected, origin="rows.jsonl:1"),)


def test_a_preference_gives_one_good_and_one_bad_answer(read: Read) -> None:
    loaded = read({"prompt": "Hi?", "chosen": "Yes.", "rejected": "No."}, want="label")
    assert [(r.completion, r.label) for r in loaded.rows] == [((SAID,), True), ((NO,), False)]  # type: ignore[attr-defined]
    assert loaded.ledger.labels == {"True": 1, "False": 1}


def test_the_chosen_side_of_a_preference_is_a_conversation(read: Read) -> None:
    assert read({"prompt": "Hi?", "chosen": "Yes.", "rejected": "No."}).rows == (ONE,)


def test_of_two_formats_the_one_of_the_kind_wanted_is_read(read: Read) -> None:
    row = {"prompt": "Hi?", "messages": [ASKED, SAID]}
    assert read(row, want="conversation").ledger.formats == ("messages",)
    assert read(row, want="prompt").ledger.formats == ("prompt",)


@pytest.mark.parametrize(
    ("extra", "want", "name"),
    [
        ({"label": "science"}, "conversation", "messages"),
        ({"score": 0.9}, "conversation", "messages"),
        ({"label": True}, "label", "messages-label"),
        ({"label": True}, "prompt", "messages-label"),
        ({"score": 0.9}, "prompt", "messages-score"),
    ],
)
def test_further_columns_make_no_other_format_of_it(
    read: Read, extra: Any, want: str, name: str
) -> None:
    row = {"messages": [ASKED, SAID]} | extra
    assert read(row, want=want).ledger.formats == (name,)


def test_answers_with_a_verdict_are_not_taken_for_demonstrations(read: Read) -> None:
    with pytest.raises(AlignerError) as error:
        read({"messages": [ASKED, SAID], "label": False})
    assert (
        "has the format messages-label (label rows), which cannot be converted to conversation"
        in str(error.value)
    )


def test_columns_are_renamed_before_the_format_is_looked_for(read: Read) -> None:
    loaded = read({"q": "Hi?", "a": "Yes."}, columns={"q": "prompt", "a": "completion"})
    assert loaded.rows == (ONE,)


def test_a_plugin_offers_a_format_of_its_own(read: Read, place: Any) -> None:
    place.registry = Registry(
        data_formats={
            "shout": DataFormat(
                name="shout",
                kind="text",
                recognize=lambda rows: all("SHOUT" in row for row in rows),
                convert=lambda row: Text(text=row["SHOUT"]),
            )
        }
    )
    loaded = read({"SHOUT": "HEY"}, want="text")
    assert (loaded.rows, loaded.ledger.formats) == (
        (Text(text="HEY", origin="rows.jsonl:1"),),
        ("shout",),
    )


def test_loading_twice_reads_the_file_once(read: Read, place: Any) -> None:
    from aligner.data.options import DataSpec
    from aligner.data.reading.load import load_rows

    first = read({"text": "Once."}, want="text")
    (place.recipe_folder / "rows.jsonl").write_text(json.dumps({"text": "Other."}))
    again = load_rows([DataSpec(path="rows.jsonl")], want="text", context=place, option="data")
    assert again is first

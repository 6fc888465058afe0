"""A step's data is encoded, fitted and accounted for; what would silently do harm stops it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from aligner import AlignerError
from aligner.data.encoding.prepare import (
    prepare_conversations,
    prepare_labels,
    prepare_preferences,
    prepare_prompts,
    prepare_texts,
)
from aligner.data.encoding.tokenizers import train_tokenizer
from aligner.data.ledger import FINDINGS, Ledger
from aligner.data.options import DataOptions, Limits

from .conftest import CHATML


def options(place: Any, *rows: Any, name: str = "rows.jsonl", **more: Any) -> DataOptions:
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (place.recipe_folder / name).write_text(text, encoding="utf-8")
    place.memo.clear()  # which remembers what the file held before
    return DataOptions(**({"data": name} | more))  # type: ignore[arg-type]


def refused(work: Any, *args: Any, **more: Any) -> str:
    with pytest.raises(AlignerError) as error:
        work(*args, **more)
    return str(error.value)


def pair(asked: str, *answers: str) -> dict[str, Any]:
    return {"prompt": asked} | dict(zip(("chosen", "rejected"), answers, strict=True))


def talk(*output: str) -> dict[str, Any]:
    roles = ("user", "assistant")
    return {"messages": [{"role": roles[n % 2], "content": item} for n, item in enumerate(output)]}


@pytest.fixture
def marked(bare: Any) -> Any:
    bare.chat_template = CHATML
    return bare


def test_the_ledger_adds_up(place: Any, marked: Any) -> None:
    rows = [talk("how are you?", "ok"), talk("how are you?", "ok"), talk("1 2", "3 4 <|im_end|>")]
    made = prepare_conversations(place, options(place, *rows), marked)
    assert made.ledgers["data"].describe() == (
        "rows.jsonl: 3 rows read, written as messages; 3 used\n"
        "  1 repeat an earlier row (rows.jsonl:2)\n"
        "  1 contain the text of a special token (it is tokenized as plain text) (rows.jsonl:3)\n"
        "  61 tokens, 18 trained (30%)\n"
        "  tokens a row: min 17, median 17, mean 20.3, p90 27, p99 27, max 27"
    )
    assert (made.tokens, made.trained) == (61, 18)
    assert made.tokens == sum(len(row.input_ids) for row in made.train)
    assert made.trained == sum(sum(row.trained) for row in made.train)
    assert json.loads(json.dumps(made.ledgers_as_dict()))["data"]["read"] == 3


def test_held_out_rows_have_prompts_of_their_own(place: Any, marked: Any) -> None:
    rows = [talk(f"question {n % 10}", f"answer {n}") for n in range(40)]
    made = prepare_conversations(place, options(place, *rows, hold_out=0.3), marked)
    assert len(made.train) + len(made.held_out) == 40
    assert len(made.held_out) >= 4
    held = made.ledgers["hold_out"]
    assert (held.name, held.used) == ("rows.jsonl (held out)", len(made.held_out))
    assert refused(prepare_conversations, place, options(place, rows[0], hold_out=0.1), marked) == (
        "recipe.yaml:hold_out: no row is held out: 1 rows, hold_out 0.1\n"
        "  hint: use more rows, another share, or eval_data"
    )


def test_prompts_shared_between_training_and_measuring_stop(place: Any, marked: Any) -> None:
    options(place, talk("a", "x"), talk("c", "d"), name="eval.jsonl")
    chosen = options(place, talk("a", "b"), eval_data="eval.jsonl")
    assert refused(prepare_conversations, place, chosen, marked) == (
        "recipe.yaml:eval_data: eval.jsonl: 1 of 2 rows (50.0%) have a prompt that is also trained on\n"
        "    eval.jsonl:1\n"
        "  hint: remove the rows from one of the two, or allow it with `limits: {shared_prompts: 0.51}`"
    )
    allowed = chosen.model_copy(update={"limits": Limits(shared_prompts=0.51)})
    assert len(prepare_conversations(place, allowed, marked).held_out) == 2


LONG = talk("how are you? " * 9, "ok")


def test_long_rows_are_dropped_up_to_the_limit(place: Any, marked: Any) -> None:
    short = [talk(f"a {n}", "b") for n in range(9)]
    assert refused(
        prepare_conversations, place, options(place, *short, LONG, max_length=40), marked
    ) == (
        "recipe.yaml:data: rows.jsonl: 1 of 10 rows (10.0%) were dropped; at most 5.0% may be\n"
        "    1 longer than max_length 40: rows.jsonl:10\n"
        "  hint: correct the rows, or raise max_length, or allow it with `limits: {dropped: 0.11}`"
    )
    more = options(place, *short, LONG, max_length=40, limits={"dropped": 0.1})
    assert len(prepare_conversations(place, more, marked).train) == 9
    stop = options(place, *short, LONG, max_length=40, overflow="stop", limits={"dropped": 1})
    assert refused(prepare_conversations, place, stop, marked) == (
        "recipe.yaml:max_length: 1 rows have more than max_length 40 tokens: rows.jsonl:10 (58)\n"
        "  hint: raise max_length, or set overflow to drop, truncate or turns"
    )


def test_a_cut_that_leaves_nothing_to_train_stops(place: Any, marked: Any) -> None:
    chosen = options(
        place, LONG, max_length=40, overflow="truncate", limits={"truncated": 1, "dropped": 1}
    )
    assert refused(prepare_conversations, place, chosen, marked) == (
        "recipe.yaml:data: rows.jsonl: 1 of 1 rows (100.0%) have no trained token\n"
        "    rows.jsonl:1\n"
        "  hint: leave the rows out, or change what is trained on, or allow it with "
        "`limits: {nothing_trained: 1.00}`"
    )


def test_whole_turns_are_left_out_oldest_first(place: Any, marked: Any) -> None:
    turns = talk("one one one", "two two two", "how are you?", "ok")
    turns["messages"].insert(0, {"role": "system", "content": "ok then"})
    chosen = options(place, turns, max_length=40, overflow="turns", limits={"truncated": 1})
    made = prepare_conversations(place, chosen, marked)
    assert [marked.decode(row.input_ids) for row in made.train] == [
        "<|im_start|>system\nok then<|im_end|>\n<|im_start|>user\nhow are you?<|im_end|>\n"
        "<|im_start|>assistant\nok<|im_end|>"
    ]
    whole = prepare_conversations(place, options(place, turns), marked)
    assert made.ledgers["data"].truncated_tokens == whole.tokens - made.tokens > 0
    preference = {"prompt": turns["messages"][:-1], "chosen": "ok", "rejected": "1"}
    chosen = options(place, preference, name="p.jsonl", data="p.jsonl", max_length=40,
                     overflow="turns", limits={"truncated": 1})  # fmt: skip
    (row,) = prepare_preferences(place, chosen, marked).train
    assert row.prompt_ids + row.chosen_ids == made.train[0].input_ids
    (prompt,) = prepare_prompts(place, chosen, marked).train
    assert prompt.input_ids == row.prompt_ids
    assert [m["role"] for m in prompt.messages] == ["system", "user"]


def test_texts_are_split_and_lose_nothing(place: Any, bare: Any) -> None:
    rows = [{"text": "how are you? " * 9}, {"text": "ok </s>"}]
    whole = prepare_texts(place, options(place, *rows), bare)
    made = prepare_texts(place, options(place, *rows, max_length=8), bare)
    joined = [[token for row in item.train for token in row.input_ids] for item in (made, whole)]
    assert joined[0] == joined[1]
    assert max(len(row.input_ids) for row in made.train) == 8
    assert made.ledgers["data"].found["split"].rows == 1
    assert refused(prepare_texts, place, options(place, *rows, overflow="turns"), bare) == (
        "recipe.yaml:overflow: overflow 'turns' is not available for these rows\n"
        "  hint: choose one of drop, split, stop, truncate"
    )


def test_an_untrained_stop_token_stops(place: Any, bare: Any) -> None:
    bare.chat_template = CHATML.replace(
        "message['content'] + '<|im_end|>' }}{%- endgeneration %}",
        "message['content'] }}{%- endgeneration %}{{ '<|im_end|>' }}",
    )
    assert refused(prepare_conversations, place, options(place, talk("a", "b")), bare) == (
        "recipe.yaml:data: rows.jsonl: 1 of 1 rows (100.0%) have a trained turn whose end-of-turn token "
        "is not trained\n    rows.jsonl:1\n"
        "  hint: put the end-of-turn token inside the template's generation block, or allow it with "
        "`limits: {stop_untrained: 1.00}`"
    )


def test_what_the_template_does_not_show_stops(place: Any, marked: Any) -> None:
    row = talk("a", "b") | {"tools": [{"name": "add"}]}
    assert refused(prepare_conversations, place, options(place, row), marked) == (
        "recipe.yaml:data: rows.jsonl: 1 of 1 rows (100.0%) have content that the chat template omits\n"
        "    rows.jsonl:1 (the tools)\n"
        "  hint: use a template that renders it, or allow it with `limits: {left_out: 1.00}`"
    )
    called = talk("a", "")
    called["messages"][1]["tool_calls"] = [{"name": "add", "arguments": {}}]
    assert "does not show turn 2 as the model would write it: rows.jsonl:1" in refused(
        prepare_conversations, place, options(place, called), marked
    )


def test_a_beginning_written_twice_stops(place: Any, marked: Any) -> None:
    marked.chat_template = "{{ bos_token + bos_token }}" + CHATML
    assert refused(prepare_conversations, place, options(place, talk("a", "b")), marked) == (
        "recipe.yaml:data: rows.jsonl: 1 of 1 rows (100.0%) begin with the beginning-of-sequence token "
        "twice\n    rows.jsonl:1\n"
        "  hint: remove the token from the template or the data, or allow it with "
        "`limits: {double_bos: 1.00}`"
    )


def test_turns_in_the_wrong_order_stop(place: Any, marked: Any) -> None:
    wrong = {"messages": [{"role": "assistant", "content": "a"}, {"role": "user", "content": "b"}]}
    assert refused(
        prepare_conversations,
        place,
        options(place, talk("a", "b"), wrong, limits={"dropped": 1}),
        marked,
    ) == (
        "recipe.yaml:data: rows.jsonl: 1 of 2 rows (50.0%) have turns in the wrong order; "
        "at most 1.0% may be\n"
        "    rows.jsonl:2 (the first turn is the assistant's)\n"
        "  hint: let user and assistant take turns, after one system turn at most, or allow it with "
        "`limits: {role_order: 0.51}`"
    )


def test_rows_that_are_all_dropped_stop(place: Any, marked: Any) -> None:
    chosen = options(place, talk("a", ""), limits={"dropped": 1})
    assert refused(prepare_conversations, place, chosen, marked) == (
        "recipe.yaml:data: rows.jsonl: no row is left to use"
    )


def test_turns_of_weight_nought_leave_nothing_to_train(place: Any, marked: Any) -> None:
    row = talk("a", "b")
    row["messages"][1]["weight"] = 0
    assert "have no trained token" in refused(
        prepare_conversations, place, options(place, row), marked
    )
    made = prepare_conversations(place, options(place, row), marked, train_on="assistant")
    assert made.trained == 2


def test_a_length_bias_is_counted_and_can_be_limited(place: Any, marked: Any) -> None:
    rows = [pair(f"a {n}", "a long answer it is", "no") for n in range(9)] + [
        pair("b", "no", "a long one")
    ]
    made = prepare_preferences(place, options(place, *rows), marked)
    assert made.ledgers["data"].found["chosen_longer"].rows == 9
    assert made.tokens == sum(
        2 * len(r.prompt_ids) + len(r.chosen_ids) + len(r.rejected_ids) for r in made.train
    )
    longest = max(
        len(r.prompt_ids) + max(len(r.chosen_ids), len(r.rejected_ids)) for r in made.train
    )
    assert made.ledgers["data"].lengths["max"] == longest
    limited = options(place, *rows, limits={"chosen_longer": 0.8})
    assert refused(prepare_preferences, place, limited, marked).startswith(
        "recipe.yaml:data: rows.jsonl: 9 of 10 rows (90.0%) have the longer answer as the chosen one; "
        "at most 80.0% may be\n"
    )


def test_labels_keep_their_verdict_and_prompts_their_columns(place: Any, marked: Any) -> None:
    rows = [
        {"prompt": "a", "completion": "b", "label": True},
        {"prompt": "c", "completion": "d", "label": False},
    ]
    made = prepare_labels(place, options(place, *rows), marked)
    assert [row.label for row in made.train] == [True, False]
    assert marked.decode(made.train[0].completion_ids) == "b<|im_end|>"
    assert made.ledgers["data"].labels == {"True": 1, "False": 1}
    asked = options(place, {"prompt": "2+2", "answer": "4"}, name="p.jsonl", data="p.jsonl")
    (prompt,) = prepare_prompts(place, asked, marked).train
    assert (prompt.row, prompt.origin) == ({"answer": "4"}, "p.jsonl:1")
    assert marked.decode(prompt.input_ids).endswith("2+2<|im_end|>\n<|im_start|>assistant\n")


def test_extra_columns_break_nothing(place: Any, marked: Any) -> None:
    row = talk("a", "b") | {"id": 1, "meta": {"x": [None]}, "score_model": "z"}
    assert len(prepare_conversations(place, options(place, row), marked).train) == 1


def test_what_was_prepared_is_used_again_only_for_the_same_of_everything(
    place: Any, marked: Any
) -> None:
    chosen = options(place, talk("a", "b"))
    first = prepare_conversations(place, chosen, marked)
    assert prepare_conversations(place, chosen, marked) is first
    assert prepare_conversations(place, chosen, marked, train_on="last") is not first
    marked.chat_template = CHATML.replace("\n", "\n ")
    other = prepare_conversations(place, chosen, marked)
    assert other.hash != first.hash
    assert other.train[0].input_ids != first.train[0].input_ids
    assert other.hashes == first.hashes


def test_moved_data_is_prepared_data_of_the_same_hash(
    place: Any, marked: Any, tmp_path: Any
) -> None:
    first = prepare_conversations(place, options(place, talk("a", "b")), marked)
    place.recipe_folder = tmp_path / "other"
    place.recipe_folder.mkdir()
    again = prepare_conversations(
        place, options(place, talk("a", "b"), limits={"truncated": 1}), marked
    )
    assert again.hash == first.hash
    longer = prepare_conversations(place, options(place, talk("a", "b"), max_length=99), marked)
    assert longer.hash != first.hash


def test_unknown_tokens_stop(place: Any, marked: Any) -> None:
    tokenizer = train_tokenizer(["abc"], 300)
    tokenizer.chat_template = CHATML.replace("<|im_end|>", "</s>").replace("<|im_start|>", "<s>")
    tokenizer.unk_token = "a"
    assert refused(prepare_texts, place, options(place, {"text": "a b"}), tokenizer) == (
        "recipe.yaml:data: rows.jsonl: 1 of 5 tokens (20.0%) are unknown to the tokenizer; "
        "at most 1.0% may be\n"
        "  hint: use a tokenizer made for this text, or allow it with `limits: {unknown_tokens: 0.21}`"
    )


def test_every_limit_is_a_finding_and_every_finding_has_words() -> None:
    assert set(Limits.model_fields) <= set(FINDINGS)
    assert "\n" not in Ledger(name="x").describe()


def judged(number: int, label: bool) -> dict[str, Any]:
    return {"prompt": f"a {number}", "completion": "b", "label": label}


def test_rows_of_one_label_teach_nothing_and_stop(place: Any, marked: Any) -> None:
    good = [judged(n, True) for n in range(3)]
    assert refused(prepare_labels, place, options(place, *good), marked) == (
        "recipe.yaml:data: rows.jsonl: 3 of 3 rows (100.0%) all have the same label\n"
        "    rows.jsonl:1, rows.jsonl:2, rows.jsonl:3 (True)\n"
        "  hint: add rows of another label, or allow it with `limits: {one_label: 1.00}`"
    )
    allowed = options(place, *good, limits={"one_label": 1})
    assert len(prepare_labels(place, allowed, marked).train) == 3


def test_a_label_that_is_only_measured_on_stops(place: Any, marked: Any) -> None:
    options(place, judged(8, True), judged(9, False), name="eval.jsonl")
    chosen = options(
        place, *[judged(n, True) for n in range(3)], eval_data="eval.jsonl", limits={"one_label": 1}
    )
    assert refused(prepare_labels, place, chosen, marked) == (
        "recipe.yaml:eval_data: eval.jsonl: 1 of 2 rows (50.0%) have a label that no row to train on has\n"
        "    eval.jsonl:2 (False)\n"
        "  hint: add such rows to the training data, or remove these, or allow it with "
        "`limits: {unseen_labels: 0.51}`"
    )


def test_rows_that_are_far_longer_than_all_others_are_pointed_out(place: Any, marked: Any) -> None:
    rows = [*(talk(f"a {n}", "b") for n in range(199)), talk("how are you? " * 99, "ok")]
    ledger = prepare_conversations(place, options(place, *rows), marked).ledgers["data"]
    assert (
        "  1 are more than eight times as long as 99 of 100 rows, without a max_length "
        f"(rows.jsonl:200: the longest has {ledger.lengths['max']} tokens)\n"
    ) in ledger.describe()
    limited = options(place, *rows, limits={"outliers": 0})
    assert refused(prepare_conversations, place, limited, marked) == (
        "recipe.yaml:data: rows.jsonl: 1 of 200 rows (0.5%) are more than eight times as long as 99 of "
        "100 rows, without a max_length\n"
        f"    rows.jsonl:200 (the longest has {ledger.lengths['max']} tokens)\n"
        "  hint: set max_length; overflow sets the treatment of longer rows, or allow it with "
        "`limits: {outliers: 0.01}`"
    )
    cut = options(place, *rows, max_length=60, limits={"outliers": 0})
    assert "outliers" not in prepare_conversations(place, cut, marked).ledgers["data"].found

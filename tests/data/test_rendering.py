"""Batched renderings equal those of transformers, one at a time."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from copy import deepcopy
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aligner.data.encoding.chat import ChatEncoder, encode_pairs
from aligner.data.encoding.pieces import TextPiece
from aligner.data.reading.messages import MalformedRowError, read_turn, read_turns
from aligner.data.row_keys import content_key, prompt_key
from aligner.data.rows import (
    ClassifiedText,
    Conversation,
    LabeledCompletion,
    Preference,
    Prompt,
    Row,
    Text,
)
from aligner.data.templates.rendering import TemplateInput, assistant_indices

CALLS = (
    "{{- bos_token }}{%- if tools %}{{- '<|im_start|>tools ' + tools | tojson + '<|im_end|>\n' }}{%- endif %}"
    "{%- for m in messages %}{{- '<|im_start|>' + m['role'] + '\n' }}"
    "{%- if m['role'] == 'assistant' %}{%- generation %}"
    "{%- if m['reasoning_content'] %}{{- '[' ~ m['thinking'] ~ ']' }}{%- endif %}{{- m['content'] | trim }}"
    "{%- for call in m['tool_calls'] or [] %}{{- call | tojson }}{%- endfor %}"
    "{{- '<|im_end|>' }}{%- endgeneration %}"
    "{%- else %}{{- m['content'] + '<|im_end|>' }}{%- endif %}{{- '\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"
)
UNMARKED = CALLS.replace("{%- generation %}", "").replace("{%- endgeneration %}", "")

SAID = st.text(alphabet=st.sampled_from("ab .\n\t1'sé☃"), min_size=1, max_size=9).filter(str.strip)
VALUE = st.sampled_from([1, 1.0, True, None, "1", ["a", {"b": 0}], [0.0, {"b": False}]])
CALL = VALUE.map(lambda value: {"type": "function", "function": {"name": "f", "arguments": value}})
ASKS = SAID.map(lambda output: {"role": "user", "content": output})
ANSWERS = st.builds(
    lambda output, more: {"role": "assistant", "content": output, **more},
    SAID,
    st.one_of(
        st.just({}),
        st.lists(CALL, min_size=1, max_size=2).map(lambda calls: {"tool_calls": calls}),
        SAID.map(lambda output: {"reasoning": output}),
        st.sampled_from([{"weight": 0}, {"weight": 1}, {"name": "x"}]),
    ),
)
TALKS = st.lists(st.tuples(ASKS, ANSWERS), min_size=1, max_size=3).map(
    lambda pairs: tuple(item for pair in pairs for item in pair)
)
TOOLS = st.one_of(
    st.none(),
    VALUE.map(
        lambda value: ({"type": "function", "function": {"name": "f", "parameters": value}},)
    ),
)
MANY = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(params=["marked", "unmarked"])
def calling(request: pytest.FixtureRequest, bare: Any) -> Any:
    bare.chat_template = CALLS if request.param == "marked" else UNMARKED
    return bare


def slowly(messages: Sequence[Any], tools: Any, tokenizer: Any) -> tuple[list[int], list[bool]]:
    """Prefix by prefix: what the library shows, cut where it begins and ends to answer."""

    def shown(count: int, *, ask: bool) -> str:
        given = [
            {
                ("reasoning_content" if k == "reasoning" else k): v
                for k, v in m.items()
                if k != "weight"
            }
            for m in messages[:count]
        ]
        text: str = tokenizer.apply_chat_template(
            given, tools=tools and list(tools), tokenize=False, add_generation_prompt=ask
        )
        return text

    whole = shown(len(messages), ask=False)
    parts: list[tuple[str, bool]] = []
    end = 0
    for index, message in enumerate(messages):
        if message["role"] == "assistant":
            before, upto = shown(index, ask=True), shown(index + 1, ask=False).rstrip()
            assert whole.startswith(before)
            assert whole.startswith(upto)
            parts += [(whole[end : len(before)], False)]
            parts += [(whole[len(before) : len(upto)], bool(message.get("weight", 1)))]
            end = len(upto)
    ids, trained = [], []
    for text, is_trained in parts:
        tokens = tokenizer(text, add_special_tokens=False)["input_ids"]
        ids += tokens
        trained += [is_trained] * len(tokens)
    return ids, trained


@MANY
@given(talks=st.lists(st.tuples(TALKS, TOOLS), min_size=1, max_size=4))
def test_ids_and_masks_are_those_of_prefixes_rendered_by_the_library(
    calling: Any, talks: list[tuple[Any, Any]]
) -> None:
    chat = ChatEncoder(calling)
    samples = []
    for output, tools in talks:
        [sample] = chat.conversation(output, tools, "weighted")
        samples.append(sample)
    for (output, tools), item in zip(talks, chat.encode(samples), strict=True):
        assert (item.input_ids, item.trained) == slowly(output, tools, calling)


@settings(MANY, max_examples=20)
@given(
    pool=st.lists(st.tuples(ASKS, ANSWERS), min_size=1, max_size=3),
    order=st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=3), min_size=2, max_size=6),
    tools=st.lists(TOOLS, min_size=1, max_size=2),
)
def test_what_was_rendered_before_changes_nothing(
    calling: Any, pool: list[Any], order: list[list[int]], tools: list[Any]
) -> None:
    """Many conversations begin alike; each is rendered as by a template that saw no other."""
    used = ChatEncoder(calling)
    for number, places in enumerate(order):
        output = tuple(item for place in places for item in pool[place % len(pool)])
        given_tools = tools[number % len(tools)]
        for look in looks(output, given_tools):
            assert look(used) == look(ChatEncoder(calling))


def looks(output: Any, tools: Any) -> list[Callable[[ChatEncoder], Any]]:
    """All ways of rendering a conversation."""
    return [
        lambda chat: chat.pair(output[:-1], output[-1:], tools),
        lambda chat: chat.prompt(output[:-1], tools),
        lambda chat: chat.conversation(output[:-1], tools, "everything"),
        lambda chat: chat.conversation(output, tools, "assistant"),
    ]


def test_numbers_that_are_equal_are_still_shown_as_they_are_written(calling: Any) -> None:
    chat = ChatEncoder(calling)
    for with_tools in (False, True):
        for value in (1, 1.0, True):
            function = {"name": "f", "arguments": {"x": value}}
            call = {"role": "assistant", "content": "", "tool_calls": [{"function": function}]}
            prompt = ({"role": "user", "content": "a"}, call, {"role": "tool", "content": "b"})
            tools = ({"type": "function", "function": {"name": "f", "x": value}},)
            sample = chat.prompt(prompt, tools if with_tools else None)
            text = "".join(piece.text for piece in sample.pieces)
            assert f'{{"x": {json.dumps(value)}}}' in text
            assert (f'"x": {json.dumps(value)}}}}}]' in text) == with_tools


@MANY
@given(talk=TALKS, other=SAID)
def test_both_sides_of_a_pair_are_conversations_of_their_own(
    calling: Any, talk: Any, other: str
) -> None:
    chat = ChatEncoder(calling)
    row = Preference(prompt=talk[:-1], chosen=talk[-1:],
                     rejected=({"role": "assistant", "content": other},))  # fmt: skip
    sides = [chat.pair(row.prompt, side, None) for side in (row.chosen, row.rejected)]
    [pair] = encode_pairs([row], sides, chat)
    assert pair is not None
    for answer, ids in ((row.chosen, pair.chosen_ids), (row.rejected, pair.rejected_ids)):
        assert pair.prompt_ids + ids == slowly((*row.prompt, *answer), None, calling)[0]


@MANY
@given(talk=TALKS, tools=TOOLS, others=st.lists(st.tuples(SAID, st.booleans()), max_size=6))
def test_conversations_that_share_turns_are_rendered_as_if_each_was_alone(
    calling: Any, talk: Any, tools: Any, others: list[tuple[str, bool]]
) -> None:
    refused = "{%- if messages[-1].content == 'a' %}{{ raise_exception('a') }}{%- endif %}"
    calling.chat_template = refused + calling.chat_template
    template = ChatEncoder(calling).template
    last = len(assistant_indices(talk)) - 1
    given = [TemplateInput(talk, tools, prove=[last])]
    for answer, with_tools in others:
        turns = (*talk[:-1], {"role": "assistant", "content": answer})
        given.append(TemplateInput(turns, tools if with_tools else None, prove=[last]))
        given.append(TemplateInput(turns[:-1], tools, ask=True))
    alone = [
        template.render_all([deepcopy(each)], lambda _, rendered: rendered)[0] for each in given
    ]
    for batch in (100, 3):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("aligner.data.templates.renderer.MAX_CONVERSATIONS", batch)
            together = template.render_all(given, lambda _, rendered: rendered)
        assert list(map(repr, together)) == list(map(repr, alone))


@MANY
@given(texts=st.lists(SAID, min_size=20, max_size=25))
def test_pieces_have_the_same_ids_in_a_large_batch_as_alone(calling: Any, texts: list[str]) -> None:
    encoder = ChatEncoder(calling).encoder
    pieces = [TextPiece(f"{text} <|im_end|>", literal=n % 2 == 0) for n, text in enumerate(texts)]
    assert encoder.encode(pieces) == [encoder.encode([piece])[0] for piece in pieces]


ANY = st.text(max_size=8)
TURNS = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["system", "user", "assistant", "tool"]), "content": ANY},
        optional={
            "name": ANY,
            "weight": st.integers(0, 1),
            "tool_calls": st.lists(CALL, max_size=2),
        },
    ),
    max_size=3,
).map(tuple)
ROWS: st.SearchStrategy[Row] = st.one_of(
    st.builds(Text, text=ANY, origin=ANY),
    st.builds(ClassifiedText, text=ANY, pair=st.none() | ANY, label=ANY),
    st.builds(Conversation, messages=TURNS, tools=TOOLS),
    st.builds(Prompt, messages=TURNS, row=st.dictionaries(ANY, VALUE, max_size=2)),
    st.builds(LabeledCompletion, prompt=TURNS, completion=TURNS, label=st.booleans()),
    st.builds(
        Preference, prompt=TURNS, chosen=TURNS, rejected=TURNS, margin=st.none() | st.floats()
    ),
)


@MANY
@given(row=ROWS)
def test_keys_are_those_of_plain_json(row: Row) -> None:
    """Hold-out goes by one, samples by the other: neither may change from version to version."""
    fields = {name: value for name, value in vars(row).items() if name != "origin"}
    whole = json.dumps(fields, sort_keys=True, default=str)
    assert content_key(row) == sha256(whole.encode()).digest()
    if not isinstance(row, Text | ClassifiedText):
        asked = []
        for message in getattr(row, "messages", getattr(row, "prompt", ())):
            if message["role"] == "assistant":
                break
            if message["role"] != "system":
                asked.append([message["role"], message["content"]])
        assert prompt_key(row) == json.dumps(asked, ensure_ascii=False)


SPELLINGS = st.fixed_dictionaries(
    {},
    optional={
        "role": st.sampled_from(["user", "gpt", "function_call", "nobody", None, 3]),
        "from": st.sampled_from(["human", "assistant", None]),
        "content": st.sampled_from(["a", "é", "", "\ud800", None, 3, ["a"]]),
        "value": st.sampled_from(["b", None, '{"name": "f"}']),
    },
)


@MANY
@given(written=SPELLINGS)
def test_a_simple_turn_is_read_as_any_other(written: dict[str, Any]) -> None:
    def read(make: Any) -> Any:
        try:
            return make()
        except MalformedRowError as error:
            return str(error)

    item = read(lambda: read_turns([written], "messages"))
    other = read(lambda: (read_turn(written, "messages[0]"),))
    assert item == other

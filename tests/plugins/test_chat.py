"""Every named template writes what its users know, trains its stop token, and obeys the laws."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aligner import (
    AlignerError,
    ModelCache,
    ModelState,
    PlanContext,
    Registry,
    SlotForecast,
    StepContext,
)
from aligner.data.encoding.chat import (
    encode_conversation,
    encode_preference,
    encode_prompt,
    stop_tokens,
)
from aligner.data.encoding.tokenizers import (
    load_tokenizer,
    save_tokenizer,
    tokenizer_hash,
    train_tokenizer,
)
from aligner.data.rows import Conversation, Preference
from aligner.errors import error_location
from aligner.models.model_info import model_info
from aligner.models.resolve import resolve, resolve_tokenizer
from aligner_chat.named_templates import template_names
from aligner_chat.options import ChatOptions
from aligner_chat.stage import Chat
from aligner_chat.tokenizer import with_template

SHARED = Path(os.environ.get("ALIGNER_SHARED", Path(__file__).parents[2] / ".." / "shared"))
ASKED = {"role": "user", "content": "Hi?"}
SAID = {"role": "assistant", "content": "Yes."}
MORE = {"role": "user", "content": "So?"}
DONE = {"role": "assistant", "content": "No."}
SYSTEM = {"role": "system", "content": "Be brief."}
TALK = (ASKED, SAID, MORE, DONE)

ALPACA = (
    "Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request.\n\n"
)
VICUNA = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives "
    "helpful, detailed, and polite answers to the user's questions. "
)
WRITTEN: dict[str, tuple[str, str, str]] = {
    "alpaca": (
        f"<s>{ALPACA}### Instruction:\nHi?\n\n### Response:\nYes.</s>\n\n"
        "### Instruction:\nSo?\n\n### Response:\nNo.</s>",
        "<s>Be brief.\n\n### Instruction:\nHi?\n\n### Response:\n",
        "</s>",
    ),
    "chatml": (
        "<s><|im_start|>user\nHi?<|im_end|>\n<|im_start|>assistant\nYes.<|im_end|>\n"
        "<|im_start|>user\nSo?<|im_end|>\n<|im_start|>assistant\nNo.<|im_end|>",
        "<s><|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi?<|im_end|>\n"
        "<|im_start|>assistant\n",
        "<|im_end|>",
    ),
    "deepseek": (
        "<s><｜User｜>Hi?<｜Assistant｜>Yes.</s><｜User｜>So?<｜Assistant｜>No.</s>",
        "<s>Be brief.<｜User｜>Hi?<｜Assistant｜>",
        "</s>",
    ),
    "gemma": (
        "<s><start_of_turn>user\nHi?<end_of_turn>\n<start_of_turn>model\nYes.<end_of_turn>\n"
        "<start_of_turn>user\nSo?<end_of_turn>\n<start_of_turn>model\nNo.<end_of_turn>",
        "<s><start_of_turn>user\nBe brief.\n\nHi?<end_of_turn>\n<start_of_turn>model\n",
        "<end_of_turn>",
    ),
    "llama-2": (
        "<s>[INST] Hi? [/INST] Yes. </s><s>[INST] So? [/INST] No. </s>",
        "<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nHi? [/INST]",
        "</s>",
    ),
    "llama-3": (
        "<s><|start_header_id|>user<|end_header_id|>\n\nHi?<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\nYes.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nSo?<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\nNo.<|eot_id|>",
        "<s><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nHi?<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n",
        "<|eot_id|>",
    ),
    "mistral": (
        "<s>[INST] Hi? [/INST] Yes.</s>[INST] So? [/INST] No.</s>",
        "<s>[INST] Be brief.\n\nHi? [/INST]",
        "</s>",
    ),
    "phi-3": (
        "<s><|user|>\nHi?<|end|>\n<|assistant|>\nYes.<|end|>\n"
        "<|user|>\nSo?<|end|>\n<|assistant|>\nNo.<|end|>",
        "<s><|system|>\nBe brief.<|end|>\n<|user|>\nHi?<|end|>\n<|assistant|>\n",
        "<|end|>",
    ),
    "qwen": (
        "<s><|im_start|>user\nHi?<|im_end|>\n<|im_start|>assistant\nYes.<|im_end|>\n"
        "<|im_start|>user\nSo?<|im_end|>\n<|im_start|>assistant\nNo.<|im_end|>",
        "<s><|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi?<|im_end|>\n"
        "<|im_start|>assistant\n",
        "<|im_end|>",
    ),
    "tiny": (
        "<s><|user|>Hi?<|end|><|assistant|>Yes.<|end|><|user|>So?<|end|><|assistant|>No.<|end|>",
        "<s><|system|>Be brief.<|end|><|user|>Hi?<|end|><|assistant|>",
        "<|end|>",
    ),
    "vicuna": (
        f"<s>{VICUNA}USER: Hi? ASSISTANT: Yes.</s>USER: So? ASSISTANT: No.</s>",
        "<s>Be brief. USER: Hi? ASSISTANT:",
        "</s>",
    ),
    "zephyr": (
        "<s><|user|>\nHi?</s>\n<|assistant|>\nYes.</s>\n<|user|>\nSo?</s>\n<|assistant|>\nNo.</s>",
        "<s><|system|>\nBe brief.</s>\n<|user|>\nHi?</s>\n<|assistant|>\n",
        "</s>",
    ),
}  # fmt: skip


def base() -> Any:
    texts = ["hello user, how are you? the assistant says yes.", "1 2 3", "system"]
    return train_tokenizer(texts * 9, 380)


def given_template(tokenizer: Any, name: str, **options: Any) -> Any:
    config = ChatOptions(template=name, **options)
    with error_location("recipe.yaml:4"):
        return with_template(tokenizer, config, folder=Path())


@pytest.fixture(scope="module")
def made() -> dict[str, Any]:
    tokenizer = base()
    return {name: given_template(tokenizer, name) for name in template_names()}


def test_every_template_is_written_out_here() -> None:
    assert set(WRITTEN) == set(template_names())


@pytest.mark.parametrize("name", WRITTEN)
def test_a_template_writes_what_its_users_know(made: dict[str, Any], name: str) -> None:
    tokenizer = made[name]
    conversation, prompt, stop = WRITTEN[name]
    encoded = encode_conversation(Conversation(messages=TALK), tokenizer)
    assert tokenizer.decode(encoded.input_ids) == conversation
    assert tokenizer.decode(encode_prompt((SYSTEM, ASKED), tokenizer)) == prompt
    assert tokenizer.decode(stop_tokens(tokenizer)) == stop
    ends = [tokenizer.decode([encoded.input_ids[end - 1]]) for end in encoded.ends]
    assert ends == [stop, stop]
    assert all(encoded.trained[end - 1] for end in encoded.ends)


@pytest.mark.parametrize("name", WRITTEN)
def test_ids_are_those_of_the_saved_tokenizer_in_the_library(
    made: dict[str, Any], name: str, tmp_path: Path
) -> None:
    exported = load_tokenizer(save_tokenizer(made[name], tmp_path / name), ModelCache())
    assert tokenizer_hash(exported) == tokenizer_hash(made[name])
    for messages in (TALK, (SYSTEM, *TALK)):
        encoded = encode_conversation(Conversation(messages=messages), made[name])
        theirs = exported.apply_chat_template(list(messages), return_dict=False)
        assert encoded.input_ids == theirs[: len(encoded.input_ids)]
        assert not exported.decode(theirs[len(encoded.input_ids) :]).strip()
        asked = exported.apply_chat_template(
            list(messages[:-1]), add_generation_prompt=True, return_dict=False
        )
        assert encode_prompt(messages[:-1], made[name]) == asked


@pytest.mark.parametrize("name", WRITTEN)
def test_padding_is_a_token_of_its_own(made: dict[str, Any], name: str) -> None:
    tokenizer = made[name]
    others = {tokenizer.eos_token_id, tokenizer.bos_token_id, tokenizer.unk_token_id}
    assert tokenizer.pad_token_id not in {*others, *stop_tokens(tokenizer)}


TEXT = st.text(alphabet=st.sampled_from("ab .?\n<|>[]/INSTend_☃"), max_size=14)
SPELLED = st.sampled_from(
    ["<|im_end|>", "</s>", "<|end|>", "<end_of_turn>", "[/INST]", "<s>", "<|eot_id|>", "", "x"]
)
WORDS = st.tuples(TEXT, SPELLED, TEXT).map("".join)
ASKS = WORDS.filter(str.strip)
TRIMS = {"llama-2", "llama-3", "gemma"}
AROUND = {"llama-2": (" ", " "), "mistral": (" ", ""), "vicuna": (" ", "")}


@settings(max_examples=25, deadline=None)
@given(pairs=st.lists(st.tuples(ASKS, WORDS), min_size=1, max_size=3), other=ASKS)
@pytest.mark.parametrize("name", WRITTEN)
def test_laws_of_every_template(name: str, pairs: list[tuple[str, str]], other: str) -> None:
    """The prompt is a prefix, the answers are trained with their stop token, pairs are the same tokens."""
    tokenizer = TOKENIZERS.setdefault(name, given_template(base(), name))
    messages = tuple(
        {"role": role, "content": content}
        for pair in pairs
        for role, content in zip(("user", "assistant"), pair, strict=True)
    )
    encoded = encode_conversation(Conversation(messages=messages), tokenizer)
    stop = WRITTEN[name][2]
    before, after = AROUND.get(name, ("", ""))
    expected = [output.strip() if name in TRIMS else output for _, output in pairs]
    answers = []
    start = 0
    for end in encoded.ends:
        begin = encoded.trained.index(True, start)
        answers.append(tokenizer.decode(encoded.input_ids[begin:end]))
        assert all(encoded.trained[begin:end])
        start = end
    assert not any(encoded.trained[start:])
    assert answers == [f"{before}{output}{after}{stop}" for output in expected]
    prompt = encode_prompt(messages[:-1], tokenizer)
    assert encoded.input_ids[: len(prompt)] == prompt
    rejected = ({"role": "assistant", "content": other},)
    row = Preference(prompt=messages[:-1], chosen=messages[-1:], rejected=rejected)
    pair = encode_preference(row, tokenizer)
    assert pair.prompt_ids == prompt
    assert pair.prompt_ids + pair.chosen_ids == encoded.input_ids
    (stop_id,) = stop_tokens(tokenizer)
    pairs_of_tokens = zip(encoded.input_ids, encoded.trained, strict=True)
    assert sum(token == stop_id for token, is_trained in pairs_of_tokens if is_trained) == len(
        pairs
    )


TOKENIZERS: dict[str, Any] = {}


def refused(tokenizer: Any, name: str, **options: Any) -> str:
    with pytest.raises(AlignerError) as error:
        given_template(tokenizer, name, **options)
    return str(error.value)


def test_an_unknown_template_suggests_the_nearest() -> None:
    assert refused(base(), "llama3") == (
        "recipe.yaml:4: there is no chat template 'llama3'\n  hint: did you mean 'llama-3'?"
    )
    assert refused(base(), "my/own.jinja") == (
        "recipe.yaml:4: cannot read the chat template 'my/own.jinja': No such file or directory"
    )
    assert refused(base(), "own") == (
        "recipe.yaml:4: the tokenizer has no chat template of its own\n"
        "  hint: name one, such as `template: chatml`"
    )


def test_a_template_whose_answers_never_stop_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "plain.jinja"
    path.write_text(
        "{% for m in messages %}{{ m.role + ': ' + m.content + '\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
    )
    assert refused(base(), str(path)) == (
        "recipe.yaml:4: the chat template does not end answers with a special token, so they would "
        "never stop\n  hint: put one at the end of the generation block, and name it with `end_of_turn`"
    )


def test_a_template_that_writes_its_marker_as_plain_text_is_refused_until_it_is_a_token(
    tmp_path: Path,
) -> None:
    path = tmp_path / "marker.jinja"
    path.write_text(
        "{% for m in messages %}{{ m.role + ': ' + m.content + '<stop>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
    )
    assert "never stop" in refused(base(), str(path))
    tokenizer = given_template(base(), str(path), end_of_turn="<stop>")
    assert tokenizer.eos_token == "<stop>"
    encoded = encode_conversation(Conversation(messages=(ASKED, SAID)), tokenizer)
    assert tokenizer.decode(encoded.input_ids) == "<s>user: Hi?<stop>\nassistant: Yes.<stop>"


def test_a_default_system_turn_yields_to_one_in_the_row() -> None:
    tokenizer = given_template(base(), "tiny", system="Don't 'shout'\\n ☃😀\n{{ x }}")
    assert tokenizer.decode(encode_prompt((ASKED,), tokenizer)) == (
        "<s><|system|>Don't 'shout'\\n ☃😀\n{{ x }}<|end|><|user|>Hi?<|end|><|assistant|>"
    )
    assert tokenizer.decode(encode_prompt((SYSTEM, ASKED), tokenizer)) == WRITTEN["tiny"][1]
    assert refused(base(), "tiny", system="a<|end|>") == (
        "recipe.yaml:4: the system turn contains the special token '<|end|>'\n"
        "  hint: remove it from `system`"
    )


def test_the_beginning_is_written_once_or_not_at_all() -> None:
    assert (
        given_template(base(), "tiny", bos=False).decode(
            encode_prompt((ASKED,), given_template(base(), "tiny", bos=False))
        )
        == "<|user|>Hi?<|end|><|assistant|>"
    )
    again = given_template(given_template(base(), "tiny"), "own")
    assert again.decode(encode_prompt((ASKED,), again)) == "<s><|user|>Hi?<|end|><|assistant|>"


def test_qwen_writes_tools_calls_results_and_reasoning(made: dict[str, Any]) -> None:
    tools = ({"type": "function", "function": {"name": "add"}},)
    call = {"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}
    messages = (
        ASKED,
        {"role": "assistant", "content": "", "reasoning": "Add.", "tool_calls": [call]},
        {"role": "tool", "content": "1"},
        {"role": "tool", "content": "2"},
        SAID,
    )
    tokenizer = made["qwen"]
    row = Conversation(messages=messages, tools=tools)
    assert tokenizer.decode(encode_conversation(row, tokenizer).input_ids) == (
        "<s><|im_start|>system\n# Tools\n\nThese functions can be called:\n<tools>\n"
        '{"type": "function", "function": {"name": "add"}}\n</tools>\n\n'
        'A call is written as\n<tool_call>\n{"name": …, "arguments": {…}}\n</tool_call><|im_end|>\n'
        "<|im_start|>user\nHi?<|im_end|>\n"
        "<|im_start|>assistant\n<think>\nAdd.\n</think>\n\n"
        '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call><|im_end|>\n'
        "<|im_start|>user\n<tool_response>\n1\n</tool_response>\n"
        "<tool_response>\n2\n</tool_response><|im_end|>\n"
        "<|im_start|>assistant\nYes.<|im_end|>"
    )


@pytest.fixture
def stories() -> Path:
    if not (SHARED / "models" / "stories260K").is_dir():
        pytest.skip(f"the real model is not at {SHARED}; say where with ALIGNER_SHARED")
    return SHARED / "models" / "stories260K"


@pytest.mark.parametrize("name", WRITTEN)
def test_ids_are_those_of_the_library_for_a_tokenizer_that_puts_spaces_before_texts(
    stories: Path, name: str
) -> None:
    words = load_tokenizer(resolve_tokenizer(str(stories)), ModelCache())
    tokenizer = given_template(words, name)
    for messages in (TALK, (SYSTEM, *TALK)):
        encoded = encode_conversation(Conversation(messages=messages), tokenizer)
        theirs = tokenizer.apply_chat_template(list(messages), return_dict=False)
        assert encoded.input_ids == theirs[: len(encoded.input_ids)]
        asked = tokenizer.apply_chat_template(
            list(messages[:-1]), add_generation_prompt=True, return_dict=False
        )
        assert encode_prompt(messages[:-1], tokenizer) == asked


def test_the_stage_gives_the_model_the_rows_its_plan_says(stories: Path, tmp_path: Path) -> None:
    policy, words = resolve(str(stories)), resolve_tokenizer(str(stories))
    slots: Any = {
        "policy": SlotForecast(made_by="model", facts={"artifact": policy}),
        "tokenizer": SlotForecast(made_by="model", facts={"artifact": words}),
    }
    look = PlanContext(step="chat", where="recipe.yaml:3", recipe_folder=tmp_path, seed=0, slots=slots,
                registry=Registry(), memo={})  # fmt: skip
    stage = Chat(ChatOptions(template="tiny"))
    plan = stage.plan(look)
    assert plan.summary == "format conversations as tiny, ended by <|end|>"
    assert plan.notes == ("6 tokens are new to the tokenizer, 6 to the model",)
    model_cache = ModelCache()
    run = StepContext(step="chat", folder=tmp_path, recipe_folder=tmp_path, where="recipe.yaml:3", seed=0,
              plan=plan, model_cache=model_cache, registry=Registry(), memo={})  # fmt: skip
    state = stage.run(ModelState(policy=policy, tokenizer=words), run)
    assert state.policy is not None
    assert state.tokenizer is not None
    planned, found = plan.slots["policy"].facts["model"], model_info(state.policy)
    assert (found.vocab_size, found.parameters) == (planned.vocab_size, planned.parameters)
    saved = load_tokenizer(state.tokenizer, ModelCache())
    assert tokenizer_hash(saved) == tokenizer_hash(plan.slots["tokenizer"].facts["tokenizer"])
    model = model_cache.take(state.policy)
    rows = model.get_input_embeddings().weight
    assert rows.shape[0] == len(saved) == 518
    assert rows[512:].allclose(rows[:512].mean(dim=0).expand(6, -1), atol=1e-6)
    ids = [saved.convert_tokens_to_ids("<|end|>"), saved.convert_tokens_to_ids("</s>")]
    assert model.generation_config.eos_token_id == ids
    assert model.generation_config.pad_token_id == saved.convert_tokens_to_ids("<pad>")


def test_a_model_that_has_all_the_rows_is_handed_on_as_it_is(stories: Path, tmp_path: Path) -> None:
    policy, words = resolve(str(stories)), resolve_tokenizer(str(stories))
    path = tmp_path / "own.jinja"
    path.write_text(
        "{% for m in messages %}{{ m.role + ': ' + m.content + eos_token }}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
    )
    tokenizer = load_tokenizer(words, ModelCache())
    tokenizer.pad_token = "<0x00>"
    words = save_tokenizer(tokenizer, tmp_path / "words")
    context: Any = StepContext(
        step="chat",
        folder=tmp_path / "out",
        recipe_folder=tmp_path,
        where="recipe.yaml:3",
        seed=0,
        plan=None,  # type: ignore[arg-type]
        model_cache=ModelCache(),
        registry=Registry(),
        memo={},
    )
    state = Chat(ChatOptions(template="own.jinja")).run(
        ModelState(policy=policy, tokenizer=words), context
    )
    assert state.policy is not None
    assert (state.policy.path, state.policy.hash) == (policy.path, policy.hash)

"""Conversations with the model of a step, through a pipe and in a terminal."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from aligner.chat.model import ChatModel, ChatPrompt
from aligner.chat.reply import Reply
from aligner.chat.session import HELP, ChatSession
from aligner.chat.settings import ChatSettings
from aligner.chat.views import SequentialView, SideBySideView
from aligner.data.encoding.chat import encode_prompt
from aligner.models.generate import GeneratedToken, Sampling, generate
from aligner.terminal.text import escape_controls

Aligner = Callable[..., tuple[int, str, str]]
GREEDY = ("--temperature", "0", "--max-new-tokens", "5")
_CONTROL = re.compile(r"\x1b\[[?\d;]*[A-Za-z]")
TRUNCATED = "(truncated at 5 tokens; /set max_new_tokens allows more)\n"


def _answer(model: ChatModel, *turns: str, system: str = "", tokens: int = 5) -> str:
    """Return the model's answer from the sampler alone."""
    head = ({"role": "system", "content": system},) if system else ()
    roles = ("user", "assistant")
    messages = tuple({"role": roles[n % 2], "content": turn} for n, turn in enumerate(turns))
    ids = encode_prompt((*head, *messages), model.tokenizer)
    sampling = Sampling(stop_tokens=model.stop_tokens, max_new_tokens=tokens)
    return generate(model.model, [ids], sampling=sampling)[0].text(model.tokenizer)


def test_each_line_is_answered_with_all_turns_before_it(aligner: Aligner, model: ChatModel) -> None:
    code, out, err = aligner("chat", "small", *GREEDY, typed="a red cat\n\nand \\\na dog\n")
    first = _answer(model, "a red cat")
    second = _answer(model, "a red cat", first, "and \na dog")
    assert (code, out, err) == (
        0,
        f"{escape_controls(first)}\n{escape_controls(second)}\n",
        TRUNCATED + TRUNCATED,
    )


def test_the_system_message_comes_first_and_can_be_changed(
    aligner: Aligner, model: ChatModel
) -> None:
    typed = "hi\n/undo\n/system Be big.\nhi\n/undo\n/system\nhi\n"
    code, out, err = aligner("chat", "small", *GREEDY, "--system", "Be small.", typed=typed)
    answers = [_answer(model, "hi", system=text) for text in ("Be small.", "Be big.", "")]
    assert (code, out) == (0, "".join(f"{escape_controls(answer)}\n" for answer in answers))
    assert err == (
        f"{TRUNCATED}(removed: hi)\n(system message set)\n"
        f"{TRUNCATED}(removed: hi)\n(system message removed)\n{TRUNCATED}"
    )


def test_a_saved_chat_is_a_row_of_training_data(
    aligner: Aligner, model: ChatModel, tmp_path: Path
) -> None:
    file = tmp_path / "saved.jsonl"
    typed = f"one\ntwo\n/undo\n/save {file}\n//two\n/save {file}\n/quit\nnever read\n"
    code, _, err = aligner("chat", "small", *GREEDY, typed=typed)
    first = _answer(model, "one")
    turns: list[Any] = [
        {"role": "user", "content": "one"}, {"role": "assistant", "content": first},
        {"role": "user", "content": "/two"},
        {"role": "assistant", "content": _answer(model, "one", first, "/two")},
    ]  # fmt: skip
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert rows == [{"messages": turns[:2]}, {"messages": turns}]
    saved = f"(1 conversation appended to {file})\n"
    assert (code, err) == (0, f"{TRUNCATED}{TRUNCATED}(removed: two)\n{saved}{TRUNCATED}{saved}")


def test_retry_gives_another_answer_unless_decoding_is_greedy(
    aligner: Aligner, model: ChatModel, tmp_path: Path
) -> None:
    typed = "a cat\n/retry\n/retry\n"
    hot = ("--temperature", "2", "--max-new-tokens", "5", "--seed", "3")
    _, out, _ = aligner("chat", "small", *hot, typed=typed)
    assert len(set(out.splitlines())) == 3
    assert aligner("chat", "small", *hot, typed=typed)[1] == out
    _, out, _ = aligner("chat", "small", *hot, typed="a cat\n/set temperature 0\n/retry\n/retry\n")
    assert out.splitlines()[1:] == [escape_controls(_answer(model, "a cat"))] * 2
    aligner("chat", "small", *hot, typed=f"a cat\n/retry\n/save {tmp_path / 'saved'}\n")
    saved = json.loads((tmp_path / "saved").read_text())["messages"]
    assert [turn["content"] for turn in saved if turn["role"] == "user"] == ["a cat"]


def test_two_models_answer_below_their_names_and_continue_from_their_own_answers(
    aligner: Aligner, tmp_path: Path
) -> None:
    file = tmp_path / "both.jsonl"
    typed = f"a cat\na dog\n/save {file}\n"
    code, out, err = aligner(
        "chat", "small", "--step", "sft", "--compare", "dpo", *GREEDY, typed=typed
    )
    alone = [
        aligner("chat", "small", "--step", step, *GREEDY, typed="a cat\na dog\n")[1].splitlines()
        for step in ("sft", "dpo")
    ]
    turns = [f"sft:\n{sft}\ndpo:\n{dpo}\n" for sft, dpo in zip(*alone, strict=True)]
    assert (code, out) == (0, "".join(turns))
    assert err == TRUNCATED * 4 + f"(2 conversations appended to {file})\n"
    rows = [json.loads(line)["messages"] for line in file.read_text().splitlines()]
    assert [[turn["role"] for turn in row] for row in rows] == [["user", "assistant"] * 2] * 2


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("/rerty\n", "unknown command /rerty\n  hint: did you mean '/retry'?\n"),
        ("/undo\n", "the chat is empty\n"),
        ("/save\n", "/save needs the name of a file\n  hint: /save conversations.jsonl\n"),
        ("/set heat 3\n", "unknown option 'heat'\n  hint: known: max_new_tokens, seed, "
                          "temperature, top_k, top_p\n"),
        ("/set top-p 3\n", "top_p: '3' is not a number above 0 and up to 1\n"),
    ],
)  # fmt: skip
def test_an_error_ends_a_script(aligner: Aligner, typed: str, message: str) -> None:
    code, out, err = aligner("chat", "small", *GREEDY, typed=typed)
    assert (code, out, err) == (2, "", message)


def test_a_message_longer_than_the_context_is_refused(aligner: Aligner, model: ChatModel) -> None:
    turn = "word " * 50
    count = len(encode_prompt(({"role": "user", "content": turn.strip()},), model.tokenizer))
    message = (
        f"the message has {count} tokens, and the model's context is 96\n"
        "  hint: write a shorter message\n"
    )
    assert aligner("chat", "small", *GREEDY, typed=turn) == (2, "", message)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("smal",), "runs: no run is called 'smal'\n  hint: did you mean 'small'?\n"),
        (("small", "--step", "ppo"), "runs/small: run 'small' has no finished step 'ppo'\n"
                                     "  hint: did you mean 'dpo'?\n"),
        (("small", "--step", "1-pretrain"),
         "runs/small/steps/1-pretrain: the tokenizer of step 'pretrain' has no chat template\n"
         "  hint: choose a later step, or add a `chat` step to the recipe\n"),
        (("small", "--step", "dpo", "--compare", "reward"),
         "runs/small: steps 'dpo' and 'reward' have the same policy\n"
         "  hint: name another step after --compare\n"),
    ],
)  # fmt: skip
def test_a_model_that_cannot_chat_is_refused(
    aligner: Aligner, words: tuple[str, ...], message: str
) -> None:
    assert aligner("chat", *words) == (2, "", message)


def test_a_run_may_be_named_by_its_folder(aligner: Aligner, small_run: Path) -> None:
    by_folder = aligner(
        "chat", str(small_run / "runs" / "small"), *GREEDY, "--runs", "/", typed="hi\n"
    )
    assert by_folder == aligner("chat", "small", *GREEDY, typed="hi\n")
    assert by_folder[0] == 0


def test_the_oldest_turns_are_dropped_when_they_exceed_the_context(model: ChatModel) -> None:
    view = RecordingView()
    session = ChatSession(
        [model], ChatSettings(temperature=0, max_new_tokens=30), view, system="Be."
    )
    for _ in range(5):
        session.handle("a red cat sees a blue dog")
    assert len(session.dialogues[0].messages) == 11
    [note] = set(view.notes[-1:])
    assert note.startswith("(dpo no longer sees the first ")
    assert note.endswith(" turns: its context is 96 tokens)")


@pytest.mark.parametrize("max_new_tokens", [1, 10, 30, 200])
def test_no_more_turns_are_dropped_than_an_answer_needs(
    model: ChatModel, max_new_tokens: int
) -> None:
    system = {"role": "system", "content": "Be."}
    turns: list[Any] = []
    for number in range(12):
        turns += [{"role": "user", "content": "a red" + " cat" * (number % 3)}]
        prompt = model.fit((system, *turns), max_new_tokens=max_new_tokens)
        kept = turns[prompt.dropped_turns :]
        assert kept[0]["role"] == "user"
        assert prompt.input_ids == encode_prompt((system, *kept), model.tokenizer)
        free = 96 - len(prompt.input_ids)
        assert free >= min(max_new_tokens, 24)
        assert prompt.max_new_tokens == min(free, max_new_tokens)
        if prompt.dropped_turns:
            longer = encode_prompt((system, *turns[prompt.dropped_turns - 2 :]), model.tokenizer)
            assert 96 - len(longer) < min(max_new_tokens, 24)
        turns += [{"role": "assistant", "content": "to" * (number % 2 + 1)}]
    assert prompt.dropped_turns > 0


def test_a_stopped_answer_ends_and_stays_in_the_chat(
    model: ChatModel, capsys: pytest.CaptureFixture[str]
) -> None:
    interrupted = _interrupted(model, after=2)
    session = ChatSession(
        [interrupted], ChatSettings(temperature=0), SequentialView(Console(width=80))
    )
    session.handle("a red cat")
    answer = _answer(model, "a red cat", tokens=2)
    assert session.dialogues[0].messages[-1] == {"role": "assistant", "content": answer}
    assert capsys.readouterr().err == "(stopped)\n"


def test_a_question_whose_answer_is_stopped_before_its_first_word_is_removed(
    model: ChatModel, capsys: pytest.CaptureFixture[str]
) -> None:
    session = ChatSession(
        [_interrupted(model, after=0)],
        ChatSettings(temperature=0),
        SequentialView(Console(width=80)),
    )
    session.handle("a red cat")
    assert session.dialogues[0].messages == ()
    notes = "(stopped)\n(stopped before the first word; the question was removed)\n"
    assert capsys.readouterr().err == notes


def test_answers_are_side_by_side_on_a_wide_terminal(
    model: ChatModel, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    options = ChatSettings(temperature=0)
    (ids,) = model.encode([(({"role": "user", "content": "a red cat"},), None)])
    prompt = ChatPrompt(input_ids=ids, dropped_turns=0, max_new_tokens=4)
    replies = [
        Reply(replace(model, name=name), prompt, options, seed=0) for name in ("one", "other")
    ]
    with (tmp_path / "output").open("w") as file:
        SideBySideView(Console(file=file, width=100)).show(replies)
    lines = (tmp_path / "output").read_text().splitlines()
    half = escape_controls(_answer(model, "a red cat", tokens=4))
    assert lines[-2:] == ["one" + " " * 47 + "other", f"{half:<50}{half}".rstrip()]
    note = "truncated at 4 tokens; /set max_new_tokens allows more"
    assert capsys.readouterr().err == f"(one: {note})\n(other: {note})\n"


def test_in_a_terminal_ctrl_c_does_not_leave_and_ctrl_d_does(small_run: Path) -> None:
    words = [sys.executable, "-m", "aligner.cli", "chat", "small", *GREEDY]
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80"}
    process = subprocess.Popen(
        words, cwd=small_run, stdin=theirs, stdout=theirs, stderr=theirs, env=environment,
        start_new_session=True, preexec_fn=_own_terminal,
    )  # fmt: skip
    os.close(theirs)
    try:
        _until(ours, "> ")
        assert "(Ctrl-D or /quit leaves)" in _until(ours, "leaves)", typing=b"\x03")
        os.write(ours, b"/help\n")
        assert HELP.splitlines()[0] in _until(ours, HELP.splitlines()[-1])
        os.write(ours, b"a cat\n")
        _until(ours, "allows more)\n> ")
        os.write(ours, b"\x04")
        assert process.wait(timeout=20) == 0
    finally:
        process.kill()
        process.wait()
        os.close(ours)


class RecordingView:
    """A view that keeps notes and lets answers run to their end."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def show(self, replies: Sequence[Reply]) -> None:
        for reply in replies:
            assert "".join(reply) == reply.shown

    def note(self, text: str) -> None:
        self.notes.append(text)


def _interrupted(model: ChatModel, *, after: int) -> ChatModel:
    """Return the model with a Ctrl-C after so many tokens."""

    class Interrupted(ChatModel):
        def answer(
            self, ids: Sequence[int], *, sampling: Sampling, seed: int
        ) -> Iterator[GeneratedToken]:
            for number, token in enumerate(super().answer(ids, sampling=sampling, seed=seed)):
                if number == after:
                    raise KeyboardInterrupt
                yield token

    return Interrupted(
        name=model.name, model=model.model, chat=model.chat, context_length=model.context_length
    )


def _own_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # what starts the tests may have it ignored


def _until(terminal: int, text: str, *, typing: bytes = b"") -> str:
    """Return the output up to `text`, without control sequences.

    Types `typing` whenever nothing is shown for a second: a signal between the prompt and the wait
    for a key is only seen at the next one.
    """
    seen, deadline = "", time.monotonic() + 60
    while text not in (shown := _CONTROL.sub("", seen).replace("\r\n", "\n")):
        assert time.monotonic() < deadline, seen
        if select.select([terminal], [], [], 1)[0]:
            seen += os.read(terminal, 4096).decode("utf-8", "replace")
        else:
            os.write(terminal, typing)
    return shown

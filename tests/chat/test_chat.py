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

from aligner.chat.reply import Reply
from aligner.chat.session import HELP, Session
from aligner.chat.settings import Settings
from aligner.chat.speaker import Fitting, Speaker
from aligner.chat.views import OneByOne, SideBySide
from aligner.data.encoding.chat import encode_prompt
from aligner.models.generate import Sampling, Written, generate
from aligner.terminal.text import clean

Aligner = Callable[..., tuple[int, str, str]]
GREEDY = ("--temperature", "0", "--max-new-tokens", "5")
_STEERING = re.compile(r"\x1b\[[?\d;]*[A-Za-z]")
CUT = "(cut at 5 tokens; /set max_new_tokens allows more)\n"


def _said(speaker: Speaker, *turns: str, system: str = "", tokens: int = 5) -> str:
    """What the model answers, by way of the sampler alone."""
    head = ({"role": "system", "content": system},) if system else ()
    roles = ("user", "assistant")
    said = tuple({"role": roles[n % 2], "content": turn} for n, turn in enumerate(turns))
    ids = encode_prompt((*head, *said), speaker.tokenizer)
    sampling = Sampling(stop_tokens=speaker.stops, max_new_tokens=tokens)
    return generate(speaker.model, [ids], sampling=sampling)[0].text(speaker.tokenizer)


def test_each_line_is_a_turn_that_is_answered_with_all_before_it(
    aligner: Aligner, speaker: Speaker
) -> None:
    code, out, err = aligner("chat", "small", *GREEDY, typed="a red cat\n\nand \\\na dog\n")
    first = _said(speaker, "a red cat")
    second = _said(speaker, "a red cat", first, "and \na dog")
    assert (code, out, err) == (0, f"{clean(first)}\n{clean(second)}\n", CUT + CUT)


def test_the_system_turn_comes_first_and_can_be_changed(aligner: Aligner, speaker: Speaker) -> None:
    typed = "hi\n/undo\n/system Be big.\nhi\n/undo\n/system\nhi\n"
    code, out, err = aligner("chat", "small", *GREEDY, "--system", "Be small.", typed=typed)
    answers = [_said(speaker, "hi", system=one) for one in ("Be small.", "Be big.", "")]
    assert (code, out) == (0, "".join(f"{clean(one)}\n" for one in answers))
    assert err == (
        f"{CUT}(taken back: hi)\n(the system turn is set)\n"
        f"{CUT}(taken back: hi)\n(there is no system turn)\n{CUT}"
    )


def test_what_is_saved_is_the_conversation_as_data_to_train_on(
    aligner: Aligner, speaker: Speaker, tmp_path: Path
) -> None:
    file = tmp_path / "kept.jsonl"
    typed = f"one\ntwo\n/undo\n/save {file}\n//two\n/save {file}\n/quit\nnever read\n"
    code, _, err = aligner("chat", "small", *GREEDY, typed=typed)
    first = _said(speaker, "one")
    turns: list[Any] = [
        {"role": "user", "content": "one"}, {"role": "assistant", "content": first},
        {"role": "user", "content": "/two"},
        {"role": "assistant", "content": _said(speaker, "one", first, "/two")},
    ]  # fmt: skip
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert rows == [{"messages": turns[:2]}, {"messages": turns}]
    saved = f"(1 conversation appended to {file})\n"
    assert (code, err) == (0, f"{CUT}{CUT}(taken back: two)\n{saved}{CUT}{saved}")


def test_an_answer_tried_again_is_another_one_unless_nothing_is_random(
    aligner: Aligner, speaker: Speaker, tmp_path: Path
) -> None:
    typed = "a cat\n/retry\n/retry\n"
    hot = ("--temperature", "2", "--max-new-tokens", "5", "--seed", "3")
    _, out, _ = aligner("chat", "small", *hot, typed=typed)
    assert len(set(out.splitlines())) == 3
    assert aligner("chat", "small", *hot, typed=typed)[1] == out
    _, out, _ = aligner("chat", "small", *hot, typed="a cat\n/set temperature 0\n/retry\n/retry\n")
    assert out.splitlines()[1:] == [clean(_said(speaker, "a cat"))] * 2
    aligner("chat", "small", *hot, typed=f"a cat\n/retry\n/save {tmp_path / 'kept'}\n")
    kept = json.loads((tmp_path / "kept").read_text())["messages"]
    assert [turn["content"] for turn in kept if turn["role"] == "user"] == ["a cat"]


def test_two_steps_answer_each_under_its_name_and_go_on_from_their_own_answers(
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
    turns = [f"sft:\n{one}\ndpo:\n{other}\n" for one, other in zip(*alone, strict=True)]
    assert (code, out) == (0, "".join(turns))
    assert err == CUT * 4 + f"(2 conversations appended to {file})\n"
    rows = [json.loads(line)["messages"] for line in file.read_text().splitlines()]
    assert [[turn["role"] for turn in row] for row in rows] == [["user", "assistant"] * 2] * 2


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("/rerty\n", "there is no /rerty\n  hint: did you mean '/retry'?\n"),
        ("/undo\n", "nothing has been said yet\n"),
        ("/save\n", "/save needs the name of a file\n  hint: /save conversations.jsonl\n"),
        ("/set heat 3\n", "there is no setting 'heat'\n  hint: known: max_new_tokens, seed, "
                          "temperature, top_k, top_p\n"),
        ("/set top-p 3\n", "top_p: '3' is not a number above 0 and up to 1\n"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_ends_a_script(aligner: Aligner, typed: str, said: str) -> None:
    code, out, err = aligner("chat", "small", *GREEDY, typed=typed)
    assert (code, out, err) == (2, "", said)


def test_a_turn_that_is_longer_than_the_model_takes_is_refused(
    aligner: Aligner, speaker: Speaker
) -> None:
    turn = "word " * 50
    count = len(encode_prompt(({"role": "user", "content": turn.strip()},), speaker.tokenizer))
    said = f"that is {count} tokens, and the model takes 96\n  hint: say less at a time\n"
    assert aligner("chat", "small", *GREEDY, typed=turn) == (2, "", said)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("smal",), "runs: no run is called 'smal'\n  hint: did you mean 'small'?\n"),
        (("small", "--step", "ppo"), "runs/small: run 'small' has no finished step 'ppo'\n"
                                     "  hint: did you mean 'dpo'?\n"),
        (("small", "--step", "1-pretrain"),
         "runs/small/steps/1-pretrain: step 'pretrain' left a tokenizer without a chat template\n"
         "  hint: take a later step, or give the recipe a step that sets a template\n"),
        (("small", "--step", "dpo", "--compare", "reward"),
         "runs/small: steps 'dpo' and 'reward' have the same policy\n"
         "  hint: name another one after --compare\n"),
    ],
)  # fmt: skip
def test_a_model_that_cannot_talk_is_refused(
    aligner: Aligner, words: tuple[str, ...], said: str
) -> None:
    assert aligner("chat", *words) == (2, "", said)


def test_a_run_may_be_named_by_its_folder(aligner: Aligner, small_run: Path) -> None:
    there = aligner("chat", str(small_run / "runs" / "small"), *GREEDY, "--runs", "/", typed="hi\n")
    assert there == aligner("chat", "small", *GREEDY, typed="hi\n")
    assert there[0] == 0


def test_the_oldest_turns_are_left_out_when_the_model_cannot_take_them(speaker: Speaker) -> None:
    view = Heard()
    session = Session([speaker], Settings(temperature=0, max_new_tokens=30), view, system="Be.")
    for _ in range(5):
        session.take("a red cat sees a blue dog")
    assert len(session.dialogues[0].messages) == 11
    [note] = set(view.notes[-1:])
    assert note.startswith("(dpo no longer sees the first ")
    assert note.endswith(" turns: it takes 96 tokens)")


@pytest.mark.parametrize("most", [1, 10, 30, 200])
def test_no_more_turns_are_left_out_than_an_answer_needs(speaker: Speaker, most: int) -> None:
    system = {"role": "system", "content": "Be."}
    said: list[Any] = []
    for number in range(12):
        said += [{"role": "user", "content": "a red" + " cat" * (number % 3)}]
        fitting = speaker.fit((system, *said), max_new_tokens=most)
        kept = said[fitting.left_out :]
        assert kept[0]["role"] == "user"
        assert fitting.ids == encode_prompt((system, *kept), speaker.tokenizer)
        room = 96 - len(fitting.ids)
        assert room >= min(most, 24)
        assert fitting.room == min(room, most)
        if fitting.left_out:
            longer = encode_prompt((system, *said[fitting.left_out - 2 :]), speaker.tokenizer)
            assert 96 - len(longer) < min(most, 24)
        said += [{"role": "assistant", "content": "to" * (number % 2 + 1)}]
    assert fitting.left_out > 0


def test_a_stopped_answer_ends_and_the_conversation_goes_on(
    speaker: Speaker, capsys: pytest.CaptureFixture[str]
) -> None:
    hasty = _interrupted(speaker, after=2)
    session = Session([hasty], Settings(temperature=0), OneByOne(Console(width=80)))
    session.take("a red cat")
    said = _said(speaker, "a red cat", tokens=2)
    assert session.dialogues[0].messages[-1] == {"role": "assistant", "content": said}
    assert capsys.readouterr().err == "(stopped)\n"


def test_a_question_whose_answer_is_stopped_before_its_first_word_is_taken_back(
    speaker: Speaker, capsys: pytest.CaptureFixture[str]
) -> None:
    session = Session(
        [_interrupted(speaker, after=0)], Settings(temperature=0), OneByOne(Console(width=80))
    )
    session.take("a red cat")
    assert session.dialogues[0].messages == ()
    told = "(stopped)\n(nothing was said, so the question is taken back)\n"
    assert capsys.readouterr().err == told


def test_answers_stand_side_by_side_where_there_is_room(
    speaker: Speaker, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    settings = Settings(temperature=0)
    (ids,) = speaker.encode([(({"role": "user", "content": "a red cat"},), None)])
    fitting = Fitting(ids=ids, left_out=0, room=4)
    replies = [
        Reply(replace(speaker, name=name), fitting, settings, seed=0) for name in ("one", "other")
    ]
    with (tmp_path / "seen").open("w") as file:
        SideBySide(Console(file=file, width=100)).show(replies)
    seen = (tmp_path / "seen").read_text().splitlines()
    half = clean(_said(speaker, "a red cat", tokens=4))
    assert seen[-2:] == ["one" + " " * 47 + "other", f"{half:<50}{half}".rstrip()]
    note = "cut at 4 tokens; /set max_new_tokens allows more"
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


class Heard:
    """A view that keeps remarks and lets answers run to their end."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def show(self, replies: Sequence[Reply]) -> None:
        for reply in replies:
            assert "".join(reply) == reply.shown

    def note(self, text: str) -> None:
        self.notes.append(text)


def _interrupted(speaker: Speaker, *, after: int) -> Speaker:
    """`speaker`, but Ctrl-C comes after so many tokens."""

    class Interrupted(Speaker):
        def answer(self, ids: Sequence[int], *, sampling: Sampling, seed: int) -> Iterator[Written]:
            for number, written in enumerate(super().answer(ids, sampling=sampling, seed=seed)):
                if number == after:
                    raise KeyboardInterrupt
                yield written

    return Interrupted(
        name=speaker.name, model=speaker.model, chat=speaker.chat, context=speaker.context
    )


def _own_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # what starts the tests may have it ignored


def _until(terminal: int, text: str, *, typing: bytes = b"") -> str:
    """What is shown up to `text`, without the sequences that steer the terminal.

    Types `typing` whenever nothing is shown for a second: a signal between the prompt and the wait
    for a key is only seen at the next one.
    """
    seen, deadline = "", time.monotonic() + 60
    while text not in (shown := _STEERING.sub("", seen).replace("\r\n", "\n")):
        assert time.monotonic() < deadline, seen
        if select.select([terminal], [], [], 1)[0]:
            seen += os.read(terminal, 4096).decode("utf-8", "replace")
        else:
            os.write(terminal, typing)
    return shown

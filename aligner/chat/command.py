"""Carry out `aligner chat` and `aligner generate`: load what speaks, then read, answer and write."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from types import FrameType

from aligner.chat.batch import Answered, answer_prompts, read_prompts
from aligner.chat.session import Session
from aligner.chat.settings import Settings
from aligner.chat.speaker import Speaker, load_speaker
from aligner.chat.views import view_for
from aligner.errors import AlignerError, ChainError, DataError
from aligner.host import Host
from aligner.models.generate import Sampling
from aligner.run.durable import write_text
from aligner.run.selection import find_run, select_step
from aligner.terminal.as_json import json_line
from aligner.terminal.exit_codes import STOPPED, Told, say
from aligner.terminal.output_capture import kept
from aligner.terminal.text import duration

_PROMPT = "> "


def chat(arguments: argparse.Namespace) -> int:
    """Talk until the input ends. Without a terminal, a line that cannot be done ends it too."""
    speakers = _speakers(arguments)
    view = view_for(len(speakers))
    session = Session(speakers, Settings.of(arguments), view, system=arguments.system)
    typing = sys.stdin.isatty() and sys.stdout.isatty()
    with _ended_by_signals():
        if not typing:
            for typed in _joined(sys.stdin):
                session.take(typed)
                if session.over:
                    break
            return 0
        names = " and ".join(speaker.name for speaker in speakers)
        view.note(f"{arguments.name}, {names}: {session.settings} (/help, Ctrl-D leaves)")
        for typed in _joined(_typed(view.note)):
            try:
                session.take(typed)
            except AlignerError as error:
                view.note(str(error))
            if session.over:
                break
    return 0


def answer_file(arguments: argparse.Namespace) -> int:
    """Answer a file of prompts; nothing is written unless all are answered."""
    out: Path | None = arguments.out
    if out is not None and (out.is_dir() or not out.absolute().parent.is_dir()):
        raise DataError(
            "cannot be written", where=str(out), hint="name a file in a folder there is"
        )
    chosen = select_step(find_run(arguments.runs, arguments.name), arguments.step, slot="policy")
    with kept():
        prompts, left_out = read_prompts(arguments.prompts, Host.discover().registry())
        speaker = load_speaker(chosen)
    for said in left_out:
        say(f"warning: {arguments.prompts}: {said}", sys.stderr)
    settings = Settings.of(arguments)
    sampling = settings.sampling(speaker, room=settings.most(speaker))
    began = time.monotonic()
    answered = answer_prompts(
        speaker,
        prompts,
        sampling=sampling,
        samples=arguments.samples,
        seed=settings.seed,
        batch_size=arguments.batch_size,
        finished=_counting(len(prompts) * arguments.samples),
    )
    text = "".join(f"{json_line(one.as_dict())}\n" for one in answered)
    if out is None:
        sys.stdout.write(text)
    else:
        write_text(out, text)
    say(_account(answered, sampling, time.monotonic() - began), sys.stderr)
    return 0


def _speakers(arguments: argparse.Namespace) -> list[Speaker]:
    run = find_run(arguments.runs, arguments.name)
    chosen = [select_step(run, arguments.step, slot="policy")]
    if arguments.compare is not None:
        chosen.append(select_step(run, arguments.compare, slot="policy"))
        first, second = (one.made_by("policy") for one in chosen)
        if first == second:
            what = f"steps {chosen[0].name!r} and {chosen[1].name!r} have the same policy"
            raise ChainError(what, where=str(run.path), hint="name another one after --compare")
    with kept():
        return [load_speaker(one) for one in chosen]


def _account(answered: Sequence[Answered], sampling: Sampling, seconds: float) -> str:
    answers = [answer for one in answered for answer in one.answers]
    cut = sum(not answer.ended for answer in answers)
    said = f", {cut} cut at {sampling.max_new_tokens} tokens" if cut else ""
    return f"{len(answers)} answers in {duration(seconds)}{said}"


def _counting(total: int) -> Callable[[int], None]:
    """Draws the count again and again on a terminal, and takes it away at the end."""

    def drawn(done: int) -> None:
        if not sys.stderr.isatty():
            return
        text = "\r\x1b[K" if done == total else f"\r{done} of {total} answers"
        with suppress(OSError):
            sys.stderr.write(text)
            sys.stderr.flush()

    return drawn


def _typed(note: Callable[[str], None]) -> Iterator[str]:
    with suppress(ImportError):
        import_module("readline")  # loading it is what gives `input` its line editing
    while True:
        try:
            yield input(_PROMPT)
        except KeyboardInterrupt:
            note("\n(Ctrl-D or /quit leaves)")
        except EOFError:
            print()
            return


def _joined(lines: Iterator[str] | Sequence[str]) -> Iterator[str]:
    """Lines, each with those that it goes on in."""
    begun: list[str] = []
    for line in lines:
        text = line.rstrip("\n")
        begun.append(text.removesuffix("\\"))
        if not text.endswith("\\"):
            yield "\n".join(begun)
            begun = []
    if begun:
        yield "\n".join(begun)


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Let SIGTERM and a closed terminal end the conversation, which Ctrl-C must not."""

    def end(number: int, frame: FrameType | None) -> None:  # a handler's signature
        raise Told(STOPPED)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ignored = signal.SIG_IGN
    numbers = [n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) is not ignored]
    before = {number: signal.signal(number, end) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

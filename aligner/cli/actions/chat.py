"""Chat on the terminal or on standard input with one or two models."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType

from aligner.chat.model import ChatModel, load_chat_model
from aligner.chat.session import ChatSession
from aligner.chat.settings import ChatSettings
from aligner.chat.views import make_view
from aligner.errors import AlignerError, ChainError
from aligner.run.selection import find_run, select_step
from aligner.terminal.exit_codes import STOPPED, ReportedError
from aligner.terminal.output_capture import capture_output

_PROMPT = "> "


def chat(arguments: argparse.Namespace) -> int:
    """Chat until the input ends. Without a terminal, the first error ends the chat too."""
    models = _load_models(arguments)
    view = make_view(len(models))
    session = ChatSession(
        models, ChatSettings.from_arguments(arguments), view, system=arguments.system
    )
    interactive = sys.stdin.isatty() and sys.stdout.isatty()
    with _exit_on_signals():
        if not interactive:
            for text in _join_continued(sys.stdin):
                session.handle(text)
                if session.ended:
                    break
            return 0
        names = " and ".join(model.name for model in models)
        view.note(f"{arguments.name}, {names}: {session.options} (/help, Ctrl-D leaves)")
        for text in _join_continued(_typed_lines(view.note)):
            try:
                session.handle(text)
            except AlignerError as error:
                view.note(str(error))
            if session.ended:
                break
    return 0


def _load_models(arguments: argparse.Namespace) -> list[ChatModel]:
    run = find_run(arguments.runs, arguments.name)
    steps = [select_step(run, arguments.step, slot="policy")]
    if arguments.compare is not None:
        steps.append(select_step(run, arguments.compare, slot="policy"))
        first, second = (step.made_by("policy") for step in steps)
        if first == second:
            raise ChainError(
                f"steps {steps[0].name!r} and {steps[1].name!r} have the same policy",
                where=str(run.path),
                hint="name another step after --compare",
            )
    with capture_output():
        return [load_chat_model(step) for step in steps]


def _typed_lines(note: Callable[[str], None]) -> Iterator[str]:
    with suppress(ImportError):
        import readline  # noqa: F401  # importing it gives `input` its line editing

    while True:
        try:
            yield input(_PROMPT)
        except KeyboardInterrupt:
            note("\n(Ctrl-D or /quit leaves)")
        except EOFError:
            print()
            return


def _join_continued(lines: Iterator[str] | Sequence[str]) -> Iterator[str]:
    r"""Join each line that ends with `\` with the next one."""
    parts: list[str] = []
    for line in lines:
        text = line.rstrip("\n")
        parts.append(text.removesuffix("\\"))
        if not text.endswith("\\"):
            yield "\n".join(parts)
            parts = []
    if parts:
        yield "\n".join(parts)


@contextmanager
def _exit_on_signals() -> Iterator[None]:
    """End the chat on SIGTERM and on a closed terminal; Ctrl-C only stops an answer."""

    def end(number: int, frame: FrameType | None) -> None:  # a handler's signature
        raise ReportedError(STOPPED)

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

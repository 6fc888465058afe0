"""Generate answers to a file of prompts and write them as JSON Lines."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from aligner.chat.batch import PromptAnswers, answer_prompts, read_prompts
from aligner.chat.model import load_chat_model
from aligner.chat.settings import ChatSettings
from aligner.errors import DataError
from aligner.host import Host
from aligner.models.generate import Sampling
from aligner.run.durable import write_text
from aligner.run.selection import find_run, select_step
from aligner.terminal.exit_codes import print_message
from aligner.terminal.json_output import json_line
from aligner.terminal.output_capture import capture_output
from aligner.terminal.text import format_duration


def generate_answers(arguments: argparse.Namespace) -> int:
    """Answer all prompts, then write the output; an error leaves no partial file."""
    out: Path | None = arguments.out
    if out is not None and (out.is_dir() or not out.absolute().parent.is_dir()):
        raise DataError(
            "the output cannot be written", where=str(out), hint="name a file in an existing folder"
        )
    step = select_step(find_run(arguments.runs, arguments.name), arguments.step, slot="policy")
    with capture_output():
        prompts, warnings = read_prompts(arguments.prompts, Host.discover().registry())
        model = load_chat_model(step)
    for text in warnings:
        print_message(f"warning: {arguments.prompts}: {text}", sys.stderr)
    options = ChatSettings.from_arguments(arguments)
    sampling = options.sampling(model, max_new_tokens=options.tokens_per_answer(model))
    start = time.monotonic()
    answered = answer_prompts(
        model,
        prompts,
        sampling=sampling,
        samples=arguments.samples,
        seed=options.seed,
        batch_size=arguments.batch_size,
        on_progress=_progress_line(len(prompts) * arguments.samples),
    )
    text = "".join(f"{json_line(row.as_dict())}\n" for row in answered)
    if out is None:
        sys.stdout.write(text)
    else:
        write_text(out, text)
    print_message(_summary(answered, sampling, time.monotonic() - start), sys.stderr)
    return 0


def _summary(answered: Sequence[PromptAnswers], sampling: Sampling, seconds: float) -> str:
    answers = [answer for row in answered for answer in row.answers]
    truncated = sum(not answer.ended for answer in answers)
    text = f", {truncated} truncated at {sampling.max_new_tokens} tokens" if truncated else ""
    return f"{len(answers)} answers in {format_duration(seconds)}{text}"


def _progress_line(total: int) -> Callable[[int], None]:
    """Return a function that shows the count on a terminal and erases it at the end."""

    def show(done: int) -> None:
        if not sys.stderr.isatty():
            return
        text = "\r\x1b[K" if done == total else f"\r{done} of {total} answers"
        with suppress(OSError):
            sys.stderr.write(text)
            sys.stderr.flush()

    return show

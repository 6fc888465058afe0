"""Run a recipe: show its progress, log what libraries print, and report how it ended."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from aligner.chain import Chain, CheckedChain, Event, Outcome, StepFailed, StepStarted, check
from aligner.chain import run as run_chain
from aligner.cli.startup import load_chain, load_host
from aligner.errors import AlignerError, GateError, Stopped
from aligner.host import Host
from aligner.run import processes
from aligner.terminal.console import is_live, make_console, print_to
from aligner.terminal.exit_codes import ReportedError, full_text, print_message, short_text
from aligner.terminal.output_capture import OutputCapture, capture_output
from aligner.terminal.progress import Display, LineDisplay, NoDisplay, live_display
from aligner.terminal.progress_state import ProgressTracker
from aligner.terminal.summary import display_path, render_summary
from aligner.terminal.text import sanitize

RESUME_HINT = "finished steps are kept: the same command resumes the run"


def run_recipe(arguments: argparse.Namespace) -> None:
    """Check and run the recipe in `arguments`.

    Raises:
        ReportedError: The run did not reach its end; the error has been printed.
    """
    warnings: list[str] = []
    with capture_output(warn=warnings.append) as capture:
        errors = _ErrorFiles()
        try:
            host = load_host(arguments)
            chain = load_chain(arguments, host)
            checked = check(chain, host, runs=arguments.runs)
            console = make_console(capture.stdout)
            with _display(arguments, chain, console) as display:
                capture.warn = display.warn
                for text in warnings:
                    display.warn(text)
                outcome = _run(arguments, checked, host, errors, display, capture)
        except AlignerError as error:
            print_message("\n  ".join([str(error), *errors.hints(error, capture)]), capture.stderr)
            raise ReportedError(error.exit_code) from error
        except Exception as error:
            if errors.last is not error:
                raise
            text = full_text(error) if arguments.verbose else short_text(error)
            lines = [text.rstrip(), *errors.hints(error, capture)]
            print_message("\n  ".join(lines), capture.stderr)
            raise ReportedError(1) from error
        if not arguments.quiet and processes.rank() == 0:
            log = capture.log if capture.has_output else None
            summary = render_summary(outcome, console, log=log, all_metrics=arguments.verbose)
            print_to(console, summary)


def _run(
    arguments: argparse.Namespace,
    checked: CheckedChain,
    host: Host,
    errors: _ErrorFiles,
    display: Display,
    capture: OutputCapture,
) -> Outcome:
    log = _run_folder(arguments, checked.chain) / _file_of_this_process("log.txt")

    def on_event(event: Event) -> None:
        # Not before a step starts: until then another process may be running in the folder.
        if isinstance(event, StepStarted) and capture.log is None:
            capture.log_to(log)
        nonlocal display
        errors.on_event(event)
        try:
            display.on_event(event)
        except OSError:  # the terminal or pipe is gone; that must not end the training
            display = NoDisplay()

    return run_chain(
        checked,
        host,
        runs=arguments.runs,
        name=arguments.name,
        until=arguments.until,
        start_from=arguments.start_from,
        fresh=arguments.fresh,
        on_event=on_event,
    )


class _ErrorFiles:
    """Writes the full text of an error to `error.txt` in the folder of the step that failed."""

    def __init__(self) -> None:
        self.last: BaseException | None = None
        self._file: Path | None = None

    def on_event(self, event: Event) -> None:
        if isinstance(event, StepStarted):
            # A finished step must not carry the error of an earlier attempt.
            (event.folder / _file_of_this_process("error.txt")).unlink(missing_ok=True)
        elif isinstance(event, StepFailed):
            self.last = event.error
            # Of several processes only the first makes the folder's link; another may fail earlier.
            if not isinstance(event.error, Stopped) and event.folder.is_dir():
                self._file = event.folder / _file_of_this_process("error.txt")
                self._file.write_text(sanitize(full_text(event.error)), encoding="utf-8")

    def hints(self, error: BaseException, capture: OutputCapture) -> list[str]:
        """Return lines with the file of the traceback and a hint to resume."""
        lines = []
        if self._file is not None and not isinstance(error, AlignerError):
            lines.append(f"full traceback: {display_path(self._file)}")
        if self.last is not None and capture.log is not None and capture.has_output:
            lines.append(f"output of the libraries: {display_path(capture.log)}")
        if self.last is not None and not isinstance(error, Stopped | GateError):
            lines.append(RESUME_HINT)
        return lines


@contextmanager
def _display(arguments: argparse.Namespace, chain: Chain, console: Console) -> Iterator[Display]:
    names = [step.name for step in chain.steps]
    if arguments.until in names:
        names = names[: names.index(arguments.until) + 1]
    tracker = ProgressTracker(names)
    if arguments.quiet or processes.rank() != 0:
        yield NoDisplay()
    elif is_live(console):
        with live_display(console, tracker) as display:
            yield display
    else:
        yield LineDisplay(console, tracker)


def _run_folder(arguments: argparse.Namespace, chain: Chain) -> Path:
    return Path(arguments.runs) / (arguments.name or chain.recipe.name)


def _file_of_this_process(name: str) -> str:
    """Return `name` in the first process, and `name` with the rank in it in the others."""
    stem, _, suffix = name.rpartition(".")
    return f"{stem}.{processes.rank()}.{suffix}" if processes.rank() else name

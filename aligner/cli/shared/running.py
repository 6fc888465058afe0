"""Run a recipe in the foreground: show it, keep what libraries say, and tell how it ended."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from aligner.chain import Chain, CheckedChain, Event, Outcome, StepFailed, StepStarted, check
from aligner.chain import run as run_chain
from aligner.cli.shared.recipes import host_for, linked
from aligner.errors import AlignerError, GateError, Stopped
from aligner.host import Host
from aligner.run import processes
from aligner.terminal.console import console_on, is_live, show
from aligner.terminal.exit_codes import Told, full_text, in_brief, say
from aligner.terminal.output_capture import Chatter, kept
from aligner.terminal.progress import Display, PlainLines, Silent, shown_live
from aligner.terminal.progress_state import Following
from aligner.terminal.summary import closing, near
from aligner.terminal.text import safe

GO_ON = "what finished before is kept: the same command goes on from there"


def run_recipe(arguments: argparse.Namespace) -> None:
    """Check and run the recipe in `arguments`; raises Told when it does not reach its end."""
    warned: list[str] = []
    with kept(warn=warned.append) as chatter:
        failures = _Failures()
        try:
            host = host_for(arguments)
            chain = linked(arguments, host)
            checked = check(chain, host, runs=arguments.runs)
            console = console_on(chatter.screen)
            with _display(arguments, chain, console) as display:
                chatter.warn = display.warn
                for text in warned:
                    display.warn(text)
                outcome = _run(arguments, checked, host, failures, display, chatter)
        except AlignerError as error:
            say("\n  ".join([str(error), *failures.more_about(error, chatter)]), chatter.errors)
            raise Told(error.exit_code) from error
        except Exception as error:
            if failures.last is not error:
                raise
            said = full_text(error) if arguments.verbose else in_brief(error)
            say("\n  ".join([said.rstrip(), *failures.more_about(error, chatter)]), chatter.errors)
            raise Told(1) from error
        if not arguments.quiet and processes.rank() == 0:
            log = chatter.log if chatter.anything else None
            show(console, closing(outcome, console, log=log, every_figure=arguments.verbose))


def _run(
    arguments: argparse.Namespace,
    checked: CheckedChain,
    host: Host,
    failures: _Failures,
    display: Display,
    chatter: Chatter,
) -> Outcome:
    log = _run_folder(arguments, checked.chain) / _own("log.txt")

    def tell(event: Event) -> None:
        # Not before a step starts: until then another process may be running in the folder.
        if isinstance(event, StepStarted) and chatter.log is None:
            chatter.into(log)
        nonlocal display
        failures.tell(event)
        try:
            display.tell(event)
        except OSError:  # the terminal or pipe has gone; that must not take the training with it
            display = Silent()

    return run_chain(
        checked,
        host,
        runs=arguments.runs,
        name=arguments.name,
        until=arguments.until,
        start_from=arguments.start_from,
        fresh=arguments.fresh,
        on_event=tell,
    )


class _Failures:
    """Writes the whole text of an error into the folder of the step that it ended."""

    def __init__(self) -> None:
        self.last: BaseException | None = None
        self._written: Path | None = None

    def tell(self, event: Event) -> None:
        if isinstance(event, StepStarted):
            # A finished step must not carry the error of an earlier attempt.
            (event.folder / _own("error.txt")).unlink(missing_ok=True)
        elif isinstance(event, StepFailed):
            self.last = event.error
            # Of several processes only the first makes the folder's link; another may fail earlier.
            if not isinstance(event.error, Stopped) and event.folder.is_dir():
                self._written = event.folder / _own("error.txt")
                self._written.write_text(safe(full_text(event.error)), encoding="utf-8")

    def more_about(self, error: BaseException, chatter: Chatter) -> list[str]:
        """Where the whole story is, and how to go on."""
        lines = []
        if self._written is not None and not isinstance(error, AlignerError):
            lines.append(f"the full text is in {near(self._written)}")
        if self.last is not None and chatter.log is not None and chatter.anything:
            lines.append(f"what the libraries said is in {near(chatter.log)}")
        if self.last is not None and not isinstance(error, Stopped | GateError):
            lines.append(GO_ON)
        return lines


@contextmanager
def _display(arguments: argparse.Namespace, chain: Chain, console: Console) -> Iterator[Display]:
    names = [link.name for link in chain.steps]
    if arguments.until in names:
        names = names[: names.index(arguments.until) + 1]
    following = Following(names)
    if arguments.quiet or processes.rank() != 0:
        yield Silent()
    elif is_live(console):
        with shown_live(console, following) as display:
            yield display
    else:
        yield PlainLines(console, following)


def _run_folder(arguments: argparse.Namespace, chain: Chain) -> Path:
    return Path(arguments.runs) / (arguments.name or chain.recipe.name)


def _own(name: str) -> str:
    """`name` for the first of several processes; the others write beside it."""
    head, _, tail = name.rpartition(".")
    return f"{head}.{processes.rank()}.{tail}" if processes.rank() else name

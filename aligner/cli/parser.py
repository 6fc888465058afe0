"""The argument parser of `aligner` and all its commands."""

from __future__ import annotations

import argparse
import shutil
import textwrap
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any, NoReturn, Protocol

from aligner.cli.commands import (
    chat,
    check,
    completion,
    data,
    export,
    generate,
    import_,
    new,
    preview,
    run,
    runs,
    schema,
    stages,
)

_DESCRIPTION = """\
Post-train a language model with one YAML recipe: a chain of stages (SFT, reward model, DPO, PPO, …)
that is checked as a whole before any weights load. Every stage is a plugin.
"""
_EPILOG = """\
Start with `aligner check RECIPE`, which loads no weights, then use `aligner run RECIPE`.

Exit codes: 0 success; 1 failure; 2 invalid recipe, data or arguments, nothing ran; 75 stopped, the
same command resumes.
"""


class Command(Protocol):
    """A module of `aligner.cli.commands`. Its docstring is the help text of the command.

    It imports only light modules at the top, so that `aligner --help` is fast. What does the work is
    a module of `aligner.cli.actions`, which `run` imports.
    """

    __doc__: str | None
    NAME: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None: ...

    def run(self, arguments: argparse.Namespace) -> int: ...


_MODULES: tuple[Command, ...] = (
    chat,
    check,
    completion,
    data,
    export,
    generate,
    import_,
    new,
    preview,
    run,
    runs,
    schema,
    stages,
)
COMMANDS: Mapping[str, Command] = {module.NAME: module for module in _MODULES}
"""Every command by its name, in alphabetical order."""


def make_parser(argv: Sequence[str] = ()) -> argparse.ArgumentParser:
    """Return the parser of the whole command line.

    Args:
        argv: The arguments to be parsed; they improve the error about an unknown command.
    """
    parser = _Parser(
        prog="aligner",
        description=_fill(_DESCRIPTION),
        epilog=_fill(_EPILOG),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action=_Version)
    if argv and not argv[0].startswith("-") and argv[0] not in COMMANDS:
        parser.error(f"unknown command {argv[0]!r}; {_suggest(argv[0])}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, command in COMMANDS.items():
        text = (command.__doc__ or "").strip()
        subparser = subparsers.add_parser(
            name,
            help=text.splitlines()[0],
            description=_fill(text),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        command.add_arguments(subparser)
        subparser.set_defaults(command=name, action=command.run)
    return parser


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line and a hint instead of the whole usage."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, add_help=False)
        self.add_argument("-h", "--help", action="help", help="Show this help and exit.")

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n  hint: {self.prog} --help\n")


class _Version(argparse.Action):
    """Print the version; it is looked up only when needed, since reading metadata is slow."""

    def __init__(self, option_strings: Sequence[str], dest: str, **_: Any) -> None:
        super().__init__(option_strings, dest, nargs=0, help="Print the version and exit.")

    def __call__(self, parser: argparse.ArgumentParser, *_: Any, **__: Any) -> None:
        from importlib.metadata import version  # takes longer than all of --help

        print(f"aligner {version('aligner')}")
        parser.exit(0)


def _suggest(name: str) -> str:
    near = get_close_matches(name, COMMANDS, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known commands: {', '.join(COMMANDS)}"


def _fill(text: str) -> str:
    """Wrap the paragraphs of `text` at the terminal's width; indented ones stay as they are."""
    # argparse leaves the same two columns free.
    width = shutil.get_terminal_size().columns - 2
    paragraphs = text.strip().split("\n\n")
    return "\n\n".join(p if p.startswith(" ") else textwrap.fill(p, width) for p in paragraphs)

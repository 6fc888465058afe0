"""Find the commands: every module of `aligner.cli` is one."""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import shutil
import textwrap
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any, NoReturn, Protocol, cast

ABOUT = """\
Post-train a language model by one recipe: a chain of stages, checked whole before anything loads,
each one a plugin.
"""
EPILOG = """\
Begin with `aligner check RECIPE`, which loads no weights, then `aligner run RECIPE`.

Exit codes: 0 done, 1 failed, 2 refused before anything ran, 75 stopped and can go on.
"""


class Command(Protocol):
    """What a module of `aligner.cli` holds. Its docstring's first line is the help text.

    Heavy imports belong inside `run`, so that `aligner --help` stays quick.
    """

    __doc__: str | None
    NAME: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None: ...

    def run(self, arguments: argparse.Namespace) -> int: ...


def commands() -> dict[str, Command]:
    """Every command by its name, in alphabetical order."""
    import aligner.cli  # the package being searched, which imports this module first

    modules = [
        importlib.import_module(f"aligner.cli.{found.name}")
        for found in pkgutil.iter_modules(aligner.cli.__path__)
        if not found.ispkg and not found.name.startswith("_")
    ]
    found = [cast("Command", module) for module in modules]
    return {one.NAME: one for one in sorted(found, key=lambda one: one.NAME)}


def parser_for(known: Mapping[str, Command], words: Sequence[str] = ()) -> argparse.ArgumentParser:
    """The parser of the whole command line.

    Args:
        words: What was typed, for a better complaint about a command that does not exist.
    """
    parser = _Parser(
        prog="aligner",
        description=_filled(ABOUT),
        epilog=_filled(EPILOG),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action=_Version)
    if words and not words[0].startswith("-") and words[0] not in known:
        parser.error(f"there is no command {words[0]!r}; {_suggest(words[0], known)}")
    below = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, command in known.items():
        text = (command.__doc__ or "").strip()
        one = below.add_parser(
            name,
            help=_lower_first(text.splitlines()[0].rstrip(".")),
            description=_filled(text),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        command.add_arguments(one)
        one.set_defaults(command=name, act=command.run)
    return parser


class _Parser(argparse.ArgumentParser):
    """Complains in one line and says where help is, instead of printing the whole usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n  hint: {self.prog} --help\n")


class _Version(argparse.Action):
    """Looks the version up only when it is asked for: reading metadata takes a while."""

    def __init__(self, option_strings: Sequence[str], dest: str, **_: Any) -> None:
        super().__init__(option_strings, dest, nargs=0, help="print the version and exit")

    def __call__(self, parser: argparse.ArgumentParser, *_: Any, **__: Any) -> None:
        from importlib.metadata import version  # takes longer than all of --help

        print(f"aligner {version('aligner')}")
        parser.exit(0)


def _suggest(word: str, known: Mapping[str, Command]) -> str:
    near = get_close_matches(word, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"


def _filled(text: str) -> str:
    """`text` with its paragraphs filled to the terminal's width, indented ones left as they are."""
    # argparse leaves the same two columns free.
    width = shutil.get_terminal_size().columns - 2
    paragraphs = text.strip().split("\n\n")
    return "\n\n".join(p if p.startswith(" ") else textwrap.fill(p, width) for p in paragraphs)


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]

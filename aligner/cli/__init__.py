"""The command line: parse the arguments, run the command, return its exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from aligner.cli.parser import make_parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return 0 (success), 1 (failure), 2 (invalid input) or 75 (stopped)."""
    if "_ARGCOMPLETE" in os.environ:  # the shell asks for completions
        from argcomplete import autocomplete

        autocomplete(make_parser(), always_complete_options=False)
    argv = list(sys.argv[1:] if argv is None else argv)
    try:
        arguments = make_parser(argv).parse_args(argv)
    except SystemExit as error:  # argparse exits by itself, after --help too
        return int(error.code or 0)
    from aligner.terminal.exit_codes import run_command  # not needed for --help, which must be fast

    return run_command(arguments)

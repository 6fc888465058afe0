"""The command line: find the command asked for, run it, and end as the shell understands."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from aligner.cli.shared.index import commands, parser_for


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 0 done, 1 failed, 2 refused, 75 stopped and resumable."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        arguments = parser_for(commands(), words).parse_args(words)
    except SystemExit as end:  # argparse ends the process itself, after --help too
        return int(end.code or 0)
    from aligner.terminal.exit_codes import guarded  # not needed for --help, which must be quick

    return guarded(arguments)

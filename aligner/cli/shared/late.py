"""Carry out commands that need models: their work is found by name, once the command really runs."""

from __future__ import annotations

import argparse
from importlib import import_module

from aligner.cli.shared.recipes import quieten_libraries
from aligner.terminal.output_capture import kept


def carry_out(work: str, arguments: argparse.Namespace) -> int:
    """Call the function `work`, written `package.module:function`, with `arguments`.

    An import statement would make all of the command line depend on torch, wherever it stood.
    """
    quieten_libraries()
    home, _, name = work.partition(":")
    with kept():  # some libraries talk while they load
        module = import_module(home)
    return int(getattr(module, name)(arguments))

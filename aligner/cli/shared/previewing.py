"""Preview a recipe and show it: in the terminal, as a page, or as JSON."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from aligner import chain
from aligner.chain import ChainPreview
from aligner.cli.shared.checking import as_errors
from aligner.cli.shared.recipes import host_for, linked
from aligner.errors import AlignerError, ChainError, ErrorGroup
from aligner.preview import PreviewRequest
from aligner.run import processes
from aligner.terminal.console import console_on, show
from aligner.terminal.exit_codes import say
from aligner.terminal.listing import print_json
from aligner.terminal.output_capture import kept
from aligner.terminal.preview import as_json, previewed
from aligner.terminal.preview_page import page
from aligner.terminal.text import size


def preview_recipe(arguments: argparse.Namespace) -> int:
    """Show what can be shown, then say what is wrong with the rest; 0 when nothing is."""
    warned: list[str] = []
    try:
        with kept(warn=warned.append):
            shown = _preview(arguments)
    except AlignerError as error:
        if not arguments.json:
            raise
        print_json({"errors": as_errors(error)})
        return error.exit_code
    if processes.rank() != 0:
        return 0
    for text in warned:
        say(f"warning: {text}", sys.stderr)
    if arguments.html is not None:
        _write(shown, Path(arguments.html))
    if arguments.json:
        errors = {"errors": as_errors(ErrorGroup(shown.errors))} if shown.errors else {}
        print_json(as_json(shown) | errors)
    elif arguments.html is None and (shown.steps or not shown.errors):
        _draw(shown, arguments)
    if shown.errors and not arguments.json:
        raise ErrorGroup(shown.errors)
    return ErrorGroup.exit_code if shown.errors else 0


def _preview(arguments: argparse.Namespace) -> ChainPreview:
    host = host_for(arguments)
    asked = PreviewRequest(
        rows=tuple(map(_name, arguments.row)) or tuple(range(1, (arguments.rows or 2) + 1)),
        by_name=bool(arguments.row),
        held_out=arguments.held_out,
    )
    return chain.preview(
        linked(arguments, host), host, asked, steps=arguments.step, runs=arguments.runs
    )


def _name(text: str) -> int | str:
    return int(text) if text.isdecimal() else text


def _draw(shown: ChainPreview, arguments: argparse.Namespace) -> None:
    console = console_on()
    if arguments.width is not None:
        console.width = arguments.width
    show(console, previewed(shown, console, full=arguments.full))


def _write(shown: ChainPreview, path: Path) -> None:
    text = page(shown)
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ChainError(
            f"the page cannot be written: {error.strerror}",
            where=str(path),
            hint="name a file in a folder that exists and that you may write to",
        ) from None
    print(f"wrote {path} ({size(len(text.encode()))}): open it in a browser, or pass it on")

"""Preview the rows of a recipe: in the terminal, as an HTML page, or as JSON."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from aligner import chain
from aligner.chain import ChainPreview
from aligner.cli.actions.check import errors_json
from aligner.cli.startup import load_chain, load_host
from aligner.errors import AlignerError, ChainError, ErrorGroup
from aligner.preview import PreviewRequest
from aligner.run import processes
from aligner.terminal.console import make_console, print_to
from aligner.terminal.exit_codes import print_message
from aligner.terminal.json_output import print_json
from aligner.terminal.output_capture import capture_output
from aligner.terminal.preview import preview_json, render_preview
from aligner.terminal.preview_html import preview_html
from aligner.terminal.text import format_size


def preview_recipe(arguments: argparse.Namespace) -> int:
    """Show the steps without errors, then report the errors of the others; return 0 without errors."""
    warnings: list[str] = []
    try:
        with capture_output(warn=warnings.append):
            preview = _preview(arguments)
    except AlignerError as error:
        if not arguments.json:
            raise
        print_json({"errors": errors_json(error)})
        return error.exit_code
    if processes.rank() != 0:
        return 0
    for text in warnings:
        print_message(f"warning: {text}", sys.stderr)
    if arguments.html is not None:
        _write_html(preview, Path(arguments.html))
    if arguments.json:
        errors = {"errors": errors_json(ErrorGroup(preview.errors))} if preview.errors else {}
        print_json(preview_json(preview) | errors)
    elif arguments.html is None and (preview.steps or not preview.errors):
        _print(preview, arguments)
    if preview.errors and not arguments.json:
        raise ErrorGroup(preview.errors)
    return ErrorGroup.exit_code if preview.errors else 0


def _preview(arguments: argparse.Namespace) -> ChainPreview:
    host = load_host(arguments)
    request = PreviewRequest(
        rows=tuple(map(_row, arguments.row)) or tuple(range(1, (arguments.rows or 2) + 1)),
        required=bool(arguments.row),
        held_out=arguments.held_out,
    )
    return chain.preview(
        load_chain(arguments, host), host, request, steps=arguments.step, runs=arguments.runs
    )


def _row(text: str) -> int | str:
    return int(text) if text.isdecimal() else text


def _print(preview: ChainPreview, arguments: argparse.Namespace) -> None:
    console = make_console()
    if arguments.width is not None:
        console.width = arguments.width
    print_to(console, render_preview(preview, console, full=arguments.full))


def _write_html(preview: ChainPreview, path: Path) -> None:
    text = preview_html(preview)
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ChainError(
            f"the page cannot be written: {error.strerror}",
            where=str(path),
            hint="name a file in an existing folder with write permission",
        ) from None
    print(f"wrote {path} ({format_size(len(text.encode()))}); open it in a browser")

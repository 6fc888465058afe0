"""Look at data, or write it in another format: what a recipe would read of it, and what not.

aligner data inspect talks.jsonl
aligner data convert talks.json talks.jsonl --to messages --with '{clean: true, deduplicate: near}'
"""

from __future__ import annotations

import argparse
from pathlib import Path

from aligner.cli.shared.recipes import add_plugin_arguments
from aligner.terminal.listing import add_json_argument

NAME = "data"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    below = parser.add_subparsers(title="what", metavar="WHAT", required=True)
    inspect = below.add_parser(
        "inspect",
        help="how data is written, what would be left out, and where it leans",
        description="Recognise the format, read every row as a recipe would, and say what is there: "
        "columns, first rows, lengths, labels, how answers begin, repeats, languages.",
        allow_abbrev=False,
    )
    inspect.add_argument(
        "--rows", type=_number, default=2, metavar="K", help="show the first K rows (default: 2)"
    )
    inspect.add_argument(
        "--groups",
        nargs="?",
        const="",
        metavar="WORD,…",
        help="count words that speak of groups of people, or these words, by label and side",
    )
    _add_reading_arguments(inspect)
    inspect.set_defaults(act=_inspect)
    convert = below.add_parser(
        "convert",
        help="write data in another format, cleaned and curated if asked",
        description="Read data as a recipe would and write the rows in one of the public formats. "
        "OUT is written whole or not at all, and nothing is overwritten unless asked.",
        allow_abbrev=False,
    )
    convert.add_argument(
        "--to", required=True, metavar="FORMAT", help="messages, preference, text, …"
    )
    convert.add_argument("--force", action="store_true", help="replace OUT if it is there")
    _add_reading_arguments(convert)
    convert.add_argument(
        "out",
        type=Path,
        metavar="OUT",
        help="a .jsonl, .json, .csv, .tsv (or with .gz) or .parquet file",
    )
    convert.set_defaults(act=_convert)


def _add_reading_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", metavar="PATH", help="a file, folder, glob, URL, or id on the hub")
    group = parser.add_argument_group("how it is read")
    group.add_argument("--format", metavar="NAME", help="how rows are written (default: look)")
    group.add_argument(
        "--columns",
        action="append",
        default=[],
        metavar="OLD=NEW",
        help="rename a column before the format is recognised; may be given again",
    )
    group.add_argument(
        "--with",
        dest="options",
        metavar="YAML",
        help="further options of a recipe's data: '{clean: true, redact: [email], deduplicate: near}'",
    )
    group.add_argument(
        "--seed",
        type=_number,
        default=0,
        metavar="N",
        help="what samples are drawn from (default: 0)",
    )
    add_plugin_arguments(parser)
    add_json_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    code: int = arguments.act(arguments)
    return code


def _inspect(arguments: argparse.Namespace) -> int:
    from aligner.cli.shared.late import carry_out  # not needed for --help, which must be quick

    return carry_out("aligner.scaffold.data_command:inspect", arguments)


def _convert(arguments: argparse.Namespace) -> int:
    from aligner.cli.shared.late import carry_out  # not needed for --help, which must be quick

    return carry_out("aligner.scaffold.data_command:convert", arguments)


def _number(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no number")
    return int(text)

"""Inspect a data set, or convert it to another format.

Rows are read as a recipe reads them.

    aligner data inspect talks.jsonl
    aligner data convert talks.json out.jsonl --to messages --with '{deduplicate: near}'
"""

from __future__ import annotations

import argparse
from pathlib import Path

from aligner.cli.arguments import add_json_argument, add_plugin_arguments, non_negative_int
from aligner.cli.startup import quiet_imports

NAME = "data"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_inspect(subparsers)
    _add_convert(subparsers)


def _add_inspect(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    inspect = subparsers.add_parser(
        "inspect",
        help="Show format, rows, lengths, labels and duplicates.",
        description="Detect the format, read every row as a recipe would, and show columns, first "
        "rows, lengths, labels, how answers begin, duplicates and languages.",
        allow_abbrev=False,
    )
    inspect.add_argument(
        "--rows",
        type=non_negative_int,
        default=2,
        metavar="K",
        help="Show the first K rows (default: 2).",
    )
    inspect.add_argument(
        "--groups",
        nargs="?",
        const="",
        metavar="WORD,…",
        help="Count words about groups of people, or these words, by label and column.",
    )
    _add_reading_arguments(inspect)
    inspect.set_defaults(data_action=_inspect)


def _add_convert(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    convert = subparsers.add_parser(
        "convert",
        help="Write the rows in another format, cleaned and filtered if requested.",
        description="Read data as a recipe would and write the rows in a public format. OUT is "
        "written completely or not at all; an existing file is replaced only with --force.",
        allow_abbrev=False,
    )
    convert.add_argument(
        "--to", required=True, metavar="FORMAT", help="Output format: messages, preference, text, …"
    )
    convert.add_argument("--force", action="store_true", help="Replace OUT if it exists.")
    _add_reading_arguments(convert)
    convert.add_argument(
        "out",
        type=Path,
        metavar="OUT",
        help="Output file: .jsonl, .json, .csv, .tsv (also with .gz) or .parquet.",
    )
    convert.set_defaults(data_action=_convert)


def _add_reading_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", metavar="PATH", help="File, folder, glob, URL or Hub id.")
    group = parser.add_argument_group("reading")
    group.add_argument("--format", metavar="NAME", help="Format of the rows (default: detect it).")
    group.add_argument(
        "--columns",
        action="append",
        default=[],
        metavar="OLD=NEW",
        help="Rename a column before the format is detected. Repeat it for several columns.",
    )
    group.add_argument(
        "--with",
        dest="options",
        metavar="YAML",
        help="Further data options of a recipe: '{clean: true, redact: [email], deduplicate: near}'.",
    )
    group.add_argument(
        "--seed",
        type=non_negative_int,
        default=0,
        metavar="N",
        help="Seed of random samples (default: 0).",
    )
    add_plugin_arguments(parser)
    add_json_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    code: int = arguments.data_action(arguments)
    return code


def _inspect(arguments: argparse.Namespace) -> int:
    with quiet_imports():
        from aligner.cli.actions.data_inspect import inspect  # loads transformers

    return inspect(arguments)


def _convert(arguments: argparse.Namespace) -> int:
    with quiet_imports():
        from aligner.cli.actions.data_convert import convert  # loads transformers

    return convert(arguments)

"""Let the model that a step of a run left answer a file of prompts.

The output is one JSON object a line, in the order of the prompts: `prompt`, `answer`, whether it
`ended` by itself, its `tokens`, and the other columns of the row. With --samples the last three
come as a list, `answers`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from aligner.cli.shared.sampling import add_sampling_arguments, add_step_arguments

NAME = "generate"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_step_arguments(parser, having="that left a policy")
    parser.add_argument(
        "prompts", metavar="PROMPTS", help="JSON, JSON lines, CSV, Parquet, text, … of prompts"
    )
    parser.add_argument(
        "--out", metavar="FILE", type=Path, help="write here, not to standard output"
    )
    parser.add_argument(
        "--samples",
        metavar="N",
        type=_count,
        default=1,
        help="answers to each prompt (default: 1)",
    )
    parser.add_argument(
        "--batch-size",
        metavar="N",
        type=_count,
        default=32,
        help="answers written at one time (default: 32)",
    )
    add_sampling_arguments(parser, temperature=0.0)


def run(arguments: argparse.Namespace) -> int:
    from aligner.cli.shared.late import carry_out  # not needed for --help, which must be quick

    return carry_out("aligner.chat.command:answer_file", arguments)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)

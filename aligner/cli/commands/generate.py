"""Generate answers to a file of prompts with the model of a step.

Prints one JSON object per prompt, in the order of the prompts: `prompt`, `answer`, `ended` (true if
the answer has a stop token), `tokens`, and the other columns of the row. With --samples, `answers` is
a list of the three in the middle.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from aligner.cli.arguments import add_sampling_arguments, add_step_arguments, positive_int
from aligner.cli.startup import quiet_imports

NAME = "generate"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_step_arguments(parser)
    parser.add_argument(
        "prompts",
        metavar="PROMPTS",
        help="File of prompts: JSON Lines, JSON, CSV, Parquet, text, …",
    )
    parser.add_argument(
        "--out", metavar="FILE", type=Path, help="Output file (default: standard output)."
    )
    parser.add_argument(
        "--samples",
        metavar="N",
        type=positive_int,
        default=1,
        help="Answers per prompt (default: 1).",
    )
    parser.add_argument(
        "--batch-size",
        metavar="N",
        type=positive_int,
        default=32,
        help="Answers generated at once (default: 32).",
    )
    add_sampling_arguments(parser, temperature=0.0)


def run(arguments: argparse.Namespace) -> int:
    with quiet_imports():
        from aligner.cli.actions.generate import generate_answers  # loads torch

    return generate_answers(arguments)

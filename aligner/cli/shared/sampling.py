"""What the commands that let a model answer all take: a run, its step, and how tokens are chosen."""

from __future__ import annotations

import argparse

from aligner.chat.numbers import SETTINGS
from aligner.cli.shared.recipes import add_runs_argument


def add_step_arguments(parser: argparse.ArgumentParser, *, having: str) -> None:
    parser.add_argument("name", metavar="RUN", help="a run by its name, or its folder")
    parser.add_argument(
        "--step", metavar="STEP", help=f"whose model (default: the last step {having})"
    )
    add_runs_argument(parser)


def add_sampling_arguments(parser: argparse.ArgumentParser, *, temperature: float) -> None:
    group = parser.add_argument_group("how tokens are chosen")
    group.add_argument(
        "--temperature",
        metavar="T",
        type=SETTINGS["temperature"],
        default=temperature,
        help=f"what logits are divided by; 0 takes the likeliest token (default: {temperature:g})",
    )
    group.add_argument(
        "--top-p",
        metavar="P",
        type=SETTINGS["top_p"],
        default=1.0,
        help="draw among the likeliest tokens that together have this probability (default: 1)",
    )
    group.add_argument(
        "--top-k",
        metavar="K",
        type=SETTINGS["top_k"],
        default=0,
        help="draw among this many likeliest tokens (default: 0, all)",
    )
    group.add_argument(
        "--max-new-tokens",
        metavar="N",
        type=SETTINGS["max_new_tokens"],
        help="tokens in an answer at most (default: 512, or half of what the model takes)",
    )
    group.add_argument(
        "--seed",
        metavar="N",
        type=SETTINGS["seed"],
        default=0,
        help="what the random numbers follow from (default: 0)",
    )

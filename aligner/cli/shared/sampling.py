"""What the commands that let a model answer all take: a run, its step, and how tokens are chosen."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping

from aligner.cli.shared.recipes import add_runs_argument


def _number(
    kind: Callable[[str], float], says: str, allowed: Callable[[float], bool]
) -> Callable[[str], float]:
    def read(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = float("nan")
        if not allowed(value):
            raise argparse.ArgumentTypeError(f"{text!r} is not {says}")
        return value

    return read


SETTINGS: Mapping[str, Callable[[str], float]] = {
    "temperature": _number(float, "a number from 0 to 100", lambda value: 0 <= value <= 100),
    "top_p": _number(float, "a number above 0 and up to 1", lambda value: 0 < value <= 1),
    "top_k": _number(int, "a whole number from 0", lambda value: value >= 0),
    "max_new_tokens": _number(int, "a whole number from 1", lambda value: value >= 1),
    "seed": _number(int, "a whole number from 0", lambda value: value >= 0),
}
"""How each setting is read; raises ArgumentTypeError for a value that makes no sense."""


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

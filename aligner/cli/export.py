"""Write the model that a step of a run left as a plain folder, which anything can load.

The folder holds what `from_pretrained` reads, the tokenizer with its chat template, and a model
card that tells the whole chain. It is loaded back and compared with the run's model first.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from aligner.cli.shared.recipes import add_runs_argument
from aligner.terminal.listing import add_json_argument

NAME = "export"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="RUN", help="a run by its name, or its folder")
    parser.add_argument(
        "--step", metavar="STEP", help="whose model (default: the last step that left one)"
    )
    parser.add_argument("--to", metavar="DIR", type=Path, required=True, help="the folder to write")
    parser.add_argument(
        "--slot",
        choices=("policy", "reward"),
        default="policy",
        help="which of the step's models (default: policy)",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument(
        "--merge", action="store_true", help="whole weights, adapters folded in (the default)"
    )
    form.add_argument(
        "--adapter", action="store_true", help="the adapter alone, with a pointer to its base"
    )
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16", "float16"),
        help="how whole weights are written (default: as the run has them)",
    )
    parser.add_argument("--force", action="store_true", help="replace a model folder at DIR")
    add_json_argument(parser)
    add_runs_argument(parser)
    _add_card_arguments(parser)
    _add_further_arguments(parser)


def _add_card_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("the model card")
    group.add_argument("--license", metavar="ID", help="such as apache-2.0; nothing is assumed")
    group.add_argument("--license-name", metavar="NAME", help="with `--license other`: its name")
    group.add_argument("--license-link", metavar="URL", help="with `--license other`: its text")


def _add_further_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("and then")
    group.add_argument(
        "--push-to", metavar="ORG/NAME", help="upload the folder to the Hugging Face hub"
    )
    group.add_argument("--private", action="store_true", help="with --push-to: for you alone")
    group.add_argument(
        "--gguf",
        metavar="TYPE",
        nargs="?",
        const="f16",
        help="add a GGUF file, made by llama.cpp's converter: f32, f16, bf16, q8_0, … (default: f16)",
    )


def run(arguments: argparse.Namespace) -> int:
    from aligner.cli.shared.late import carry_out  # not needed for --help, which must be quick

    return carry_out("aligner.export.command:export", arguments)

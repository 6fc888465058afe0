"""Export the model of a step as a folder that transformers loads.

The folder contains weights, tokenizer, chat template and a model card that documents the whole
chain. Before it appears, it is loaded back and compared with the model of the run.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from aligner.cli.arguments import add_json_argument, add_step_arguments
from aligner.cli.startup import quiet_imports

NAME = "export"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_step_arguments(parser)
    parser.add_argument("--to", metavar="DIR", type=Path, required=True, help="Output folder.")
    parser.add_argument(
        "--slot",
        choices=("policy", "reward"),
        default="policy",
        help="Export the step's policy or reward model (default: policy).",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument(
        "--merge", action="store_true", help="Merge adapters into the weights (the default)."
    )
    form.add_argument(
        "--adapter",
        action="store_true",
        help="Export only the adapter; it refers to its base model.",
    )
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16", "float16"),
        help="Data type of merged weights (default: that of the run).",
    )
    parser.add_argument("--force", action="store_true", help="Replace DIR if it contains a model.")
    add_json_argument(parser)
    _add_card_arguments(parser)
    _add_publish_arguments(parser)


def _add_card_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("model card")
    group.add_argument(
        "--license", metavar="ID", help="License, such as apache-2.0 (default: none is stated)."
    )
    group.add_argument(
        "--license-name", metavar="NAME", help="Name of the license, with `--license other`."
    )
    group.add_argument(
        "--license-link", metavar="URL", help="URL of its text, with `--license other`."
    )


def _add_publish_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("other outputs")
    group.add_argument(
        "--push-to", metavar="ORG/NAME", help="Upload the folder to the Hugging Face Hub."
    )
    group.add_argument(
        "--private", action="store_true", help="Make the repository of --push-to private."
    )
    group.add_argument(
        "--gguf",
        metavar="TYPE",
        nargs="?",
        const="f16",
        help="Add a GGUF file with llama.cpp's converter: f32, f16, bf16, q8_0, … (default: f16).",
    )


def run(arguments: argparse.Namespace) -> int:
    with quiet_imports():
        from aligner.cli.actions.export import export  # loads torch

    return export(arguments)

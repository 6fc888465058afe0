"""Print a shell completion script for bash, zsh or fish.

    bash   aligner completion bash > ~/.local/share/bash-completion/completions/aligner
    zsh    aligner completion zsh > ~/.zfunc/_aligner       (with fpath+=~/.zfunc before compinit)
    fish   aligner completion fish > ~/.config/fish/completions/aligner.fish

It completes commands, options, recipe files, and the names of runs, steps, stages and plugins.
"""

from __future__ import annotations

import argparse

NAME = "completion"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=("bash", "zsh", "fish"), help="Shell of the script.")


def run(arguments: argparse.Namespace) -> int:
    from argcomplete.shell_integration import shellcode  # not needed for --help

    print(shellcode(["aligner"], shell=arguments.shell).strip())
    return 0

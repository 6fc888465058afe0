"""Print a script that completes aligner's commands, options, stages, steps and runs in a shell.

bash   aligner completion bash > ~/.local/share/bash-completion/completions/aligner
zsh    aligner completion zsh > ~/.zfunc/_aligner       (with fpath+=~/.zfunc)
fish   aligner completion fish > ~/.config/fish/completions/aligner.fish
"""

from __future__ import annotations

import argparse

NAME = "completion"
SHELLS = ("bash", "zsh", "fish")
KINDS = ("stages", "steps", "runs", "plugins")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=SHELLS, help="the shell to write for")
    # What the scripts call while somebody types; not for people.
    parser.add_argument("--words", choices=KINDS, help=argparse.SUPPRESS)
    parser.add_argument("--of", default="", help=argparse.SUPPRESS)


def run(arguments: argparse.Namespace) -> int:
    from aligner.cli.shared.completing import script, words  # imports the index, which imports us

    if arguments.words is None:
        print(script(arguments.shell), end="")
    else:
        for word in words(arguments.words, arguments.of):
            print(word)
    return 0

"""`aligner completion`: the scripts, and the completions in bash, zsh and fish."""

from __future__ import annotations

import os
import pty
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

Aligner = Callable[..., tuple[int, str, str]]

BASH = """\
source <(aligner completion bash)
COMP_LINE="$1"; COMP_POINT=${#1}; COMP_TYPE=9
read -ra COMP_WORDS <<< "$1"
[[ "$1" == *" " ]] && COMP_WORDS+=("")
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
_python_argcomplete aligner
printf '%s\\n' "${COMPREPLY[@]}"
"""
ZSH = """\
complete() { zle expand-or-complete; print -r -- "$BUFFER" > completed; exit }
zle -N complete
bindkey '^T' complete
autoload -Uz compinit
compinit -u -D
source <(aligner completion zsh)
"""


@pytest.fixture
def shell(desk: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with `aligner` on the PATH."""
    tool = desk.parent / "tool"
    tool.mkdir()
    (tool / "aligner").write_text(f'#!/bin/sh\nexec {sys.executable} -m aligner.cli "$@"\n')
    (tool / "aligner").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool}:/usr/bin:/bin")
    return desk


def run_shell(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr == ""
    return done.stdout


def bash_completions(line: str) -> list[str]:
    return [word.strip() for word in run_shell("bash", "--norc", "-c", BASH, "bash", line).split()]


@pytest.mark.parametrize(
    ("line", "completions"),
    [
        ("aligner sch", "schema"),
        ("aligner run --fr", "--from --fresh"),
        ("aligner run sm", "small.yaml"),
        ("aligner run --until tune small.yaml --from ", "make tune again measure"),
        ("aligner preview small.yaml --step m", "make measure"),
        ("aligner stages ", "make measure tune"),
        ("aligner completion ", "bash zsh fish"),
        ("aligner run --no-plugin to", "toy toy_tasks"),
        ("aligner run --only-plugins toy_tasks,dp", "toy_tasks,dpo"),
        ("aligner run --until tune nothing.yaml --from ", ""),
    ],
)
def test_bash_completes(shell: Path, line: str, completions: str) -> None:
    assert bash_completions(line) == completions.split()


def test_bash_completes_runs_and_the_steps_of_a_run(aligner: Aligner, shell: Path) -> None:
    aligner("run", "small.yaml", "--quiet")
    assert bash_completions("aligner runs ") == ["small"]
    assert bash_completions("aligner chat small --step m") == ["make", "measure"]


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")
@pytest.mark.parametrize(
    ("line", "completions"),
    [
        ("aligner sch", "schema"),
        ("aligner run small.yaml --until ", "again make measure tune"),
        ("aligner stages m", "make measure"),
    ],
)
def test_fish_completes(shell: Path, line: str, completions: str) -> None:
    code = "aligner completion fish | source; complete -C $argv[1]"
    listed = run_shell("fish", "--no-config", "-c", code, line).splitlines()
    assert sorted(entry.split("\t")[0] for entry in listed) == completions.split()


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("aligner sch", "aligner schema "),
        ("aligner run sm", "aligner run small.yaml "),
        ("aligner run small.yaml --until me", "aligner run small.yaml --until measure "),
        ("aligner stages tu", "aligner stages tune "),
    ],
)
def test_zsh_completes(shell: Path, typed: str, completed: str) -> None:
    """Type the line and press the key of completion in an interactive zsh on a pseudo-terminal."""
    (shell / ".zshrc").write_text(ZSH)
    terminal, end = pty.openpty()
    process = subprocess.Popen(
        ["zsh", "-i"],
        stdin=end,
        stdout=end,
        stderr=end,
        start_new_session=True,
        env=os.environ | {"ZDOTDIR": str(shell), "TERM": "dumb"},
    )
    os.close(end)
    os.write(terminal, f"{typed}\x14".encode())
    with suppress(OSError):  # the end of the shell closes the terminal
        while os.read(terminal, 1024):
            pass
    os.close(terminal)
    assert process.wait(timeout=60) == 0
    assert (shell / "completed").read_text() == f"{completed}\n"


def test_the_script_of_zsh_can_be_autoloaded(aligner: Aligner) -> None:
    code, out, _ = aligner("completion", "zsh")
    assert (code, out.splitlines()[0]) == (0, "#compdef aligner")

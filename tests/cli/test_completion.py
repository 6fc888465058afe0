"""`aligner completion`: the scripts, and in bash what they complete."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Aligner = Callable[..., tuple[int, str, str]]


def completed(desk: Path, *words: str) -> list[str]:
    """What bash offers for the last of `words`."""
    tool = desk.parent / "tool"
    tool.mkdir(exist_ok=True)
    (tool / "aligner").write_text(f'#!/bin/sh\nexec {sys.executable} -m aligner.cli "$@"\n')
    (tool / "aligner").chmod(0o755)
    typed = " ".join(f"'{word}'" for word in words)
    code = (
        f"PATH={tool}:$PATH; source <(aligner completion bash); COMP_WORDS=({typed}); "
        f'COMP_CWORD={len(words) - 1}; _aligner; printf "%s\\n" "${{COMPREPLY[@]}}"'
    )
    done = subprocess.run(
        ["bash", "--norc", "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        (("aligner", "sch"), ["schema"]),
        (("aligner", "run", "--fr"), ["--from", "--fresh"]),
        (("aligner", "run", "sm"), ["small.yaml"]),
        (
            ("aligner", "run", "--until", "tune", "small.yaml", "--from", ""),
            "make tune again measure",
        ),
        (("aligner", "stages", ""), "make measure tune"),
        (("aligner", "completion", ""), "bash zsh fish"),
        (("aligner", "run", "--no-plugin", "to"), ["toy", "toy_tasks"]),
    ],
)
def test_bash_completes(desk: Path, typed: tuple[str, ...], offered: list[str] | str) -> None:
    expected = offered.split() if isinstance(offered, str) else offered
    assert completed(desk, *typed) == expected


def test_bash_completes_runs_and_the_steps_of_a_run(aligner: Aligner, desk: Path) -> None:
    aligner("run", "small.yaml", "--quiet")
    assert completed(desk, "aligner", "runs", "") == ["small"]
    assert aligner("completion", "bash", "--words", "steps", "--of", "small") == (
        0,
        "make\ntune\nagain\nmeasure\n",
        "",
    )


def test_words_that_cannot_be_found_are_none(aligner: Aligner) -> None:
    asked = ("completion", "bash", "--words", "steps", "--of", "nothing.yaml")
    assert aligner(*asked) == (0, "", "")


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_other_shells_know_every_command_and_option_too(aligner: Aligner, shell: str) -> None:
    code, out, _ = aligner("completion", shell)
    assert code == 0
    assert "@" not in out.replace('"$@"', "")
    for word in ("check", "schema", "stages", "until", "only-plugins", "_aligner_words steps"):
        assert word in out

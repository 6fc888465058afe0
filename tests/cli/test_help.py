"""`aligner --help` and errors of the command line; nothing heavy may load for them."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version

import pytest

from aligner.cli.parser import COMMANDS

Aligner = Callable[..., tuple[int, str, str]]

HEAVY = {
    "accelerate",
    "datasets",
    "numpy",
    "peft",
    "pluggy",
    "pydantic",
    "rich",
    "tokenizers",
    "torch",
    "transformers",
    "trl",
    "yaml",
}


def _loaded_by(*words: str) -> set[str]:
    code = f"import sys; from aligner.cli import main; main({list(words)!r}); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    return set(done.stdout.splitlines()[-1].split())


def test_help_loads_nothing_heavy() -> None:
    loaded = _loaded_by("--help")
    assert "aligner.cli.commands.run" in loaded
    assert loaded & HEAVY == set()


def test_help_of_a_command_loads_nothing_heavy() -> None:
    assert _loaded_by("run", "--help") & HEAVY == set()


TRAINING_LIBRARIES = {"accelerate", "datasets", "peft", "torch", "transformers", "trl"}


@pytest.mark.parametrize(
    "argv",
    [
        ("check", "small.yaml"),
        ("preview", "small.yaml"),
        ("stages",),
        ("stages", "tune"),
        ("runs",),
        ("schema",),
        ("completion", "zsh"),
        ("new", "plugin", "short_talk"),
        *((name, "--help") for name in COMMANDS),
    ],
)
def test_light_commands_load_no_library_that_trains(desk: object, argv: tuple[str, ...]) -> None:
    assert _loaded_by(*argv) & TRAINING_LIBRARIES == set()


def test_help_lists_every_command_with_its_sentence(aligner: Aligner) -> None:
    code, out, err = aligner("--help")
    assert (code, err) == (0, "")
    listed = out.split("COMMAND\n", 1)[1].split("\n\n", 1)[0]
    names = [line.split()[0] for line in listed.splitlines() if line[4] != " "]
    assert names == sorted(names)
    assert {"check", "completion", "run", "runs", "schema", "stages"} <= set(names)
    assert re.search(r"^    run +Run a recipe: every step that has not finished yet\.$", out, re.M)
    assert "Exit codes: 0 success; 1 failure; 2 invalid recipe, data or arguments, nothing" in out


def test_the_version_is_the_installed_one(aligner: Aligner) -> None:
    assert aligner("--version") == (0, f"aligner {version('aligner')}\n", "")


def test_an_unknown_command_is_reported_with_the_most_similar_one(aligner: Aligner) -> None:
    assert aligner("chekc", "small.yaml") == (
        2,
        "",
        "aligner: unknown command 'chekc'; did you mean 'check'?\n  hint: aligner --help\n",
    )


def test_no_command_at_all_is_refused(aligner: Aligner) -> None:
    code, _, err = aligner()
    assert (code, err) == (
        2,
        "aligner: the following arguments are required: COMMAND\n  hint: aligner --help\n",
    )


def test_a_run_name_that_is_a_path_is_refused(aligner: Aligner) -> None:
    assert aligner("run", "small.yaml", "--name", "../out") == (
        2,
        "",
        "aligner run: argument --name: '../out' is not a valid run name: use "
        "letters, digits, '.', '_' and '-', and begin with a letter or digit\n  hint: aligner run --help\n",
    )


def test_an_unexpected_error_is_printed_in_brief_and_written_in_full(aligner: Aligner) -> None:
    code, _, err = aligner("schema", "--out", "nowhere/schema.json")
    assert code == 1
    brief, full, *_ = err.splitlines()
    assert brief.startswith("FileNotFoundError: [Errno 2] No such file or directory:")
    with open(full.removeprefix("  full traceback: ")) as file:
        assert file.read().startswith("Traceback (most recent call last):\n")


def test_a_closed_pipe_ends_a_listing_quietly(desk: object) -> None:
    command = f"{sys.executable} -m aligner.cli schema | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert done.stdout.splitlines()[0] == "{"
    assert done.stdout.splitlines()[-1] in ("0", "141")

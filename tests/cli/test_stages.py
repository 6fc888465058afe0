"""`aligner stages` and `aligner schema`: stages, their plugins, and plugins that are not used."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

Aligner = Callable[..., tuple[int, str, str]]

TOY = """\
stage     description                              plugin
──────────────────────────────────────────────────────────
make      Make a model out of nothing.             toy 1.2
measure   See how good the model is.               toy 1.2
tune      Move the model towards what is wanted.   toy 1.2
"""
TUNE = """\
tune: Move the model towards what is wanted.

requires  policy, tokenizer
provides  policy

options
  rate: number > 0; default 0.1
      How far each optimizer step goes.
"""
NARROW = """\
stages
  make  toy 1.2
    Make a model out of nothing.
  measure  toy 1.2
    See how good the model is.
  tune  toy 1.2
    Move the model towards what is
    wanted.
"""


def install(desk: Path, **plugins: str) -> None:
    """Install modules with this text as plugins beside `toy`."""
    site = desk.parent / "site"
    points = ["toy = toy", *(f"{name} = {name}" for name in plugins)]
    (site / "toy_stages-1.2.dist-info" / "entry_points.txt").write_text(
        "[aligner]\n" + "\n".join(points) + "\n"
    )
    for name, text in plugins.items():
        (site / f"{name}.py").write_text(text)


def test_stages_are_listed_with_their_plugin(aligner: Aligner) -> None:
    code, out, err = aligner("stages")
    assert (code, err) == (0, "")
    assert out.startswith(TOY)


def test_stages_in_forty_columns_are_a_list(
    aligner: Aligner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    _, out, _ = aligner("stages")
    assert out.startswith(NARROW)
    assert max(map(len, out.splitlines())) <= 40


def test_a_broken_plugin_is_listed_with_its_error_and_a_blocked_one_as_blocked(
    aligner: Aligner, desk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(desk, cracked="raise OSError('no \\x1b[31mlibrary')", shunned="raise SystemExit")
    monkeypatch.setenv("ALIGNER_ONLY_PLUGINS", "toy,cracked,shunned")
    _, out, _ = aligner("stages", "--no-plugin", "shunned")
    assert (
        "    not on the allow-list\n"
        "  cracked (toy-stages 1.2)\n"
        "    broken: OSError('no \\x1b[31mlibrary')\n"
        "  shunned (toy-stages 1.2)\n"
        "    blocked\n"
    ) in out
    _, out, _ = aligner("stages", "--no-plugin", "shunned", "--json")
    listed = json.loads(out)
    assert listed["plugins"] == {"toy": "toy-stages 1.2"}
    assert [p for p in listed["not_in_use"] if p["source"] == "toy-stages 1.2"] == [
        {
            "name": "cracked",
            "source": "toy-stages 1.2",
            "reason": "broken: OSError('no \\x1b[31mlibrary')",
        },
        {"name": "shunned", "source": "toy-stages 1.2", "reason": "blocked"},
    ]


def test_only_plugins_on_the_command_line_overrides_the_environment(
    aligner: Aligner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALIGNER_ONLY_PLUGINS", "nothing")
    assert json.loads(aligner("stages", "--json")[1])["stages"] == []
    _, out, _ = aligner("stages", "--json", "--only-plugins", "toy")
    assert [stage["stage"] for stage in json.loads(out)["stages"]] == ["make", "measure", "tune"]


def test_two_plugins_with_the_same_stage_are_refused(
    aligner: Aligner, desk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(desk, twin="from toy import aligner_stages")
    monkeypatch.setenv("ALIGNER_ONLY_PLUGINS", "toy,twin")
    code, out, err = aligner("stages")
    assert (code, out) == (2, "")
    assert "stage 'make' is offered twice" in err


def test_a_stage_is_described_with_every_option(aligner: Aligner) -> None:
    code, out, err = aligner("stages", "tune")
    assert (code, err) == (0, "")
    assert out.startswith(TUNE)
    assert out.endswith("\n\nplugin toy 1.2\n")


def test_a_stage_is_described_as_json(aligner: Aligner) -> None:
    page = json.loads(aligner("stages", "tune", "--json")[1])
    assert (page["stage"], page["plugin"]) == ("tune", "toy 1.2")
    assert page["options"][0] == {
        "name": "rate",
        "kind": "number > 0",
        "default": "0.1",
        "text": "How far each optimizer step goes.",
    }


def test_an_unknown_stage_is_reported_with_the_most_similar_name(aligner: Aligner) -> None:
    code, out, err = aligner("stages", "tuen")
    assert (code, out) == (2, "")
    assert err.startswith(
        "aligner stages: no plugin offers a stage 'tuen'\n  hint: did you mean 'tune'?\n"
    )


def test_the_schema_is_the_same_on_the_screen_and_in_a_file(aligner: Aligner) -> None:
    _, out, _ = aligner("schema")
    assert aligner("schema", "--out", "recipe.schema.json") == (0, "", "")
    assert Path("recipe.schema.json").read_text() == out
    assert "step-tune" in json.loads(out)["$defs"]

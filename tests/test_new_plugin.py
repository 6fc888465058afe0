"""`aligner new plugin` writes a distribution that holds to the contract as it stands."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

import pytest

from aligner.cli import main
from aligner.cli.shared.new_plugin import FILES, distribution


def test_it_writes_exactly_these_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["new", "plugin", "short_talk"]) == 0
    found = sorted(
        str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()
    )
    assert found == [
        "aligner-short-talk/.gitignore",
        "aligner-short-talk/README.md",
        "aligner-short-talk/aligner_short_talk/__init__.py",
        "aligner-short-talk/aligner_short_talk/plan.py",
        "aligner-short-talk/aligner_short_talk/py.typed",
        "aligner-short-talk/aligner_short_talk/stage.py",
        "aligner-short-talk/aligner_short_talk/train.py",
        "aligner-short-talk/pyproject.toml",
        "aligner-short-talk/tests/test_short_talk.py",
    ]
    assert capsys.readouterr().out == (
        "aligner-short-talk: 9 files\n"
        "  next: pip install -e 'aligner-short-talk[test]'\n"
        "        pytest aligner-short-talk\n"
        "        aligner stages short_talk\n"
    )


def test_its_packaging_names_the_entry_point() -> None:
    project = tomllib.loads(distribution("short_talk")["pyproject.toml"])
    assert project["project"]["name"] == "aligner-short-talk"
    assert project["project"]["entry-points"]["aligner"] == {"short_talk": "aligner_short_talk"}
    assert project["tool"]["hatch"]["build"]["targets"]["wheel"] == {
        "packages": ["aligner_short_talk"]
    }


def test_no_placeholder_is_left_and_all_code_parses() -> None:
    for path, text in distribution("short_talk").items():
        assert "$" not in text, path
        if path.endswith(".py"):
            ast.parse(text)


def test_the_declaration_is_this() -> None:
    """The file an author looks at first, whole."""
    assert distribution("short_talk")["aligner_short_talk/stage.py"] == STAGE


def test_every_template_is_used() -> None:
    import aligner.cli.shared.new_plugin as here

    folder = Path(here.__file__).parent / "plugin_template"
    templates = {path.name for path in folder.iterdir()}
    assert templates == {f"{source}.template" for source in FILES.values() if source}


@pytest.mark.parametrize("name", ["Short", "2nd", "a-b", "a__b", "a.b", "class", ""])
def test_a_name_that_is_none_is_refused(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["new", "plugin", name, "--dir", str(tmp_path / "x")]) == 2
    assert capsys.readouterr().err == (
        f"NAME: {name!r} cannot name a stage\n"
        "  hint: use lower-case letters and digits, words joined by _\n"
    )
    assert not (tmp_path / "x").exists()


def test_the_name_of_a_stage_there_is_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["new", "plugin", "dpo", "--dir", str(tmp_path / "x")]) == 2
    assert capsys.readouterr().err == (
        "NAME: there is a stage 'dpo' already, of plugin dpo 0.1.0\n"
        "  hint: give yours another name\n"
    )


def test_a_folder_that_exists_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["new", "plugin", "short_talk", "--dir", str(tmp_path)]) == 2
    assert capsys.readouterr().err == (
        f"--dir: {tmp_path} exists already\n  hint: give another folder with --dir\n"
    )
    assert not list(tmp_path.iterdir())


STAGE = '''\
"""What the short_talk stage takes, reads and writes."""

from __future__ import annotations

from aligner import ModelState, Plan, PlanContext, Stage, StepContext
from aligner.data.options import DataOptions
from aligner.models.options import ModelOptions
from aligner.train.options import TrainOptions
from pydantic import Field


class ShortTalkOptions(DataOptions, ModelOptions, TrainOptions):
    learning_rate: float = Field(2e-5, gt=0)
    """Peak learning rate; adapters usually want ten times that of full weights."""


class ShortTalk(Stage[ShortTalkOptions]):
    """Train the policy on the assistant's part of conversations."""

    name = "short_talk"
    requires = frozenset({"policy", "tokenizer"})
    provides = frozenset({"policy"})

    def plan(self, context: PlanContext) -> Plan:
        from aligner_short_talk.plan import plan  # the tokenizer waits until a recipe is looked at

        return plan(self.options, context)

    def run(self, state: ModelState, context: StepContext) -> ModelState:
        from aligner_short_talk.train import train  # torch waits until a step really runs

        return state.put(context.step, policy=train(self.options, state, context))
'''

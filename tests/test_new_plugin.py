"""`aligner new plugin` writes a package that passes the contract tests."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

import pytest

from aligner.cli import main
from aligner.scaffold import plugin
from aligner.scaffold.plugin import FILES, plugin_files


def test_it_writes_exactly_these_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["new", "plugin", "margin_dpo"]) == 0
    found = sorted(
        str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()
    )
    assert found == [
        "aligner-margin-dpo/.gitignore",
        "aligner-margin-dpo/README.md",
        "aligner-margin-dpo/aligner_margin_dpo/__init__.py",
        "aligner-margin-dpo/aligner_margin_dpo/loss.py",
        "aligner-margin-dpo/aligner_margin_dpo/options.py",
        "aligner-margin-dpo/aligner_margin_dpo/py.typed",
        "aligner-margin-dpo/aligner_margin_dpo/stage.py",
        "aligner-margin-dpo/pyproject.toml",
        "aligner-margin-dpo/tests/test_margin_dpo.py",
    ]
    assert capsys.readouterr().out == (
        "aligner-margin-dpo: 9 files\n"
        "  next: pip install -e 'aligner-margin-dpo[test]'\n"
        "        pytest aligner-margin-dpo\n"
        "        aligner stages margin_dpo\n"
    )


def test_its_packaging_names_the_entry_point() -> None:
    project = tomllib.loads(plugin_files("margin_dpo")["pyproject.toml"])
    assert project["project"]["name"] == "aligner-margin-dpo"
    assert project["project"]["entry-points"]["aligner"] == {"margin_dpo": "aligner_margin_dpo"}
    assert project["tool"]["hatch"]["build"]["targets"]["wheel"] == {
        "packages": ["aligner_margin_dpo"]
    }


def test_no_placeholder_is_left_and_all_code_parses() -> None:
    for path, text in plugin_files("margin_dpo").items():
        assert "$" not in text, path
        if path.endswith(".py"):
            ast.parse(text)


def test_the_declaration_is_this() -> None:
    """Compare the whole file that an author edits first."""
    assert plugin_files("margin_dpo")["aligner_margin_dpo/stage.py"] == STAGE


def test_every_template_is_used() -> None:
    folder = Path(plugin.__file__).parent / "plugin_template"
    templates = {path.name for path in folder.iterdir()}
    assert templates == {f"{source}.template" for source in FILES.values() if source}


@pytest.mark.parametrize("name", ["Short", "2nd", "a-b", "a__b", "a.b", "class", ""])
def test_a_name_that_is_none_is_refused(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["new", "plugin", name, "--dir", str(tmp_path / "x")]) == 2
    assert capsys.readouterr().err == (
        f"NAME: {name!r} is not a valid stage name\n"
        "  hint: use lower-case letters and digits, words joined by _\n"
    )
    assert not (tmp_path / "x").exists()


def test_the_name_of_an_existing_stage_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["new", "plugin", "dpo", "--dir", str(tmp_path / "x")]) == 2
    assert capsys.readouterr().err == (
        "NAME: plugin dpo 0.1.0 has a stage 'dpo' already\n  hint: choose another name\n"
    )


def test_a_folder_that_exists_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["new", "plugin", "margin_dpo", "--dir", str(tmp_path)]) == 2
    assert capsys.readouterr().err == (
        f"--dir: {tmp_path} exists already\n  hint: choose another folder with --dir\n"
    )
    assert not list(tmp_path.iterdir())


STAGE = '''\
"""The margin_dpo stage."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aligner.kit.declare import PreferenceStage

from aligner_margin_dpo.options import MarginDpoOptions

if TYPE_CHECKING:
    from aligner.kit.work import PreferenceMethod


class MarginDpo(PreferenceStage[MarginDpoOptions]):
    """Train the policy on preference pairs with a target margin."""

    name = "margin_dpo"

    def method(self) -> PreferenceMethod[MarginDpoOptions]:
        from aligner.kit.work import PreferenceMethod  # torch loads only here

        from aligner_margin_dpo.loss import margin_dpo_loss

        return PreferenceMethod(self.options, margin_dpo_loss)
'''

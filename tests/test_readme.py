from __future__ import annotations

import re
from pathlib import Path

import pytest

from aligner.host import Host
from aligner.options.validation import validate
from aligner.recipe import read_recipe

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", README, re.S)


def test_the_map_of_the_tree_is_the_tree() -> None:
    [shown] = re.findall(r"```\n(aligner/.*?)```", README, re.S)
    named = {line.split("/")[0] for line in shown.splitlines() if re.match(r"[a-z]+/", line)}
    there = {
        item.name for item in ROOT.iterdir() if item.is_dir() and not item.name.startswith(".")
    }
    made = {"runs", "dist", "build", "__pycache__"}
    assert named == {name for name in there - made if not name.endswith(".egg-info")}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_to_a_file_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    local = [link for link in links if "://" not in link]
    assert [link for link in local if not (page.parent / link).exists()] == []


def test_the_recipe_on_the_first_screen_fits_its_stages(tmp_path: Path) -> None:
    [shown, *_] = blocks("yaml")
    path = tmp_path / "shown.yaml"
    path.write_text(shown)
    host = Host.discover()
    steps = read_recipe(path).steps
    assert [step.stage for step in steps] == ["chat", "sft", "reward", "ppo", "evaluate"]
    for step in steps:
        validate(
            step,
            host.stage(step.stage, where=step.where),
            host.registry().row_operations,
        )


def test_the_table_of_stages_is_what_is_installed() -> None:
    rows = re.findall(r"^\| `(\w+)` \|", README, re.M)
    assert set(rows) == set(Host.discover().stages())


def test_every_command_that_is_shown_exists() -> None:
    shown = set(re.findall(r"^aligner (\w+)", "".join(blocks("sh")), re.M))
    commands = {
        path.stem.rstrip("_") for path in (ROOT / "aligner" / "cli" / "commands").glob("[a-z]*.py")
    }
    assert shown <= commands
    assert len(shown) >= 5

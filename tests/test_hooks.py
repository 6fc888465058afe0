"""Every hook is documented with its exact arguments, and its example works as described."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from page_code import as_module, blocks, sections

import aligner
from aligner import hookspecs
from aligner.host import host_of
from aligner.recipe import recipe_from
from aligner.registry import DatasetSummary, ExternalConfig, TemplateInputs
from aligner.stage import Plan, PlanContext, Stage, StageOptions, StepContext
from aligner.state import ModelState
from aligner.testing import conversations, run_stage, write_files
from aligner_sft.options import SFTOptions
from aligner_sft.stage import SFT

PAGE = (Path(__file__).parents[1] / "docs" / "hooks.md").read_text("utf-8")
HOOKS = {name: hook for name, hook in vars(hookspecs).items() if name.startswith("aligner_")}

Example = Callable[[str], ModuleType]


@pytest.fixture
def example(tmp_path: Path) -> Example:
    """Return the code block under the heading of a hook as a plugin."""

    def load(hook: str) -> ModuleType:
        [text] = [text for head, text in sections(PAGE).items() if head.startswith(f"{hook}(")]
        [code] = blocks(text)
        return as_module(code, f"example_of_{hook}", tmp_path)

    return load


class TwoPoints(StageOptions):
    fail: bool = False
    """Raise in the middle."""


class Reporting(Stage[TwoPoints]):
    """Report progress twice."""

    name = "reporting"
    requires = frozenset()
    provides = frozenset()

    def plan(self, context: PlanContext) -> Plan:
        return Plan(summary="reports", metrics=frozenset({"loss"}))

    def run(self, state: ModelState, context: StepContext) -> ModelState:
        context.progress(1, 2, loss=0.5)
        if self.options.fail:
            raise RuntimeError("out of disk space")
        context.progress(2, 2)
        context.record(loss=0.25)
        return state


def run_reporting(plugin: ModuleType, folder: Path, *, fail: bool = False) -> None:
    recipe = aligner.Recipe([Reporting(TwoPoints(fail=fail))], folder=folder, plugins=[plugin])
    recipe.run(runs=folder / "runs", show=False)


def test_every_hook_is_a_heading_with_its_exact_arguments() -> None:
    assert list(sections(PAGE)) == [
        f"{name}({', '.join(inspect.signature(hook).parameters)})" for name, hook in HOOKS.items()
    ]


def test_every_hook_is_a_row_of_the_table() -> None:
    for name in HOOKS:
        assert PAGE.count(f"| [`{name}`](#") == 1, name


def test_every_hook_has_a_test_named_for_it() -> None:
    assert [name for name in HOOKS if f"test_{name}" not in globals()] == []


def test_the_table_of_the_code_names_every_hook() -> None:
    assert hookspecs.__doc__ is not None
    assert [name for name in HOOKS if f"    {name} " not in hookspecs.__doc__] == []


def test_aligner_stages(example: Example, tmp_path: Path) -> None:
    plugin = example("aligner_stages")
    assert list(host_of([plugin]).stages()) == ["greet"]
    field = plugin.GreetOptions.model_fields["greeting"]
    assert field.description == "Greeting to count the letters of."
    made: Any = plugin.Greet(plugin.GreetOptions(greeting="good day"))
    result = aligner.Recipe([made], plugins=[plugin]).run(runs=tmp_path / "runs", show=False)
    assert result["greet"].metrics == {"letters": 8.0}


def test_aligner_reward_functions(example: Example) -> None:
    [offered] = host_of([example("aligner_reward_functions")]).registry().reward_functions.items()
    name, ends = offered
    answers = [aligner.Completion(prompt=(), text=text) for text in ("yes.", "no", "wow! ")]
    assert name == "ends"
    assert ends().score(answers) == [1.0, 0.0, 0.0]
    assert ends(ends.Options(mark="!")).score(answers) == [0.0, 0.0, 1.0]


def test_aligner_data_sources(example: Example) -> None:
    from aligner.data.options import DataSpec
    from aligner.data.reading.load import load_rows

    context = _context(example("aligner_data_sources"), Path("."))
    spec = DataSpec(source="sums", options={"count": 3})
    loaded = load_rows((spec,), want="conversation", context=context, option="data")
    assert [row.messages[-1]["content"] for row in loaded.rows] == ["0", "2", "4"]


def test_aligner_data_formats(example: Example, tmp_path: Path) -> None:
    from aligner.data.options import DataSpec
    from aligner.data.reading.load import load_rows

    context = _context(example("aligner_data_formats"), tmp_path)
    write_files(tmp_path, {"p.jsonl": [{"q": "why?", "won": "so", "lost": "not so"}]})
    loaded = load_rows(
        (DataSpec(path="p.jsonl"),), want="preference", context=context, option="data"
    )
    [pair] = loaded.rows
    assert loaded.ledger.formats == ("won-lost",)
    assert (pair.chosen[0]["content"], pair.rejected[0]["content"]) == ("so", "not so")


def test_aligner_row_operations(example: Example, tmp_path: Path) -> None:
    from aligner.data.options import DataSpec
    from aligner.data.reading.load import load_rows

    context = _context(example("aligner_row_operations"), tmp_path)
    write_files(tmp_path, {"p.jsonl": [{"text": "a long text"}, {"text": "short"}]})
    spec: Any = DataSpec(path="p.jsonl", shorten={"characters": 6})  # type: ignore[call-arg]
    loaded = load_rows((spec,), want="text", context=context, option="data")
    assert [row.text for row in loaded.rows] == ["a long", "short"]
    assert "1 were shortened (p.jsonl:1)" in loaded.ledger.describe()


def test_aligner_recipe_templates(example: Example) -> None:
    [template] = host_of([example("aligner_recipe_templates")]).registry().recipe_templates.values()
    data = {"data": DatasetSummary(spec="talks.jsonl")}
    assert template.render(TemplateInputs(model="base", adapter="none", data=data)) == (
        "model: base\n"
        "steps:\n"
        "  - stage: sft\n"
        "    data: talks.jsonl\n"
        "    num_train_epochs: 2  # more than three rarely helps\n"
    )


def test_aligner_config_importers(example: Example, tmp_path: Path) -> None:
    [talker] = host_of([example("aligner_config_importers")]).registry().config_importers.values()
    settings = {"start_from": "base", "talks": "talks.jsonl", "color": "red"}
    path = tmp_path / "old.yaml"
    config = ExternalConfig(
        path=path,
        where="old.yaml",
        settings=settings,
        lines={"color": "old.yaml:3"},
        folder=tmp_path,
        recipe_folder=tmp_path,
    )
    assert talker.recognize(settings)
    assert not talker.recognize({"talks": "talks.jsonl"})
    result = talker.translate([config], {})
    assert recipe_from(result.recipe, folder=tmp_path).steps[0].options == {"data": "talks.jsonl"}
    assert [(note.where, note.key) for note in result.notes] == [("old.yaml:3", "color")]


def test_aligner_step_started(example: Example, tmp_path: Path) -> None:
    plugin = example("aligner_step_started")
    run_reporting(plugin, tmp_path)
    assert plugin.NOTES == ["reporting starts with nothing"]
    run_reporting(plugin, tmp_path)
    assert len(plugin.NOTES) == 1


def test_aligner_step_progress(example: Example, tmp_path: Path) -> None:
    plugin = example("aligner_step_progress")
    run_reporting(plugin, tmp_path)
    assert plugin.POINTS == [("reporting/loss", 1, 0.5)]


def test_aligner_step_finished(example: Example, tmp_path: Path) -> None:
    plugin = example("aligner_step_finished")
    run_reporting(plugin, tmp_path)
    assert plugin.ROWS == [{"step": "reporting", "changed": [], "metrics": {"loss": 0.25}}]


def test_the_files_of_a_step_exist_when_its_end_is_reported(tmp_path: Path) -> None:
    exists: list[bool] = []

    class Observer:
        @aligner.hookimpl
        def aligner_step_finished(self, context: StepContext, after: ModelState) -> None:
            exists.append((context.folder / "metrics.jsonl").is_file())
            exists.append(Path(after.get("policy").path, "config.json").is_file())

    options = SFTOptions(data="talks.jsonl", max_steps=1, learning_rate=1e-2)
    run_stage(SFT(options), tmp_path, files={"talks.jsonl": conversations()}, plugins=[Observer()])
    assert exists == [True, True]


def test_aligner_step_failed(example: Example, tmp_path: Path) -> None:
    plugin = example("aligner_step_failed")
    with pytest.raises(RuntimeError, match="out of disk space"):
        run_reporting(plugin, tmp_path, fail=True)
    assert plugin.FAILURES == ["reporting: RuntimeError: out of disk space"]


def _context(plugin: ModuleType, folder: Path) -> PlanContext:
    return PlanContext(
        step="s",
        where="r.yaml:1",
        recipe_folder=folder,
        seed=0,
        slots={},
        registry=host_of([plugin]).registry(),
        memo={},
    )

"""The JSON Schema accepts valid recipes and rejects others; pages describe the options."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import Field

from aligner.data.options import DataSpecs
from aligner.errors import AlignerError
from aligner.options.recipe_schema import recipe_schema
from aligner.options.stage_page import Option, describe_stage, options_of
from aligner.options.validation import validate
from aligner.recipe import read_recipe
from aligner.stage import Plan, PlanContext, Stage, StageOptions, StepContext
from aligner.state import ModelState, Slot


class Lora(StageOptions):
    """Train a low-rank update."""

    method: Literal["lora", "dora"] = "lora"
    """Which kind."""
    r: int = Field(8, gt=0)
    """Rank of the update."""


class TuneConfig(StageOptions):
    data: DataSpecs
    """Rows to train on."""
    learning_rate: float = Field(1e-5, gt=0)
    """Peak learning rate."""
    adapter: Lora | None = None
    """Which adapter is trained, if any."""
    steps: int | Literal["auto"] = Field("auto")
    """Optimizer steps."""
    packing: bool = False
    """Whether rows share a sequence."""
    weights: dict[str, float] = Field(default_factory=lambda: {"a": 1.0})
    """Weight of each."""
    tags: tuple[str, ...] = ("x", "y")
    """Words."""


class Tune(Stage[TuneConfig]):
    """Tune the policy.

    It takes a while.
    """

    name = "tune"
    requires = frozenset({"policy", "tokenizer"})
    provides = frozenset({"policy"})

    def plan(self, context: PlanContext) -> Plan:
        return Plan(summary="")

    def run(self, state: ModelState, context: StepContext) -> ModelState:
        return state


class LookConfig(StageOptions):
    keep: bool = True
    """Whether to keep it."""
    at: str
    """What to look at."""
    both: tuple[float, float] = (0.5, 1.0)
    """From and to."""


class LookOver(Stage[LookConfig]):
    name = "look"
    requires = frozenset({"policy", "tokenizer"})

    @property
    def uses(self) -> frozenset[Slot]:
        return frozenset({"reward"} if self.options.at else ())

    @property
    def provides(self) -> frozenset[Slot]:
        return frozenset({"policy"} if self.options.keep else ())

    def plan(self, context: PlanContext) -> Plan:
        return Plan(summary="")

    def run(self, state: ModelState, context: StepContext) -> ModelState:
        return state


STAGES: Mapping[str, type[Stage[Any]]] = {"tune": Tune, "look": LookOver}
SCHEMA = recipe_schema(STAGES, {})
LOOK = {"stage": "look", "at": "it"}
TUNE = {"stage": "tune", "data": "a.jsonl"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("base.yaml").write_text(json.dumps({"steps": [TUNE, LOOK]}))
    return tmp_path


def reads(recipe: Any) -> bool:
    """Return True if `recipe`, written to a file, is read and its options are valid."""
    Path("r.yaml").write_text(json.dumps(recipe))
    try:
        for step in read_recipe("r.yaml", environment={"N": "3"}).steps:
            validate(step, STAGES[step.stage], {})
    except (AlignerError, KeyError):
        return False
    return True


def fits(recipe: Any) -> bool:
    return bool(jsonschema.Draft202012Validator(SCHEMA).is_valid(recipe))


GOOD: list[dict[str, Any]] = [
    {"steps": [TUNE]},
    {"name": "a.b", "description": "x", "seed": 3, "model": "a/b", "steps": [TUNE]},
    {"name": "run-${N}", "seed": "${N}", "model": {"path": "a", "revision": "b"}, "steps": [TUNE]},
    {"steps": [{**TUNE, "data": {"hub": "a"}}, {**TUNE, "as": "b", "data": ["a", {"path": "b"}]}]},
    {"steps": [{**TUNE, "gate": {"a": "< 2", "b": "1e-3 .. 2", "c": "> 1 and <= 2"}}]},
    {"steps": [{**TUNE, "learning_rate": 1, "steps": 3, "packing": True, "adapter": None}]},
    {"steps": [{**TUNE, "steps": "auto", "adapter": {"r": 3, "method": "dora"}, "tags": []}]},
    {"steps": [{**TUNE, "learning_rate": "${N}", "steps": "${N}", "adapter": {"r": "${N}"}}]},
    {"steps": [{**TUNE, "weights": {"a": 0.5, "b": "${N}"}, "packing": "${NO:-true}"}]},
    {"steps": [LOOK, {**TUNE, "before": "look"}]},
    {"extends": "base.yaml"},
    {"extends": {"recipe": "base.yaml", "until": "tune"}, "steps": []},
    {"extends": "base.yaml", "drop": ["look"], "steps": [{"as": "tune", "learning_rate": 1}]},
    {"extends": "base.yaml", "drop": "look", "steps": [{"stage": "tune", "packing": False}]},
    {"extends": "base.yaml", "steps": [{**LOOK, "as": "b", "after": "tune"}]},
    {"extends": "base.yaml", "steps": [{"as": "tune", "gate": {"a": None}}]},
]
BAD: list[Any] = [
    None,
    [],
    {},
    {"steps": []},
    {"steps": {}},
    {"steps": ["tune"]},
    {"steps": [{"stage": "tun", "data": "a"}]},
    {"steps": [{"as": "tune", "data": "a"}]},
    {"steps": [{"stage": "tune"}]},
    {"steps": [TUNE], "sed": 1},
    {"steps": [TUNE], "seed": -1},
    {"steps": [TUNE], "seed": "x"},
    {"steps": [TUNE], "name": "a/b"},
    {"steps": [TUNE], "model": {"revision": "a"}},
    {"steps": [TUNE], "model": {"path": "a", "base": "b"}},
    {"steps": [TUNE], "drop": ["look"]},
    {"steps": [{**TUNE, "lr": 1}]},
    {"steps": [{**TUNE, "as": "a b"}]},
    {"steps": [{**TUNE, "learning_rate": "fast"}]},
    {"steps": [{**TUNE, "learning_rate": 0}]},
    {"steps": [{**TUNE, "learning_rate": True}]},
    {"steps": [{**TUNE, "steps": "many"}]},
    {"steps": [{**TUNE, "data": []}]},
    {"steps": [{**TUNE, "data": {"path": "a", "frist": 1}}]},
    {"steps": [{**TUNE, "data": 3}]},
    {"steps": [{**TUNE, "adapter": {"method": "lorra"}}]},
    {"steps": [{**TUNE, "adapter": {"rank": 3}}]},
    {"steps": [{**TUNE, "weights": {"a": "x"}}]},
    {"steps": [{**TUNE, "gate": {"loss": 2.5}}]},
    {"steps": [{**TUNE, "gate": {"loss": "about 2"}}]},
    {"extends": 3},
    {"extends": {"until": "tune"}},
    {"extends": "base.yaml", "steps": [{"learning_rate": 1}]},
    {"extends": "base.yaml", "steps": [{"stage": "tune", "lr": 1}]},
]


def test_it_is_a_schema_of_its_draft() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert json.loads(json.dumps(SCHEMA)) == SCHEMA


@pytest.mark.parametrize("recipe", GOOD, ids=json.dumps)
def test_the_schema_accepts_valid_recipes(folder: Path, recipe: Any) -> None:
    assert (reads(recipe), fits(recipe)) == (True, True)


@pytest.mark.parametrize("recipe", BAD, ids=json.dumps)
def test_the_schema_rejects_invalid_recipes(folder: Path, recipe: Any) -> None:
    assert (reads(recipe), fits(recipe)) == (False, False)


VALUES: dict[str, list[Any]] = {
    "learning_rate": [1, 1e-5, 0, "fast", None, [1], True],
    "data": ["a", ["a"], [], {"hub": "a"}, {"hub": "a", "first": 0}, {"hub": "a", "x": 1}, 3],
    "adapter": [None, {}, {"r": 3}, {"r": 0}, {"r": 1.5}, {"method": "x"}, "lora"],
    "steps": ["auto", 3, 2.5, "many", None],
    "packing": [True, False, None, {}],
    "weights": [{}, {"a": 1}, {"a": []}, []],
    "tags": [[], ["a"], [1], "a"],
    "bta": [1],
    "at": ["x", "", 3, None],
    "both": [[1, 2], [1], [1, "a"], 3],
}
STEP = st.fixed_dictionaries(
    {"stage": st.sampled_from(["tune", "look", "tun"])},
    optional={key: st.sampled_from(values) for key, values in VALUES.items()},
)


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(step=STEP)
def test_schema_and_reader_agree_on_any_step(folder: Path, step: dict[str, Any]) -> None:
    recipe = {"steps": [step]}
    assert fits(recipe) == reads(recipe)


def test_editors_find_the_documentation_of_stages_and_options() -> None:
    step = SCHEMA["$defs"]["step-tune"]
    assert step["description"] == "Tune the policy.\n\nIt takes a while."
    assert step["properties"]["learning_rate"] == {
        "description": "Peak learning rate.",
        "default": 1e-05,
        "anyOf": [
            {"type": "number", "exclusiveMinimum": 0},
            {"$ref": "#/$defs/variable"},
        ],
    }
    assert SCHEMA["$defs"]["step"]["properties"]["stage"]["enum"] == ["look", "tune"]


def test_a_schema_without_stages_is_valid() -> None:
    schema = recipe_schema({}, {})
    jsonschema.Draft202012Validator.check_schema(schema)
    assert not jsonschema.Draft202012Validator(schema).is_valid({"steps": [TUNE]})


def test_the_options_of_a_model_are_described_in_words() -> None:
    assert options_of(TuneConfig)[:7] == (
        Option("data", "DataSpec | list of DataSpec", "required", "Rows to train on."),
        Option("learning_rate", "number > 0", "1e-05", "Peak learning rate."),
        Option("adapter", "Lora", "none", "Which adapter is trained, if any."),
        Option("steps", "whole number | 'auto'", "auto", "Optimizer steps."),
        Option("packing", "true or false", "false", "Whether rows share a sequence."),
        Option("weights", "mapping to number", "{a: 1.0}", "Weight of each."),
        Option("tags", "list of text", "[x, y]", "Words."),
    )
    assert options_of(Lora)[0] == Option("method", "'lora' | 'dora'", "lora", "Which kind.")


def test_the_page_of_a_stage_has_its_slots_and_options() -> None:
    assert describe_stage(LookOver, {}) == (
        "look: (no documentation)\n"
        "\n"
        "requires  policy, tokenizer\n"
        "uses      depends on the options\n"
        "provides  policy  (with default options)\n"
        "\n"
        "options\n"
        "  at: text; required\n"
        "      What to look at.\n"
        "  keep: true or false; default true\n"
        "      Whether to keep it.\n"
        "  both: list of number; default [0.5, 1.0]\n"
        "      From and to.\n"
    )


def test_a_page_ends_with_the_models_that_the_options_use() -> None:
    page = describe_stage(Tune, {})
    assert page.startswith(
        "tune: Tune the policy.\n"
        "\n"
        "It takes a while.\n"
        "\n"
        "requires  policy, tokenizer\n"
        "provides  policy\n"
        "\n"
        "options\n"
        "  data: DataSpec | list of DataSpec; required\n"
        "      Rows to train on.\n"
    )
    assert page.endswith(
        "\n"
        "Lora: Train a low-rank update.\n"
        "  method: 'lora' | 'dora'; default lora\n"
        "      Which kind.\n"
        "  r: whole number > 0; default 8\n"
        "      Rank of the update.\n"
    )

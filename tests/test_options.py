"""Options are validated by their class, and errors are reported in plain words."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field, field_validator, model_validator

from aligner.data.options import DataSpec, DataSpecs
from aligner.errors import AlignerError, ChainError, ErrorGroup
from aligner.options.fields import fields_at, first_sentence, nested_models
from aligner.options.row_operations import with_operations
from aligner.options.validation import check_options, validate
from aligner.recipe import read_recipe
from aligner.registry import ExtensionOptions
from aligner.stage import Plan, PlanContext, Stage, StageOptions, StepContext
from aligner.state import ModelState


class Lora(StageOptions):
    """Train a low-rank update."""

    method: Literal["lora"] = "lora"
    r: int = Field(8, gt=0)
    """Rank of the update. Larger learns more."""
    targets: tuple[str, ...] = ()


class Prompt(StageOptions):
    """Train a few virtual tokens."""

    method: Literal["prompt"] = "prompt"
    tokens: int = Field(8, gt=0)


class Options(StageOptions):
    data: DataSpecs
    """Rows to train on."""
    learning_rate: float = Field(1e-5, gt=0)
    """Peak learning rate. It falls to nothing."""
    loss: Literal["sigmoid", "hinge", "ipo"] = "sigmoid"
    """Which loss."""
    beta: float = Field(0.1, ge=0, le=1)
    adapter: Lora | Prompt | None = None
    chosen: Annotated[Lora | Prompt, Field(discriminator="method")] | None = None
    steps: int | Literal["auto"] = "auto"
    packing: bool = False
    name: str = Field("", max_length=3)
    weights: dict[str, float] = Field(default_factory=dict)
    tags: tuple[str, ...] = Field((), max_length=2)
    even: int = Field(2, multiple_of=2)
    code: str = Field("a", pattern="^[a-z]$")

    @field_validator("tags")
    @classmethod
    def _no_spaces(cls, tags: tuple[str, ...]) -> tuple[str, ...]:
        if any(" " in tag for tag in tags):
            raise ValueError("a tag holds a space")
        return tags

    @model_validator(mode="after")
    def _packing_needs_steps(self) -> Options:
        if self.packing and self.steps == "auto":
            raise ValueError("packing needs 'steps' to be a number")
        return self


class Tune(Stage[Options]):
    """Tune it."""

    name = "tune"
    requires = frozenset({"policy"})
    provides = frozenset({"policy"})

    def plan(self, context: PlanContext) -> Plan:
        return Plan(summary="tune")

    def run(self, state: ModelState, context: StepContext) -> ModelState:
        return state


def errors(**options: Any) -> list[str]:
    """The errors_of about `options`, each place shown as its dotted path in brackets."""
    with pytest.raises(AlignerError) as caught:
        check_options(
            {"data": "a", **options},
            with_operations(Options, {}),
            what="stage 'tune'",
            where=lambda path: f"<{path}>",
        )
    error = caught.value
    return [str(member) for member in (error.errors if isinstance(error, ErrorGroup) else (error,))]


def test_valid_options_become_an_instance_of_the_options_class() -> None:
    made = check_options(
        {"data": ["a", {"hub": "b"}], "learning_rate": 1, "adapter": {"r": 4}, "beta": "0.5"},
        Options,
        what="stage 'tune'",
        where=str,
    )
    assert made == Options(
        data=(DataSpec(path="a"), DataSpec(hub="b")),
        learning_rate=1.0,
        adapter=Lora(r=4),
        beta=0.5,
    )


def test_all_errors_of_a_step_are_reported_with_their_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("r.yaml").write_text(
        "steps:\n"
        "  - stage: tune\n"
        "    learning_rate: fast\n"
        "    bta: 0.2\n"
        "    data:\n"
        "      - path: a.jsonl\n"
        "      - path: b.jsonl\n"
        "        frist: 3\n"
        "    adapter:\n"
        "      r: 0\n"
        "    loss: sigmod\n"
    )
    step = read_recipe("r.yaml", overrides=["tune.even=3"]).steps[0]
    with pytest.raises(ErrorGroup) as caught:
        validate(step, Tune, {})
    assert str(caught.value).splitlines() == [
        "r.yaml:8: stage 'tune' has no option 'data.1.frist'",
        "  hint: did you mean 'first'?",
        "r.yaml:3: learning_rate is 'fast', not a number",
        "  hint: learning_rate: Peak learning rate.",
        "r.yaml:11: loss is 'sigmod', not 'sigmoid', 'hinge' or 'ipo'",
        "  hint: did you mean 'sigmoid'?",
        "r.yaml:10: adapter.r is 0, and must be greater than 0",
        "  hint: r: Rank of the update.",
        "--set tune.even=3: even is 3, and must be a multiple of 2",
        "r.yaml:4: stage 'tune' has no option 'bta'",
        "  hint: did you mean 'beta'?",
    ]


def test_the_error_of_a_missing_option_has_the_location_of_the_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("r.yaml").write_text("steps:\n  - stage: tune\n")
    with pytest.raises(ChainError) as caught:
        validate(read_recipe("r.yaml").steps[0], Tune, {})
    assert str(caught.value) == (
        "r.yaml:2: stage 'tune' needs option 'data'\n  hint: data: Rows to train on."
    )


ONE_FAULT: list[tuple[dict[str, Any], str]] = [
    ({"dat": 1}, "<dat>: stage 'tune' has no option 'dat'\n  hint: did you mean 'data'?"),
    ({"learning_rate": None}, "<learning_rate>: learning_rate is empty, not a number\n"
     "  hint: learning_rate: Peak learning rate."),
    ({"learning_rate": True}, "<learning_rate>: learning_rate is true, not a number\n"
     "  hint: learning_rate: Peak learning rate."),
    ({"learning_rate": [1]}, "<learning_rate>: learning_rate is a list, not a number\n"
     "  hint: learning_rate: Peak learning rate."),
    ({"beta": 1.5}, "<beta>: beta is 1.5, and must be at most 1.0"),
    ({"beta": -1}, "<beta>: beta is -1, and must be at least 0.0"),
    ({"even": 2.5}, "<even>: even is 2.5, not a whole number"),
    ({"packing": "maybe"}, "<packing>: packing is 'maybe', not true or false"),
    ({"name": 12}, "<name>: name is 12, not text\n  hint: put it in quotes"),
    ({"name": "long"}, "<name>: name is 'long', and must have at most 3 characters"),
    ({"code": "A"}, "<code>: code is 'A', and must match the pattern ^[a-z]$"),
    ({"tags": ["a", "b", "c"]}, "<tags>: tags has 3 entries, and must have at most 2"),
    ({"tags": "a"}, "<tags>: tags is 'a', not a list"),
    ({"tags": ["a", 3]}, "<tags.1>: tags.1 is 3, not text\n  hint: put it in quotes"),
    ({"tags": ["a b"]}, "<tags>: tags: a tag holds a space"),
    ({"weights": {"a": "x"}}, "<weights.a>: weights.a is 'x', not a number"),
    ({"weights": 3}, "<weights>: weights is 3, not a mapping"),
    ({"steps": "many"}, "<steps>: steps is 'many', not a whole number or 'auto'"),
    ({"steps": "aut"}, "<steps>: steps is 'aut', not a whole number or 'auto'\n"
     "  hint: did you mean 'auto'?"),
    ({"packing": True}, "<>: stage 'tune': packing needs 'steps' to be a number"),
    ({"data": 3}, "<data>: data is 3, not a mapping\n  hint: data: Rows to train on."),
    ({"data": []}, "<data>: data has 0 entries, and must have at least 1\n"
     "  hint: data: Rows to train on."),
    ({"data": {"pth": "a", "path": "a"}}, "<data.pth>: stage 'tune' has no option 'data.pth'\n"
     "  hint: did you mean 'path'?"),
    ({"data": {"path": "a", "hub": "b"}},
     "<data>: data: give one of path, hub, source and step, not path and hub"),
    ({"data": ["a", {"path": "a", "hub": "b"}]},
     "<data.1>: data.1: give one of path, hub, source and step, not path and hub"),
    ({"adapter": 3}, "<adapter>: adapter is 3, not a mapping"),
    ({"adapter": {"rr": 3}}, "<adapter.rr>: stage 'tune' has no option 'adapter.rr'\n"
     "  hint: did you mean 'r'?"),
    ({"adapter": {"method": "prompt", "token": 3}},
     "<adapter.token>: stage 'tune' has no option 'adapter.token'\n"
     "  hint: did you mean 'tokens'?"),
    ({"adapter": {"r": True}}, "<adapter.r>: adapter.r is true, not a number\n"
     "  hint: r: Rank of the update."),
    ({"chosen": {"method": "lorra"}},
     "<chosen.method>: chosen.method is 'lorra', not 'lora', 'prompt'\n"
     "  hint: did you mean 'lora'?"),
    ({"chosen": {"r": 3}}, "<chosen.method>: stage 'tune' needs option 'chosen.method'"),
    ({"chosen": {"method": "prompt", "r": 3}},
     "<chosen.r>: stage 'tune' has no option 'chosen.r'\n  hint: known: method, tokens"),
]  # fmt: skip


@pytest.mark.parametrize(("options", "message"), ONE_FAULT)
def test_each_error_is_reported_once_in_plain_words(options: dict[str, Any], message: str) -> None:
    assert errors(**options) == [message]


def test_all_errors_in_one_member_of_a_union_are_reported() -> None:
    assert errors(adapter={"method": "lora", "r": "x", "targets": 3}) == [
        "<adapter.r>: adapter.r is 'x', not a whole number\n  hint: r: Rank of the update.",
        "<adapter.targets>: adapter.targets is 3, not a list",
    ]


def test_the_invalid_value_is_shown_on_one_short_line() -> None:
    assert errors(beta="x\n\x1b[31m" + "y" * 900) == [
        f"<beta>: beta is 'x\\n\\x1b[31m{'y' * 48}… (907 characters), not a number"
    ]


class Judge(ExtensionOptions):
    words: int = Field(..., gt=0)
    """How many words are asked for."""


def test_options_of_any_options_class_are_validated() -> None:
    with pytest.raises(ChainError) as caught:
        check_options({}, Judge, what="reward function 'brevity'", where=lambda path: "r.yaml:3")
    assert str(caught.value) == (
        "r.yaml:3: reward function 'brevity' needs option 'words'\n"
        "  hint: words: How many words are asked for."
    )


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=4,
)
NAMES = st.sampled_from([*Options.model_fields, "method", "r", "path", "hub", "bta"])


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(NAMES, ANY | st.dictionaries(NAMES, ANY, max_size=3), max_size=6))
def test_any_options_are_valid_or_an_error(options: dict[str, Any]) -> None:
    try:
        made = check_options(options, Options, what="stage 'tune'", where=lambda path: f"<{path}>")
    except (ChainError, ErrorGroup):
        return
    assert isinstance(made, Options)


def test_fields_are_found_through_unions_lists_and_mappings() -> None:
    assert list(fields_at(Options, ("adapter",))) == ["method", "r", "targets", "tokens"]
    assert list(fields_at(Options, ("adapter",), "Prompt")) == ["method", "tokens"]
    assert "hub" in fields_at(Options, ("data", 0))
    assert "hub" in fields_at(Options, ("data",))
    assert fields_at(Options, ("weights", "a")) == {}
    assert nested_models(Options) == (DataSpec, Lora, Prompt)


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("One.", "One."),
        ("One, e.g. two. Three.", "One, e.g. two."),
        ("Over\n  two lines", "Over two lines"),
        ("At 0.5 of it. Then", "At 0.5 of it."),
    ],
)
def test_the_first_sentence_ends_at_its_full_stop(text: str, first: str) -> None:
    assert first_sentence(text) == first


def test_control_characters_are_escaped() -> None:
    assert errors(weights={"\x1b[31m": "x"})[0].endswith(": weights.\\x1b[31m is 'x', not a number")

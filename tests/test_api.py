"""The Python interface: recipes, checks, runs and results."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import aligner
from aligner.chain import RunFinished, StepFinished, StepProgress, StepReused, StepStarted
from aligner.errors import ErrorGroup, ModelError, PluginError, RecipeError, StageError, Stopped
from aligner.stage import Plan, PlanContext, Stage, StageOptions, StepContext
from aligner.state import ModelState
from aligner.testing import (
    Nothing,
    conversations,
    preferences,
    tiny_model,
    tiny_tokenizer,
    write_files,
    write_tiny,
)
from aligner_dpo.options import DPOOptions
from aligner_dpo.stage import DPO
from aligner_sft.options import SFTOptions
from aligner_sft.stage import SFT

QUICK: dict[str, Any] = {
    "max_steps": 2,
    "per_device_train_batch_size": 4,
    "learning_rate": 1e-2,
    "logging_steps": 1,
}

Make = Callable[..., aligner.Recipe]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with data and a tiny model."""
    monkeypatch.chdir(tmp_path)
    write_tiny(tmp_path / "tiny")
    write_files(tmp_path, {"talks.jsonl": conversations(), "pairs.jsonl": preferences()})
    return tmp_path


@pytest.fixture
def sft() -> SFT:
    return SFT(SFTOptions(data="talks.jsonl", **QUICK))


@pytest.fixture
def dpo() -> DPO:
    return DPO(DPOOptions(data="pairs.jsonl", beta=0.2, **QUICK))


def weights(model: Any) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(item: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return item.keys() == other.keys() and all(torch.equal(item[n], other[n]) for n in item)


def test_importing_it_loads_nothing_heavy() -> None:
    code = (
        "import sys, aligner; aligner.Recipe; from aligner_sft import SFT\n"
        "print(*[m for m in ('torch', 'transformers', 'trl', 'peft', 'datasets') if m in sys.modules])"
    )
    seen = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert seen.stdout.strip() == ""


def test_a_recipe_built_of_stages_is_the_recipe_written_in_yaml(
    here: Path, sft: SFT, dpo: DPO
) -> None:
    gated = aligner.Step(stage=dpo, name="prefer", gate={"accuracy": ">= 0"})
    built = aligner.Recipe([sft, gated], model="tiny", seed=3, name="mine")
    assert built.to_yaml() == (
        "name: mine\n"
        "seed: 3\n"
        "model: tiny\n"
        "steps:\n"
        "- stage: sft\n"
        "  max_steps: 2\n"
        "  per_device_train_batch_size: 4\n"
        "  logging_steps: 1\n"
        "  data:\n"
        "  - path: talks.jsonl\n"
        "  learning_rate: 0.01\n"
        "- stage: dpo\n"
        "  as: prefer\n"
        "  gate:\n"
        "    accuracy: '>= 0.0'\n"
        "  max_steps: 2\n"
        "  per_device_train_batch_size: 4\n"
        "  logging_steps: 1\n"
        "  data:\n"
        "  - path: pairs.jsonl\n"
        "  learning_rate: 0.01\n"
        "  beta: 0.2\n"
    )
    (here / "mine.yaml").write_text(built.to_yaml())
    loaded = aligner.Recipe.load(here / "mine.yaml")
    ours, theirs = built.check(), loaded.check()
    read = [link.stage.options.model_dump(exclude_unset=True) for link in ours.inner.chain.steps]
    assert read == [item.options.model_dump(exclude_unset=True) for item in (sft, dpo)]
    assert ours.plans == theirs.plans


def test_overrides_change_a_loaded_recipe(here: Path, sft: SFT) -> None:
    (here / "r.yaml").write_text(aligner.Recipe([sft], model="tiny").to_yaml())
    loaded = aligner.Recipe.load("r.yaml", set=["sft.max_steps=1", "seed=9"])
    assert loaded.check().plans["sft"].optimizer_steps == 1
    assert repr(loaded) == "Recipe('recipe': sft)"


def test_a_check_prints_the_table_of_the_command_line(here: Path, sft: SFT) -> None:
    lines = str(aligner.Recipe([sft], model="tiny").check()).splitlines()
    assert lines[0] == "recipe"
    assert lines[5].split() == ["step", "reads", "writes", "rows", "tokens", "steps", "trained"]
    assert "  task   train on assistant turns, learning rate 0.01" in lines
    assert lines[-1] == "no errors; 0 of 1 steps are done, 1 would run"


def test_every_error_is_raised_at_once_with_its_place(here: Path, sft: SFT, dpo: DPO) -> None:
    missing = SFT(SFTOptions(data="nowhere.jsonl", **QUICK))
    twice = aligner.Recipe([missing, aligner.Step(stage=dpo, gate={"los": "< 1"})], model="tiny")
    with pytest.raises(ErrorGroup) as errors:
        twice.check()
    first, second = errors.value.errors
    assert (first.where, first.what) == ("steps[0].data", "no file or folder 'nowhere.jsonl'")
    assert (second.where, second.what) == (
        "steps[1].gate.los",
        "step 'dpo' has a gate on 'los', which it does not compute",
    )
    with pytest.raises(RecipeError, match=r"^seed: 'seed' is -1, not a whole number"):
        aligner.Recipe([sft], model="tiny", seed=-1)


def test_a_result_has_metrics_curves_samples_states_and_folders(
    here: Path, sft: SFT, dpo: DPO
) -> None:
    result = aligner.Recipe([sft, dpo], model="tiny").run(show=False)
    assert list(result.steps) == ["sft", "dpo"]
    assert result["dpo"].metrics.keys() == {"loss", "accuracy", "margin"}
    loss = result["sft"].curves["loss"]
    assert [done for done, _ in loss] == [1, 2]
    assert loss[-1][1] == result["sft"].metrics["loss"]
    assert result["dpo"].curves["loss"][0] == (1, pytest.approx(0.693147, abs=1e-4))
    assert result["sft"].samples == []
    assert result["sft"].state.get("policy").made_by == "sft"
    assert result.state.get("policy").made_by == "dpo"
    assert result.folder == here / "runs" / "recipe"
    assert (result["dpo"].folder / "policy" / "model.safetensors").is_file()
    assert [line.split()[:2] for line in str(result).splitlines()[2:4]] == [
        ["1", "sft"],
        ["2", "dpo"],
    ]
    with pytest.raises(KeyError, match="no step 'dpp'; did you mean 'dpo'"):
        result["dpp"]
    with pytest.raises(ModelError, match=r"^no step has filled the slot 'reward'"):
        result.reward_model()


def test_the_trained_model_is_handed_back_without_a_reload(here: Path, sft: SFT) -> None:
    recipe = aligner.Recipe([sft], model="tiny")
    result = recipe.run(show=False)
    weights_file = result["sft"].folder / "policy" / "model.safetensors"
    weights_file.rename(here / "aside")
    policy = result.policy()
    assert policy is result.policy()
    assert not policy.training
    assert not any(parameter.requires_grad for parameter in policy.parameters())
    (here / "aside").rename(weights_file)
    reused = recipe.run(show=False)
    assert reused["sft"].reused
    assert reused.policy() is not policy
    assert reused.policy().dtype == policy.dtype
    assert same(weights(reused.policy()), weights(policy))
    assert result.tokenizer().chat_template == tiny_tokenizer().chat_template


def test_the_model_of_an_earlier_step_can_be_loaded(here: Path, sft: SFT, dpo: DPO) -> None:
    result = aligner.Recipe([sft, dpo], model="tiny").run(show=False)
    alone = aligner.Recipe([sft], model="tiny").run(show=False)
    assert same(weights(result["sft"].policy()), weights(alone.policy()))
    assert not same(weights(result["sft"].policy()), weights(result.policy()))
    assert result["dpo"].policy() is result.policy()


def test_a_live_model_is_trained_in_place_and_handed_back(here: Path, sft: SFT) -> None:
    model, tokenizer = tiny_model(), tiny_tokenizer()
    before = weights(model)
    recipe = aligner.Recipe([sft], model=(model, tokenizer))
    recipe.check()
    assert same(weights(model), before)
    result = recipe.run(show=False)
    assert result.policy() is model
    assert not same(weights(model), before)
    named = aligner.Recipe([sft], model="tiny").run(runs="others", show=False)
    assert same(weights(named.policy()), weights(model))
    assert result.tokenizer() is not tokenizer


def test_a_live_model_begins_a_later_run_as_it_was_when_it_was_checked(
    here: Path, sft: SFT
) -> None:
    model = tiny_model()
    recipe = aligner.Recipe([sft], model=(model, tiny_tokenizer()))
    first = recipe.run(show=False)
    again = recipe.run(show=False, fresh=True)
    assert not again["sft"].reused
    assert again.policy() is not model
    assert same(weights(again.policy()), weights(first.policy()))
    assert recipe.run(show=False)["sft"].reused
    [start] = (here / "runs" / ".models").iterdir()
    named = aligner.Recipe([sft], model=start)
    assert named.run(show=False)["sft"].reused


def test_a_live_model_that_changed_after_its_check_is_refused(here: Path, sft: SFT) -> None:
    model = tiny_model()
    checked = aligner.Recipe([sft], model=(model, tiny_tokenizer())).check()
    with torch.no_grad():
        model.model.norm.weight.add_(1)
    with pytest.raises(ModelError) as refused:
        checked.run(show=False)
    assert str(refused.value) == (
        "the live model has changed since it was checked: model.norm.weight\n"
        "  hint: make a new Recipe of it"
    )


def test_a_loaded_recipe_may_begin_with_another_model(here: Path, sft: SFT) -> None:
    (here / "r.yaml").write_text(aligner.Recipe([sft], model="./nowhere").to_yaml())
    model = tiny_model()
    model_cache = aligner.Recipe.load("r.yaml", model=(model, tiny_tokenizer())).run(show=False)
    assert model_cache.policy() is model
    assert aligner.Recipe.load("r.yaml", model="tiny").run(runs="b", show=False).state.filled() == {
        "policy",
        "tokenizer",
    }
    with pytest.raises(ModelError, match="there is no model folder"):
        aligner.Recipe.load("r.yaml").check()


def test_equal_live_models_share_their_steps(here: Path, sft: SFT) -> None:
    aligner.Recipe([sft], model=(tiny_model(), tiny_tokenizer())).run(show=False)
    model = tiny_model()
    second = aligner.Recipe([sft], model=(model, tiny_tokenizer())).run(show=False)
    assert second["sft"].reused
    other = aligner.Recipe([sft], model=(tiny_model(seed=6), tiny_tokenizer())).run(show=False)
    assert not other["sft"].reused


def test_an_invalid_start_model_is_refused(sft: SFT) -> None:
    model, tokenizer = tiny_model(), tiny_tokenizer()
    with torch.device("meta"):
        empty = copy.deepcopy(model).to("meta")
    for start, output in (
        ((torch.nn.Linear(1, 1), tokenizer), "a Linear is not a transformers model"),
        ((model, "tiny"), "a str is not a fast transformers tokenizer"),
        ((empty, tokenizer), "the model has no weights: it is on the meta device"),
    ):
        with pytest.raises(ModelError) as refused:
            aligner.Recipe([sft], model=start)
        assert str(refused.value) == output


def test_a_listener_hears_every_event_in_order(here: Path, sft: SFT) -> None:
    recipe, heard = aligner.Recipe([sft], model="tiny"), []
    recipe.run(show=False, on_event=heard.append)
    kinds = [type(event) for event in heard]
    assert kinds[0] is StepStarted
    assert kinds[-2:] == [StepFinished, RunFinished]
    assert set(kinds[1:-2]) == {StepProgress}
    heard.clear()
    recipe.run(show=False, on_event=heard.append)
    assert [type(event) for event in heard] == [StepReused, RunFinished]


def test_an_interrupt_raises_stopped_and_the_run_resumes(here: Path, sft: SFT) -> None:
    def interrupt(event: object) -> None:
        if isinstance(event, StepProgress):
            raise KeyboardInterrupt

    recipe = aligner.Recipe([sft], model="tiny")
    with pytest.raises(Stopped, match=r"^steps\[0\]: interrupted in step 'sft';"):
        recipe.run(show=False, on_event=interrupt)
    assert not recipe.run(show=False)["sft"].reused


def test_progress_is_shown_as_lines_without_a_terminal(
    here: Path, sft: SFT, capsys: pytest.CaptureFixture[str]
) -> None:
    aligner.Recipe([sft], model="tiny").run()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "[1/1] sft: train on assistant turns, learning rate 0.01"
    assert lines[-1].startswith("[1/1] sft: done in ")


def test_until_and_name_are_those_of_the_command_line(here: Path, sft: SFT, dpo: DPO) -> None:
    result = aligner.Recipe([sft, dpo], model="tiny").run(name="half", until="sft", show=False)
    assert list(result.steps) == ["sft"]
    assert result.folder == here / "runs" / "half"


class Words(StageOptions):
    text: str = "x"
    """Recorded by its length."""


class Count(Stage[Words]):
    """Counts."""

    name = "count"
    requires = frozenset()
    provides = frozenset()

    def plan(self, context: PlanContext) -> Plan:
        return Plan(summary="counts", metrics=frozenset({"length"}))

    def run(self, state: ModelState, context: StepContext) -> ModelState:
        context.record(length=len(self.options.text))
        context.samples([{"text": self.options.text}])
        return state


def test_a_stage_that_no_plugin_offers_needs_none(here: Path) -> None:
    recipe = aligner.Recipe([Count(Words(text="abc")), Nothing()])
    result = recipe.run(show=False)
    assert result["count"].metrics == {"length": 3.0}
    assert result["count"].samples == [{"text": "abc"}]
    assert recipe.run(show=False)["count"].reused


def test_a_stage_by_the_name_of_another_is_refused(here: Path) -> None:
    class SFT(Count):
        """A different stage of this name."""

        name = "sft"

    with pytest.raises(PluginError) as refused:
        aligner.Recipe([SFT(Words())]).check()
    assert str(refused.value) == (
        f"stage 'sft': {SFT.__module__}.{SFT.__qualname__} has the name of another stage, "
        "'sft'\n  hint: rename it: aligner_sft.stage.SFT of plugin sft 0.1.0 has this name already"
    )


def test_the_error_of_a_failing_stage_is_raised_unchanged(here: Path) -> None:
    class Fails(Count):
        """Fails."""

        name = "fails"

        def run(self, state: ModelState, context: StepContext) -> ModelState:
            raise StageError("no ink")

    with pytest.raises(StageError) as failed:
        aligner.Recipe([Fails(Words())]).run(show=False)
    assert str(failed.value) == "steps[0]: no ink"


@pytest.mark.parametrize("stage", ["sft", "dpo", "reward"])
def test_a_missing_model_is_the_only_error(here: Path, stage: str) -> None:
    data = {"sft": "talks.jsonl"}.get(stage, "pairs.jsonl")
    (here / "r.yaml").write_text(f"model: ./gone\nsteps:\n  - {{stage: {stage}, data: {data}}}\n")
    with pytest.raises(ModelError) as refused:
        aligner.Recipe.load("r.yaml").check()
    assert str(refused.value) == (
        "r.yaml:1: there is no model folder ./gone\n  hint: give a folder, or a hub id as org/name"
    )

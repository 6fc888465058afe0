"""The contract tests fail for stages that break the contract, and pass for one that keeps it."""

from __future__ import annotations

import hashlib
import json
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from transformers import AutoModelForCausalLM

from aligner.data.options import DataSpec
from aligner.data.reading.load import load_rows
from aligner.models.files import artifact_hash
from aligner.registry import Registry
from aligner.stage import Plan, PlanContext, Stage, StageOptions, StepContext
from aligner.state import Artifact, ModelState
from aligner.testing import (
    StageContract,
    conversations,
    labels,
    preferences,
    prompts,
    run_stage,
    texts,
    tiny_model,
    write_files,
    write_tiny,
)
from aligner.testing.run import MODEL


class TallyOptions(StageOptions):
    flaw: str = ""
    """How the stage breaks the contract."""


class Tally(Stage[TallyOptions]):
    """Add up four random numbers, with a checkpoint after the second."""

    name = "tally"
    requires = frozenset()
    provides = frozenset({"value"})

    def plan(self, context: PlanContext) -> Plan:
        flaw = self.options.flaw
        summary = {"two lines": "one\ntwo", "no summary": "", "restless": str(time.time_ns())}
        if flaw == "loads":
            AutoModelForCausalLM.from_pretrained(context.recipe_folder / MODEL)
        slots = {"policy": None} if flaw == "plans too much" else {}
        return Plan(
            summary=summary.get(flaw, "adds up"),
            metrics=frozenset({"sum"}),
            data={"data": str(time.time_ns())} if flaw == "other data" else {},
            slots=slots,  # type: ignore[arg-type]  # never looked into
        )

    def run(self, state: ModelState, context: StepContext) -> ModelState:
        flaw, draw = self.options.flaw, random.Random(context.seed)
        numbers = [draw.random() for _ in range(4)]
        checkpoint = context.folder / "checkpoint.json"
        kept: list[float] = json.loads(checkpoint.read_text()) if checkpoint.exists() else []
        if flaw == "forgets":
            kept = []
        resumed = bool(kept)
        for done in range(len(kept), 4):
            context.progress(done + 1, 4, sum=sum(kept))
            kept.append(0.0 if flaw == "loses" and resumed else numbers[done])
            if done == 1:
                checkpoint.write_text(json.dumps(kept))
        checkpoint.unlink(missing_ok=True)
        self._disturb(context)
        if flaw != "silent":
            context.record(sum=float("nan") if flaw == "nan" else sum(kept))
        text = str(time.time_ns() if flaw == "random" else sum(kept))
        folder = context.recipe_folder / "mine" if flaw == "elsewhere" else context.folder / "value"
        folder.mkdir(exist_ok=True)
        (folder / "total").write_text(text)
        digest = hashlib.sha256(text.encode()).hexdigest()
        return state.put(context.step, value=Artifact(path=str(folder), hash=digest))

    def _disturb(self, context: StepContext) -> None:
        match self.options.flaw:
            case "writes":
                (context.recipe_folder / "notes.txt").write_text("here I was")
            case "moves":
                os.chdir(context.folder)
            case "threads":
                torch.set_num_threads(torch.get_num_threads() + 1)
            case "type":
                torch.set_default_dtype(torch.float64)


def contract(flaw: str) -> StageContract:
    """The contract of a stage with one flaw."""

    class Flawed(StageContract):
        stage = Tally
        options: ClassVar = {"flaw": flaw}

    return Flawed()


@pytest.fixture(autouse=True)
def _undisturbed() -> Iterator[None]:
    """Restore the process after the flawed stages."""
    threads, kind, here = torch.get_num_threads(), torch.get_default_dtype(), Path.cwd()
    yield
    torch.set_num_threads(threads)
    torch.set_default_dtype(kind)
    os.chdir(here)


class TestTally(StageContract):
    """A stage that keeps the contract passes all of it, from a module that cannot be imported by name."""

    stage = Tally
    test_the_declaration_imports_no_heavy_library = None


@pytest.mark.parametrize(
    ("flaw", "message"),
    [
        ("two lines", "the summary has more than one line"),
        ("no summary", "the plan has no summary"),
        ("restless", "`summary` differs between two plans"),
        ("other data", "`data` differs between two plans"),
        ("loads", "`plan` of 'tally' loads weights"),
        ("plans too much", "contains slots that the stage does not provide"),
    ],
)
def test_a_plan_that_breaks_the_contract_is_caught(
    flaw: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tiny(tmp_path / MODEL)
    broken = contract(flaw)
    with pytest.raises(AssertionError, match=message):
        broken.test_planning_loads_no_weights_and_is_deterministic(
            broken._instance(), tmp_path, monkeypatch
        )


@pytest.mark.parametrize(
    ("flaw", "test", "message"),
    [
        (
            "elsewhere",
            "fills_the_slots_it_provides_and_changes_no_other",
            "in 'value' is outside the folder",
        ),
        (
            "writes",
            "fills_the_slots_it_provides_and_changes_no_other",
            "files outside its folder: notes.txt",
        ),
        (
            "silent",
            "records_the_metrics_it_declares",
            "`Plan.metrics` and the recorded metrics differ",
        ),
        ("nan", "records_the_metrics_it_declares", "NaN or infinite: sum"),
        ("moves", "restores_the_state_of_the_process", "it changed the process: current folder"),
        (
            "threads",
            "restores_the_state_of_the_process",
            "it changed the process: torch's number of threads",
        ),
        (
            "type",
            "restores_the_state_of_the_process",
            "it changed the process: torch's default dtype",
        ),
        ("random", "same_seed", "the content of 'value' differs"),
        (
            "other data",
            "a_finished_step_is_reused",
            "because its plan or options changed",
        ),
        ("forgets", "after_an_interruption", "it started again instead of resuming"),
        ("loses", "after_an_interruption", "the content of 'value' differs"),
    ],
)
def test_a_run_that_breaks_the_contract_is_caught(
    flaw: str, test: str, message: str, tmp_path: Path
) -> None:
    broken = contract(flaw)
    made = broken._instance()
    (tmp_path / "first").mkdir()
    (tmp_path / "again").mkdir()
    seen = broken._run(made, tmp_path / "first")
    [name] = [name for name in dir(broken) if name.startswith("test_") and test in name]
    given: dict[str, Any] = {"instance": made, "finished_run": seen, "tmp_path": tmp_path / "again"}
    asked = getattr(broken, name).__code__.co_varnames[: getattr(broken, name).__code__.co_argcount]
    with pytest.raises(AssertionError, match=message):
        getattr(broken, name)(**{key: given[key] for key in asked if key != "self"})


def test_an_option_without_documentation_is_caught() -> None:
    class Inner(StageOptions):
        message: int = 1
        """Said."""
        silent: int = 1

    class Outer(StageOptions):
        inner: Inner = Inner()
        """Said."""

    class Quiet(Stage[Outer]):
        name = "quiet"
        requires = frozenset()
        provides = frozenset()
        plan = Tally.plan
        run = Tally.run  # type: ignore[assignment]  # neither is called

    class Broken(StageContract):
        stage = Quiet

    with pytest.raises(AssertionError, match=r"no docstring under: Inner\.silent"):
        Broken().test_every_option_is_documented()
    with pytest.raises(AssertionError, match="Quiet has no docstring"):
        Broken().test_the_stage_is_documented()


def test_a_declaration_that_loads_something_heavy_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    source = (
        "import datasets\n"
        "from aligner.stage import Stage, StageOptions\n"
        "class NoOptions(StageOptions): ...\n"
        "class Heavy(Stage[NoOptions]):\n"
        "    name = 'heavy'\n"
        "    requires = provides = frozenset()\n"
        "    def plan(self, context): ...\n"
        "    def run(self, state, context): ...\n"
    )
    write_files(tmp_path, {"a_heavy_stage.py": source})
    from a_heavy_stage import Heavy

    class Broken(StageContract):
        stage = Heavy

    with pytest.raises(AssertionError, match=r"a_heavy_stage imports .*datasets"):
        Broken().test_the_declaration_imports_no_heavy_library()


@pytest.mark.parametrize(
    ("rows", "kind", "count"),
    [
        (texts(), "text", 24),
        (conversations(), "conversation", 12),
        (prompts(), "prompt", 8),
        (preferences(), "preference", 12),
        (labels(), "label", 12),
    ],
)
def test_the_tiny_data_is_of_its_kind_without_a_finding(
    rows: Any, kind: Any, count: int, tmp_path: Path
) -> None:
    write_files(tmp_path, {"rows.jsonl": rows})
    place = PlanContext(
        step="s",
        where="r.yaml:1",
        recipe_folder=tmp_path,
        seed=0,
        slots={},
        registry=Registry(),
        memo={},
    )
    loaded = load_rows((DataSpec(path="rows.jsonl"),), want=kind, context=place, option="data")
    assert len(loaded.rows) == count
    assert not loaded.ledger.dropped
    assert not loaded.ledger.skipped


def test_the_tiny_model_is_the_same_every_time(tmp_path: Path) -> None:
    state = random.getstate(), torch.get_rng_state()
    first, second = write_tiny(tmp_path / "a"), write_tiny(tmp_path / "b")
    assert first.hash == second.hash == artifact_hash(second)
    assert random.getstate() == state[0]
    assert torch.equal(torch.get_rng_state(), state[1])
    other = tiny_model(seed=6).state_dict()
    assert not all(torch.equal(t, other[n]) for n, t in tiny_model().state_dict().items())


class Reads(Tally):
    """Read the reward slot."""

    name = "reads"
    requires = frozenset({"reward", "tokenizer"})


def test_run_stage_fills_what_the_stage_requires(tmp_path: Path) -> None:
    result = run_stage(Reads(TallyOptions()), tmp_path)
    assert list(result.steps) == ["filled", "reads"]
    assert type(result.reward_model()).__name__ == "LlamaForSequenceClassification"
    assert result.state.get("tokenizer").made_by == "model"

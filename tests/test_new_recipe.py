"""`aligner new recipe` writes a commented recipe for a model and data that passes the check."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from aligner.cli import main
from aligner.host import Host
from aligner.options.validation import validate
from aligner.recipe import read_recipe
from aligner.registry import DatasetSummary, TemplateInputs
from aligner.testing import conversations, preferences, texts, write_files, write_tiny

NewRecipe = Callable[..., tuple[int, str, str]]


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a tiny model and data of three kinds."""
    write_tiny(tmp_path / "tiny")
    write_files(
        tmp_path,
        {
            "talks.jsonl": conversations(60),
            "pairs.jsonl": preferences(60),
            "texts.jsonl": texts(60),
        },
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def new_recipe(desk: Path, capsys: pytest.CaptureFixture[str]) -> NewRecipe:
    def act(*words: str) -> tuple[int, str, str]:
        code = main(["new", "recipe", *words])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return act


TALKS, PAIRS, TEXTS = (
    ["--data", "talks.jsonl"],
    ["--preferences", "pairs.jsonl"],
    ["--data", "texts.jsonl"],
)
CASES = {
    "sft": (TALKS, ["chat", "sft"]),
    "dpo": ([*PAIRS, *TALKS], ["chat", "sft", "dpo"]),
    "rlhf": ([*PAIRS, *TALKS], ["chat", "sft", "reward", "ppo"]),
    "reward": (PAIRS, ["chat", "reward"]),
    "pretrain": (TEXTS, ["pretrain"]),
}


def test_every_method_is_tested(new_recipe: NewRecipe) -> None:
    assert CASES.keys() == Host.discover().registry().recipe_templates.keys()
    code, out, _ = new_recipe("--list")
    assert (code, [line.split()[0] for line in out.splitlines()]) == (0, list(CASES))


@pytest.mark.parametrize("adapter", ["lora", "none"])
@pytest.mark.parametrize("method", CASES)
def test_the_recipe_passes_the_check(
    method: str, adapter: str, new_recipe: NewRecipe, desk: Path
) -> None:
    data, steps = CASES[method]
    code, out, err = new_recipe(
        "--method", method, "--model", "tiny", "--adapter", adapter, "--out", "r.yaml", *data
    )
    assert (code, err) == (0, "")
    assert out.endswith("  it passes the check\n  next: aligner run r.yaml\n")
    recipe = read_recipe(desk / "r.yaml")
    assert [step.name for step in recipe.steps] == steps
    trained = [step for step in recipe.steps if "learning_rate" in step.options]
    assert all(
        ("adapter" in step.options or "incoming" in step.options) == (adapter == "lora")
        for step in trained
    )


def test_the_recipe_explains_each_option(new_recipe: NewRecipe, desk: Path) -> None:
    _, out, _ = new_recipe("--method", "sft", "--model", "tiny", *TALKS)
    assert out == (
        "sft.yaml\n  data: 60 rows, 98% within 65 tokens\n"
        "  it passes the check\n  next: aligner run sft.yaml\n"
    )
    assert (desk / "sft.yaml").read_text("utf-8") == SFT


def test_pairs_alone_leave_the_conversations_out(new_recipe: NewRecipe, desk: Path) -> None:
    assert new_recipe("--method", "dpo", "--model", "tiny", *PAIRS)[0] == 0
    assert [step.name for step in read_recipe(desk / "dpo.yaml").steps] == ["chat", "dpo"]


def test_a_recipe_in_another_folder_refers_to_the_same_files(
    new_recipe: NewRecipe, desk: Path
) -> None:
    (desk / "below").mkdir()
    assert new_recipe("--method", "sft", "--model", "tiny", *TALKS, "--out", "below/r.yaml")[0] == 0
    recipe = read_recipe(desk / "below" / "r.yaml")
    assert recipe.model is not None
    assert (recipe.model.path, recipe.steps[1].options["data"]) == ("../tiny", "../talks.jsonl")


def test_an_existing_recipe_is_not_replaced(new_recipe: NewRecipe, desk: Path) -> None:
    (desk / "sft.yaml").write_text("mine")
    code, _, err = new_recipe("--method", "sft", "--model", "tiny", *TALKS)
    assert (code, err) == (
        2,
        "--out: sft.yaml exists already\n  hint: choose another file with --out\n",
    )
    assert (desk / "sft.yaml").read_text() == "mine"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            [],
            "--method: a training method is missing\n  hint: known: dpo, pretrain, reward, rlhf, sft\n",
        ),
        (
            ["--method", "dpp"],
            "--method: unknown method 'dpp'\n  hint: did you mean 'dpo'?\n",
        ),
        (
            ["--method", "sft", "--data", "talks.jsonl"],
            "new recipe: --model is missing\n  hint: give the model, a folder or Hub id\n",
        ),
        (
            ["--method", "dpo", "--model", "tiny"],
            "new recipe: --preferences is missing\n"
            "  hint: give the preferences: preference rows, a file, folder or Hub id\n",
        ),
        (
            ["--method", "sft", "--model", "tiny", *TALKS, *PAIRS],
            "--preferences: the method sft does not use it\n  hint: it uses --data\n",
        ),
    ],
)
def test_without_a_terminal_missing_values_are_errors(
    words: list[str], says: str, new_recipe: NewRecipe
) -> None:
    assert new_recipe(*words) == (2, "", says)


def test_data_of_another_kind_is_refused_before_anything_is_written(
    new_recipe: NewRecipe, desk: Path
) -> None:
    code, _, err = new_recipe("--method", "dpo", "--model", "tiny", "--preferences", "talks.jsonl")
    assert code == 2
    assert err.startswith(
        "--preferences: talks.jsonl has the format messages (conversation rows), which cannot be "
        "converted to preference rows\n"
    )
    assert not (desk / "dpo.yaml").exists()


def test_on_a_terminal_missing_values_are_asked_for(
    new_recipe: NewRecipe, desk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Terminal()
    typed = Terminal("sft\ntiny\ntalks.jsonl\nnone\n\n")
    monkeypatch.setattr(sys, "stdin", typed)
    monkeypatch.setattr(sys, "stdout", screen)
    assert main(["new", "recipe"]) == 0
    asked = screen.getvalue()
    assert "method [sft]: model, a folder or Hub id: data: conversation rows" in asked
    assert "adapter (lora, qlora, none) [lora]: output file [sft.yaml]: sft.yaml\n" in asked
    assert "adapter" not in read_recipe(desk / "sft.yaml").steps[1].options


@pytest.mark.parametrize("method", CASES)
def test_a_template_is_valid_for_its_stages_with_any_unknown_input(
    method: str, tmp_path: Path
) -> None:
    """An unreachable model and data on the Hub, and weights in 4 bits."""
    host = Host.discover()
    outline = host.registry().recipe_templates[method]
    material = TemplateInputs(
        model="org/base",
        adapter="qlora",
        data={
            name: DatasetSummary(spec='{"hub": "org/data"}')
            for name in (*outline.optional_data, *outline.required_data)
        },
    )
    (tmp_path / "r.yaml").write_text(outline.render(material), encoding="utf-8")
    steps = read_recipe(tmp_path / "r.yaml").steps
    for step in steps:
        validate(
            step,
            host.stage(step.stage, where=step.where),
            host.registry().row_operations,
        )
    assert all(step.options["quantize"] == "nf4" for step in steps if step.stage != "chat")


@pytest.mark.parametrize(
    ("known", "template"),
    [
        ({"template": True}, "own"),
        ({"template": False, "special": frozenset({"<|im_start|>"})}, "chatml"),
        ({"template": False, "special": frozenset({"<|start_header_id|>"})}, "llama-3"),
        ({"template": False}, "zephyr"),
        ({"template": False, "adapter": "none"}, "chatml"),
        ({"model": "org/Model-3B-Instruct"}, "own"),
    ],
)
def test_the_template_suits_the_tokenizer(known: dict[str, object], template: str) -> None:
    outline = Host.discover().registry().recipe_templates["sft"]
    given = {
        "model": "org/base",
        "adapter": "lora",
        "data": {"data": DatasetSummary(spec="d.jsonl")},
    }
    written = yaml.safe_load(outline.render(TemplateInputs(**(given | known))))  # type: ignore[arg-type]
    assert written["steps"][0] == {"stage": "chat", "template": template}


@pytest.mark.parametrize(
    ("looked", "chosen"),
    [
        ({"rows": 40, "longest": 50}, (None, 64, 3, 4, 1)),
        ({"rows": 2_000, "longest": 700}, (0.05, 704, 3, 8, 2)),
        ({"rows": 50_000, "longest": 4000}, (0.01, 2048, 1, 4, 4)),
        ({}, (0.05, 1024, 1, 8, 2)),
    ],
)
def test_numbers_suit_the_data(looked: dict[str, int], chosen: tuple[object, ...]) -> None:
    """Options that follow from the number of rows, for a model of 2048 positions."""
    outline = Host.discover().registry().recipe_templates["sft"]
    data = {"data": DatasetSummary(spec="d.jsonl", **looked)}
    text = outline.render(TemplateInputs(model="m", adapter="lora", data=data, positions=2048))
    step = yaml.safe_load(text)["steps"][1]
    names = (
        "hold_out",
        "max_length",
        "num_train_epochs",
        "per_device_train_batch_size",
        "gradient_accumulation_steps",
    )
    assert tuple(step.get(name) for name in names) == chosen
    assert ("limits" in step) == (looked.get("longest", 0) > 2048)


def test_a_model_that_cannot_be_read_is_reported(
    new_recipe: NewRecipe, desk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    code, out, err = new_recipe("--method", "sft", "--model", "no-org/no-model", *TALKS)
    assert (code, err) == (0, "")
    assert out == (
        "sft.yaml\n  data: 60 rows\n  the model could not be read here: "
        "run `aligner check sft.yaml` where it can\n"
    )
    step = read_recipe(desk / "sft.yaml").steps[1]
    assert step.options["max_length"] == 1024


def test_a_folder_that_is_no_model_is_refused(new_recipe: NewRecipe, desk: Path) -> None:
    (desk / "empty").mkdir()
    code, _, err = new_recipe("--method", "sft", "--model", "empty", *TALKS)
    assert (code, err.split(": ")[0]) == (2, "--model")
    assert not (desk / "sft.yaml").exists()


def test_a_recipe_that_does_not_pass_the_check_is_left_to_be_corrected(
    new_recipe: NewRecipe, desk: Path
) -> None:
    write_files(
        desk,
        {"odd.jsonl": [{"messages": [{"role": "user", "content": f"{n}"}]} for n in range(30)]},
    )
    data = ("--data", "talks.jsonl", "--data", "odd.jsonl")
    code, out, err = new_recipe("--method", "sft", "--model", "tiny", *data)
    assert (code, "passes" in out) == (2, False)
    assert "30 of 83 rows (36.1%) were dropped; at most 5.0% may be" in err
    assert (desk / "sft.yaml").exists()


def test_its_help_loads_nothing_heavy() -> None:
    code = "import sys; from aligner.cli import main; main(['new', 'recipe', '--help']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.splitlines()[-1].split())
    assert loaded & {"torch", "transformers", "yaml", "pydantic", "rich", "pluggy"} == set()


SFT = """\
# Fine-tune on conversations.
# Written by `aligner new recipe`. `aligner check` shows what each step will do, `aligner run` runs it,
# `aligner stages NAME` lists every option of a stage.
seed: 0 # seed of all random numbers
model: "./tiny"

steps:
  - stage: chat
    template: own # the tokenizer has one
    # template: chatml # or llama-3, qwen, zephyr, …, a Jinja file, or `own` for the tokenizer's own template
    # system: You are a helpful assistant. # for conversations without a system turn

  - stage: sft
    data: "talks.jsonl" # 60 rows
    hold_out: 0.1 # share of rows for evaluation; a prompt is never in both splits
    max_length: 96 # tokens, the maximum of the model; nearly all rows fit
    # overflow: turns # drop the oldest turns of longer rows instead of the whole row
    # packing: true # several conversations in one row: faster if most are short
    # train_on: last # train on the last answer only
    adapter: {method: lora, r: 16, lora_alpha: 32} # train an adapter, not the whole model
    # adapter: {method: dora, r: 16, lora_alpha: 32} # or rslora
    num_train_epochs: 3 # several passes, as there are few rows
    per_device_train_batch_size: 4 # rows on a device; if memory runs out, halve it and double the next option
    gradient_accumulation_steps: 1 # 4 rows for each optimizer step
    learning_rate: 0.0002 # adapters need about ten times the rate of full weights
    lr_scheduler_type: cosine
    warmup_steps: 0.03 # fraction of the optimizer steps

  # Compare the trained model with the one before training:
  # - stage: evaluate
  #   prompts: FILE # prompts that no step has trained on
  #   judge: NAME # a reward function of an installed plugin
  #   against: [chat]
"""

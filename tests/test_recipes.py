from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from aligner import chain
from aligner.host import Host
from aligner.models.options import FreshModel
from aligner.options.recipe_schema import recipe_schema
from aligner.options.validation import validate
from aligner.recipe import read_recipe

RECIPES = sorted((Path(__file__).parents[1] / "recipes").glob("*.yaml"))
SHIPPED = {"laptop", "qlora-8b", "quickstart", "quickstart-dpo", "quickstart-grpo", "zephyr-7b"}


def test_every_shipped_recipe_is_tested() -> None:
    assert {path.stem for path in RECIPES} == SHIPPED


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_shipped_recipe_fits_its_stages_and_the_schema(path: Path) -> None:
    host = Host.discover()
    recipe = read_recipe(path)
    for step in recipe.steps:
        validate(
            step,
            host.stage(step.stage, where=step.where),
            host.registry().row_operations,
        )
    jsonschema.validate(
        yaml.safe_load(recipe.to_yaml()),
        recipe_schema(host.stages(), host.registry().row_operations),
    )


@pytest.mark.parametrize("name", ["zephyr-7b", "qlora-8b", "laptop"])
def test_a_recipe_for_a_real_model_checks_on_a_tiny_one_and_rows_of_its_formats(
    name: str, tmp_path: Path
) -> None:
    """The same chain, with a model and data made here in place of what would be downloaded."""
    from aligner.data.encoding.tokenizers import save_tokenizer, train_tokenizer
    from aligner.models.fresh import fresh_model
    from aligner.models.save import save_model
    from aligner.models.tokens import set_token_ids
    from aligner.state import ModelCache

    tokenizer = train_tokenizer(["a question, and an answer"], 300)
    shape = FreshModel(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, max_position_embeddings=2048
    )
    model = fresh_model(shape, vocab_size=len(tokenizer), seed=1)
    set_token_ids(model, tokenizer)
    save_model(model, tmp_path / "model", model_cache=ModelCache())
    save_tokenizer(tokenizer, tmp_path / "model")
    talk: list[dict[str, Any]] = [
        {"role": "user", "content": "a question?"},
        {"role": "assistant", "content": "an answer"},
    ]
    other = [talk[0], {"role": "assistant", "content": "another"}]
    rows = {
        "sft": {"prompt": "a question?", "prompt_id": "1", "messages": talk},
        "dpo": {
            "prompt": "a question?",
            "prompt_id": "1",
            "chosen": talk,
            "rejected": other,
            "messages": talk,
            "score_chosen": 8.0,
            "score_rejected": 2.0,
        },
    }
    for step, row in rows.items():
        for part in ("train", "test"):
            numbered = [_numbered(row, f"{part} {number}") for number in range(60)]
            text = "".join(json.dumps(item) + "\n" for item in numbered)
            (tmp_path / f"{step}-{part}.jsonl").write_text(text)
    sets = [f"model={tmp_path / 'model'}"]
    recipe = read_recipe(next(path for path in RECIPES if path.stem == name))
    for step in recipe.steps:
        local = step.stage if step.stage in rows else "sft"
        for option in ("data", "eval_data", "prompts"):
            if option in step.options:
                part = "train" if option == "data" else "test"
                there = f"{{path: {tmp_path}/{local}-{part}.jsonl, hub: null, split: train}}"
                sets.append(f"{step.name}.{option}={there}")
        if "precision" in step.options:
            sets.append(f"{step.name}.precision=fp32")
    host = Host.discover()
    recipe = read_recipe(recipe.path, overrides=sets)
    checked = chain.check(chain.link(recipe, host), host)
    assert all(plan.summary for plan in checked.plans)
    [reference] = [plan.reference for plan in checked.plans if plan.reference]
    assert (
        reference
        == {
            "zephyr-7b": "sft's policy (frozen copy)",
            "qlora-8b": "sft's policy (frozen copy of its adapter)",
            "laptop": "sft's policy (new adapter off)",
        }[name]
    )


def _numbered(row: dict[str, Any], number: str) -> dict[str, Any]:
    """The row with its prompt told apart from the others'."""
    text = json.dumps(row).replace("a question?", f"question {number}?")
    found: dict[str, Any] = json.loads(text)
    return found

"""Tokenizers are trained, saved, found again and told apart by what they do."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from aligner import AlignerError, Artifact, ModelCache, PlanContext, Registry, SlotForecast
from aligner.data.encoding.tokenizers import (
    load_tokenizer,
    planned_tokenizer,
    save_tokenizer,
    tokenizer_hash,
    train_tokenizer,
)
from aligner.errors import error_location

TEXTS = ["the cat sat on the mat", "a cat is a cat", "mats and cats ☃"]


def test_training_again_gives_the_same_tokenizer(tmp_path: Path) -> None:
    made = [train_tokenizer(TEXTS, 300, special=("<|end|>",)) for _ in range(2)]
    assert tokenizer_hash(made[0]) == tokenizer_hash(made[1])
    saved = [save_tokenizer(item, tmp_path / str(n)) for n, item in enumerate(made)]
    assert saved[0].hash == saved[1].hash
    assert saved[0].hash != save_tokenizer(train_tokenizer(TEXTS, 280), tmp_path / "other").hash


def test_a_trained_tokenizer_knows_every_byte_and_keeps_its_tokens_apart() -> None:
    tokenizer = train_tokenizer(TEXTS, 300, special=("<|end|>",))
    text = "unseen: ☃ 😀 \x00 é\n\t"
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.decode(ids) == f"<s>{text}"
    assert tokenizer.unk_token_id not in ids
    names = ["unk_token_id", "bos_token_id", "eos_token_id", "pad_token_id"]
    assert [getattr(tokenizer, name) for name in names] == [0, 1, 2, 3]
    assert 261 < len(tokenizer) <= 300
    assert tokenizer.convert_tokens_to_ids("<|end|>") == 4


def test_a_vocabulary_without_room_is_refused() -> None:
    with pytest.raises(AlignerError) as error:
        train_tokenizer(TEXTS, 256)
    assert str(error.value) == (
        "a vocabulary of 256 has no room for 256 bytes and 4 special tokens\n  hint: set it to 260 or more"
    )


def test_what_a_call_left_on_a_tokenizer_is_not_part_of_it(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(TEXTS, 300)
    before = tokenizer_hash(tokenizer)
    tokenizer(["the cat", "a"], padding=True, truncation=True, max_length=2)
    assert tokenizer_hash(tokenizer) == before
    tokenizer(["the cat", "a"], padding=True, truncation=True, max_length=2)
    saved = load_tokenizer(save_tokenizer(tokenizer, tmp_path), ModelCache())
    assert tokenizer_hash(saved) == before
    saved.chat_template = "other"
    assert tokenizer_hash(saved) != before


def test_the_live_tokenizer_is_taken_and_left(tmp_path: Path) -> None:
    tokenizer, model_cache = train_tokenizer(TEXTS, 300), ModelCache()
    artifact = save_tokenizer(tokenizer, tmp_path)
    model_cache.keep(artifact, tokenizer)
    assert load_tokenizer(artifact, model_cache) is tokenizer
    assert artifact in model_cache
    model_cache.keep(artifact, "a model of the same hash")
    assert load_tokenizer(artifact, model_cache) is not tokenizer
    assert model_cache.take(artifact) == "a model of the same hash"


def test_code_of_its_own_is_never_run(tmp_path: Path) -> None:
    save_tokenizer(train_tokenizer(TEXTS, 300), tmp_path)
    path = tmp_path / "tokenizer_config.json"
    settings = json.loads(path.read_text())
    settings |= {"auto_map": {"AutoTokenizer": ["evil.Evil", None]}, "tokenizer_class": "Evil"}
    path.write_text(json.dumps(settings))
    trace = tmp_path / "it ran"
    (tmp_path / "evil.py").write_text(f"open({str(trace)!r}, 'w')\nclass Evil: pass\n")
    with suppress(AlignerError):
        load_tokenizer(Artifact(path=str(tmp_path)), ModelCache())
    assert not trace.exists()


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AlignerError) as error, error_location("recipe.yaml:1"):
        load_tokenizer(Artifact(path=str(tmp_path)), ModelCache())
    message = str(error.value)
    assert message.startswith(f"recipe.yaml:1: no tokenizer can be loaded from {str(tmp_path)!r}: ")
    assert message.endswith(
        "\n  hint: it needs tokenizer.json and tokenizer_config.json; code of its own is never run"
    )


def look(tmp_path: Path, **slots: SlotForecast) -> PlanContext:
    parts: Any = slots
    return PlanContext(step="sft", where="recipe.yaml:7", recipe_folder=tmp_path, seed=0, slots=parts,
                registry=Registry(), memo={})  # fmt: skip


def test_the_planned_tokenizer_is_what_the_step_before_will_leave(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(TEXTS, 300)
    made = SlotForecast(made_by="chat", facts={"tokenizer": tokenizer})
    assert planned_tokenizer(look(tmp_path, tokenizer=made)) is tokenizer
    artifact = save_tokenizer(tokenizer, tmp_path)
    seen = look(tmp_path, tokenizer=SlotForecast(made_by="model", facts={"artifact": artifact}))
    assert tokenizer_hash(planned_tokenizer(seen)) == tokenizer_hash(tokenizer)
    assert planned_tokenizer(seen) is planned_tokenizer(seen)


def test_a_tokenizer_nobody_knows_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(AlignerError) as error:
        planned_tokenizer(look(tmp_path, tokenizer=SlotForecast(made_by="other")))
    assert str(error.value) == (
        "recipe.yaml:7: step 'other' does not say which tokenizer it will leave"
    )
    with pytest.raises(AlignerError) as error:
        planned_tokenizer(look(tmp_path))
    assert str(error.value) == "recipe.yaml:7: no step before fills the slot 'tokenizer'"


@pytest.mark.parametrize("module", ["aligner.data.options", "aligner.data.rows", "aligner_chat"])
def test_declarations_load_nothing_heavy(module: str) -> None:
    heavy = ("torch", "transformers", "trl", "peft", "datasets", "tokenizers", "pyarrow")
    code = f"import sys, {module}; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

from __future__ import annotations

import json
from pathlib import Path

import pytest

from aligner.state import Artifact, ModelCache, ModelState


def test_put_does_not_change_the_state() -> None:
    before = ModelState(policy=Artifact(path="org/base", hash="a"))
    after = before.put("sft", policy=Artifact(path="/runs/policy", hash="b"))
    assert before.get("policy") == Artifact(path="org/base", hash="a")
    assert after.get("policy") == Artifact(path="/runs/policy", hash="b", made_by="sft")
    assert after.changed_since(before) == {"policy"}


def test_a_state_read_from_a_moved_folder_has_the_new_paths(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    for name in ("policy", "lora"):
        (old / "1" / name).mkdir(parents=True)
    (old / "2").mkdir()
    state = ModelState(
        policy=Artifact(path=str(old / "1/policy"), adapters=(str(old / "1/lora"),), hash="h"),
        tokenizer=Artifact(path="org/name", revision="abc", hash="t"),
    )
    text = state.to_json(relative_to=old / "2")
    assert json.loads(text)["policy"]["path"] == "../1/policy"
    old.rename(new)
    back = ModelState.from_json(text, relative_to=new / "2")
    assert back.get("policy").path == str(new / "1/policy")
    assert back.get("policy").adapters == (str(new / "1/lora"),)
    assert back.get("tokenizer") == state.get("tokenizer")


def test_the_cache_returns_a_model_once_and_only_for_its_hash() -> None:
    model_cache, model = ModelCache(), object()
    model_cache.keep(Artifact(path="a", hash="1"), model)
    assert model_cache.take(Artifact(path="a", hash="2")) is None
    assert model_cache.take(Artifact(path="elsewhere", hash="1")) is model
    assert model_cache.take(Artifact(path="a", hash="1")) is None


def test_the_cache_drops_models_that_are_in_no_slot() -> None:
    model_cache = ModelCache()
    held, other = Artifact(path="a", hash="1"), Artifact(path="b", hash="2")
    model_cache.keep(held, "held")
    model_cache.keep(other, "other")
    model_cache.keep_only(ModelState(policy=held))
    assert held in model_cache
    assert other not in model_cache


def test_an_artifact_without_a_hash_cannot_be_kept() -> None:
    with pytest.raises(AssertionError):
        ModelCache().keep(Artifact(path="a"), object())

"""A model folder is read safely or not at all, and equal models have equal hashes."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from aligner.errors import ModelError, error_location
from aligner.models.files import artifact_hash, hash_folder, tensor_headers, verify
from aligner.models.load import load_model
from aligner.models.options import Adapter, ModelOptions
from aligner.models.policy import load_policy
from aligner.models.resolve import resolve, resolve_tokenizer
from aligner.models.save import save_model
from aligner.state import Artifact, ModelCache

LORA = ModelOptions(adapter=Adapter(r=2))


class Trap:
    """Unpickling it leaves a trace."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return (os.mkdir, (str(self.trace),))


def spring(path: Path, trace: Path) -> None:
    with path.open("wb") as file:
        pickle.dump(Trap(trace), file)


def folder(artifact: Artifact) -> Path:
    return Path(artifact.path)


def edit(path: Path, **changes: Any) -> None:
    raw = json.loads(path.read_text())
    path.write_text(json.dumps(raw | changes))


def refusals(artifact: Artifact) -> tuple[str, str]:
    """Return the messages of resolving and of loading."""
    with pytest.raises(ModelError) as checked, error_location("r.yaml:1"):
        resolve(artifact.path)
    with pytest.raises(ModelError) as loaded, error_location("r.yaml:1"):
        load_model(artifact, ModelCache())
    return str(checked.value), str(loaded.value)


def test_pickled_weights_are_never_read(make: Any, tmp_path: Path) -> None:
    start, trace = make(), tmp_path / "trace"
    (folder(start) / "model.safetensors").unlink()
    spring(folder(start) / "pytorch_model.bin", trace)
    expected = (
        f"r.yaml:1: {start.path} contains no weights: model.safetensors is missing, and "
        "pytorch_model.bin may run code when loaded\n"
        "  hint: aligner reads safetensors only; load the model with transformers and save it again"
    )
    assert refusals(start) == (expected, expected)
    assert not trace.exists()


@pytest.mark.parametrize("damage", ["header", "body", "empty"])
def test_damaged_weights_do_not_fall_back_to_pickled_ones(
    make: Any, tmp_path: Path, damage: str
) -> None:
    start, trace = make(), tmp_path / "trace"
    weights = folder(start) / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes({"header": b"\xff" * 80, "body": whole[:-9], "empty": b""}[damage])
    spring(folder(start) / "pytorch_model.bin", trace)
    with pytest.raises(ModelError, match="is damaged"):
        load_model(start, ModelCache())
    assert not trace.exists()


def test_a_pickled_adapter_is_never_read(make: Any, tmp_path: Path) -> None:
    prepared = load_policy(make(), ModelCache(), LORA, step="x", seed=7)
    saved = save_model(prepared.model, tmp_path / "a", model_cache=ModelCache(), base=prepared.base)
    trace = tmp_path / "trace"
    (tmp_path / "a" / "adapter_model.safetensors").unlink()
    spring(tmp_path / "a" / "adapter_model.bin", trace)
    with pytest.raises(ModelError) as refused:
        load_model(saved, ModelCache())
    assert str(refused.value) == (
        f"{tmp_path / 'a'} contains no adapter_model.safetensors, and adapter_model.bin may run code "
        "when loaded\n  hint: save the adapter again with a current version of peft"
    )
    assert not trace.exists()


@pytest.mark.parametrize(
    ("file", "changes", "complaint"),
    [
        (
            "config.json",
            {"auto_map": {"AutoModelForCausalLM": "evil.Model"}},
            "refers to code of the model (auto_map)\n  hint: aligner does not run code of a model; "
            "use an architecture that transformers supports",
        ),
        (
            "generation_config.json",
            {"custom_generate": "somebody/code"},
            "refers to code of the model (custom_generate)\n  hint: aligner does not run code of a "
            "model; use an architecture that transformers supports",
        ),
        (
            "config.json",
            {"text_config": {"auto_map": {"AutoConfig": "evil.Config"}}},
            "refers to code of the model (auto_map)\n  hint: aligner does not run code of a model; "
            "use an architecture that transformers supports",
        ),
        (
            "config.json",
            {"_attn_implementation": "somebody/kernel"},
            "names a kernel to download (_attn_implementation: somebody/kernel)\n  hint: remove that "
            "line; the option `attn_implementation` of a step sets the kernel",
        ),
        (
            "config.json",
            {"quantization_config": {"quant_method": "gptq"}},
            "has a `quantization_config`, which aligner does not support\n  hint: start from "
            "unquantized weights, with `quantize: nf4` in the step",
        ),
        (
            "config.json",
            {"transformers_weights": "../elsewhere.safetensors"},
            "has a `transformers_weights`, which aligner does not support\n  hint: start from "
            "unquantized weights, with `quantize: nf4` in the step",
        ),
    ],
)
def test_code_kernels_and_weights_that_a_config_names_are_refused(
    make: Any, file: str, changes: dict[str, Any], complaint: str
) -> None:
    start = make()
    (folder(start) / "evil.py").write_text("raise SystemExit('ran')")
    edit(folder(start) / file, **changes)
    expected = f"r.yaml:1: {folder(start) / file} {complaint}"
    assert refusals(start) == (expected, expected)


def test_an_architecture_that_transformers_does_not_know_is_refused(make: Any) -> None:
    start = make()
    edit(folder(start) / "config.json", model_type="evil")
    with pytest.raises(ModelError) as refused:
        load_model(start, ModelCache())
    assert str(refused.value) == (
        "model_type 'evil' is unknown to transformers\n  hint: aligner does not run code of a model"
    )


@pytest.mark.parametrize("name", ["../outside.safetensors", "{outside}", "link.safetensors"])
def test_an_index_that_reads_outside_its_folder_is_refused(
    make: Any, tmp_path: Path, name: str
) -> None:
    start, outside = make(), tmp_path / "outside.safetensors"
    weights = folder(start) / "model.safetensors"
    shutil.move(weights, outside)
    (folder(start) / "link.safetensors").symlink_to(outside)
    name = name.format(outside=outside)
    index = {"weight_map": dict.fromkeys(load_file(outside), name)}
    (folder(start) / "model.safetensors.index.json").write_text(json.dumps(index))
    checked, loaded = refusals(start)
    assert checked == loaded
    assert checked == (
        f"r.yaml:1: {start.path} links to weights outside of it: {Path(name).name!r} is {outside}\n"
        "  hint: copy the weights into the folder if you trust them"
    )


def test_weights_that_are_a_link_outward_are_refused(make: Any, tmp_path: Path) -> None:
    start, outside = make(), tmp_path / "outside.safetensors"
    weights = folder(start) / "model.safetensors"
    shutil.move(weights, outside)
    weights.symlink_to(outside)
    assert "links to weights outside of it" in refusals(start)[0]


def test_weights_that_a_hub_cache_links_to_its_blobs_are_read(make: Any, tmp_path: Path) -> None:
    start = make()
    snapshot = tmp_path / "models--o--m" / "snapshots" / ("0" * 40)
    blobs = tmp_path / "models--o--m" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for path in folder(start).iterdir():
        shutil.copy(path, blobs / f"blob-{path.name}")
        (snapshot / path.name).symlink_to(blobs / f"blob-{path.name}")
    load_model(Artifact(path=str(snapshot)), ModelCache())


def test_an_index_that_names_a_missing_or_foreign_file_is_refused(make: Any) -> None:
    start = make()
    index = folder(start) / "model.safetensors.index.json"
    (folder(start) / "model.safetensors").unlink()
    index.write_text(json.dumps({"weight_map": {"a": "model-1.safetensors"}}))
    assert refusals(start)[0] == f"r.yaml:1: {index} names 'model-1.safetensors', which is missing"
    index.write_text(json.dumps({"weight_map": {"a": "model-1.bin"}}))
    assert refusals(start)[0] == f"r.yaml:1: {index} names 'model-1.bin', which is not safetensors"
    index.write_text("[1]")
    assert refusals(start)[0] == f"r.yaml:1: {index} is not a JSON object"


def test_a_folder_that_is_no_model_says_what_it_lacks(tmp_path: Path, make: Any) -> None:
    with pytest.raises(ModelError) as refused, error_location("r.yaml:1"):
        resolve(str(tmp_path))
    assert str(refused.value) == (
        f"r.yaml:1: {tmp_path} contains no config.json\n"
        "  hint: a model folder contains config.json and *.safetensors, as save_pretrained writes them"
    )
    with pytest.raises(ModelError) as refused, error_location("r.yaml:1"):
        resolve("./nowhere")
    assert str(refused.value) == (
        "r.yaml:1: there is no model folder ./nowhere\n  hint: give a folder, or a hub id as org/name"
    )
    with pytest.raises(ModelError) as refused, error_location("r.yaml:1"):
        resolve_tokenizer(str(tmp_path))
    assert str(refused.value) == (
        f"r.yaml:1: {tmp_path} contains no tokenizer\n"
        "  hint: a tokenizer folder contains tokenizer.json, as save_pretrained writes it"
    )
    prepared = load_policy(make(), ModelCache(), LORA, step="x", seed=7)
    save_model(prepared.model, tmp_path / "a", model_cache=ModelCache(), base=prepared.base)
    with pytest.raises(ModelError) as refused, error_location("r.yaml:1"):
        resolve(str(tmp_path / "a"))
    assert str(refused.value) == (
        f"r.yaml:1: {tmp_path / 'a'} contains no config.json\n"
        "  hint: it contains an adapter: name its base model, and this folder under `adapters`"
    )


def test_a_hub_id_that_is_not_in_the_cache_needs_the_hub(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelError) as refused, error_location("r.yaml:1"):
        resolve("somebody/absent")
    assert str(refused.value) == (
        "r.yaml:1: 'somebody/absent' is neither a folder nor in the local cache, and "
        "HF_HUB_OFFLINE is set\n  hint: give a folder, or unset HF_HUB_OFFLINE"
    )


def test_a_hub_id_in_the_cache_is_known_by_its_commit(
    make: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    commit, home = "a" * 40, tmp_path / "hub" / "models--o--m"
    (home / "refs").mkdir(parents=True)
    (home / "refs" / "main").write_text(commit)
    shutil.copytree(folder(make()), home / "snapshots" / commit)
    artifact = resolve("o/m")
    assert (artifact.path, artifact.revision) == ("o/m", commit)
    assert artifact_hash(artifact) == artifact.hash
    assert artifact.hash != resolve_tokenizer("o/m").hash
    load_model(artifact, ModelCache())
    (home / "snapshots" / commit / "model.safetensors").unlink()
    with pytest.raises(ModelError) as refused, error_location("r.yaml:1"):
        load_model(artifact, ModelCache())
    assert str(refused.value).startswith("r.yaml:1: ")
    (home / "snapshots" / commit / "config.json").unlink()
    with pytest.raises(ModelError) as refused, error_location("r.yaml:1"):
        resolve("o/m")
    assert str(refused.value).startswith("r.yaml:1: ")


def test_equal_models_have_equal_hashes_wherever_they_lie(make: Any, tmp_path: Path) -> None:
    start = make()
    moved = tmp_path / "elsewhere"
    shutil.copytree(start.path, moved)
    edit(moved / "config.json", _name_or_path="x", transformers_version="9.9")
    (moved / "README.md").write_text("about it")
    assert resolve(str(moved)).hash == resolve(start.path).hash == start.hash
    edit(moved / "config.json", rms_norm_eps=1e-3)
    assert resolve(str(moved)).hash != start.hash


def test_an_adapter_saved_twice_has_one_hash(make: Any, tmp_path: Path) -> None:
    start = make()
    hashes = []
    for name in ("a", "b"):
        prepared = load_policy(start, ModelCache(), LORA, step="x", seed=7)
        saved = save_model(
            prepared.model, tmp_path / name, model_cache=ModelCache(), base=prepared.base
        )
        raw = json.loads((tmp_path / name / "adapter_config.json").read_text())
        assert raw["target_modules"] == sorted(raw["target_modules"])
        assert saved.hash == artifact_hash(saved)
        hashes.append(saved.hash)
    assert hashes[0] == hashes[1] != start.hash


def test_a_flipped_bit_in_a_saved_step_is_caught(make: Any) -> None:
    start = replace(make(), made_by="sft")
    verify(start)
    weights = folder(start) / "model.safetensors"
    raw = bytearray(weights.read_bytes())
    raw[-3] ^= 1
    weights.write_bytes(raw)
    with pytest.raises(ModelError) as refused, error_location("r.yaml:1"):
        verify(start)
    assert str(refused.value) == (
        f"r.yaml:1: the files of 'sft' in {start.path} have changed since they were saved\n"
        "  hint: a file was changed or damaged; run the step again with --fresh"
    )
    shutil.rmtree(start.path)
    with pytest.raises(ModelError) as refused, error_location("r.yaml:1"):
        verify(start)
    assert str(refused.value) == f"r.yaml:1: the folder {start.path} of 'sft' is gone"


def test_headers_are_read_without_the_weights(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(2, 3), "b": torch.zeros(1).bfloat16()}, tmp_path / "x.safetensors")
    assert tensor_headers(tmp_path / "x.safetensors") == {"a": ("F32", (2, 3)), "b": ("BF16", (1,))}


def test_a_tokenizer_and_a_model_in_one_folder_have_hashes_of_their_own(
    make: Any, tokenizer: Any
) -> None:
    start = make()
    tokenizer.save_pretrained(start.path)
    assert resolve_tokenizer(start.path).hash not in {"", resolve(start.path).hash}
    assert resolve(start.path).hash == start.hash == hash_folder(folder(start))

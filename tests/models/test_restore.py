"""After any trainer, a cleaned model is as a fresh load of its saved self."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset

from aligner.models.adapters import attach_config
from aligner.models.load import load_model
from aligner.models.options import Adapter, ModelOptions
from aligner.models.policy import load_policy
from aligner.models.reference import frozen_copy
from aligner.models.restore import base_model, restore_model
from aligner.models.reward import load_reward_to_train
from aligner.models.save import save_model
from aligner.state import ModelCache

FULL = ModelOptions()
LORA = ModelOptions(adapter=Adapter(r=2, lora_dropout=0.1))
PAIRS = [
    {"prompt": "a b", "chosen": " c d e", "rejected": " f g"},
    {"prompt": "c d", "chosen": " h i", "rejected": " j k l"},
]


def arguments(kind: type, folder: Path, **more: Any) -> Any:
    return kind(
        output_dir=str(folder),
        max_steps=2,
        per_device_train_batch_size=2,
        learning_rate=0.01,
        use_cpu=True,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        **more,
    )


def sft(model: Any, tokenizer: Any, folder: Path, *, bf16: bool = False, checkpoint: bool = False):
    from trl import SFTConfig, SFTTrainer

    rows = Dataset.from_list([{"text": "a b c d e f g"}, {"text": "h i j k l"}])
    options = arguments(SFTConfig, folder, bf16=bf16, activation_checkpointing=checkpoint)
    trainer = SFTTrainer(model, args=options, train_dataset=rows, processing_class=tokenizer)
    trainer.train()
    return trainer.model


def dpo(model: Any, tokenizer: Any, folder: Path, *, bf16: bool = False, checkpoint: bool = False):
    from trl import DPOConfig, DPOTrainer

    options = arguments(
        DPOConfig,
        folder,
        bf16=bf16,
        activation_checkpointing=checkpoint,
        precompute_ref_log_probs=not hasattr(model, "peft_config"),
    )
    rows = Dataset.from_list(PAIRS)
    trainer = DPOTrainer(model, args=options, train_dataset=rows, processing_class=tokenizer)
    trainer.train()
    return trainer.model


def reward(
    model: Any, tokenizer: Any, folder: Path, *, bf16: bool = False, checkpoint: bool = False
):
    from trl import RewardConfig, RewardTrainer

    options = arguments(RewardConfig, folder, bf16=bf16, activation_checkpointing=checkpoint)
    rows = Dataset.from_list(PAIRS)
    trainer = RewardTrainer(model, args=options, train_dataset=rows, processing_class=tokenizer)
    trainer.train()
    return trainer.model


def metrics(model: Any, ids: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        logits: torch.Tensor = model(ids).logits
    return logits


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore:You passed `max_length`:UserWarning")
@pytest.mark.parametrize("options", [FULL, LORA], ids=["full", "lora"])
@pytest.mark.parametrize("trainer", [sft, dpo, reward])
@pytest.mark.parametrize("kind", ["llama", "gpt2"])
@pytest.mark.parametrize("bf16", [False, True], ids=["fp32", "bf16"])
def test_nothing_of_a_trainer_stays_on_the_model(
    make: Any,
    tokenizer: Any,
    tmp_path: Path,
    ids: torch.Tensor,
    differences: Any,
    options: ModelOptions,
    trainer: Any,
    kind: str,
    bf16: bool,
) -> None:
    start = make(kind)
    if trainer is reward:
        prepared = load_reward_to_train(start, ModelCache(), options, step="x", seed=7, pad=0)
    else:
        prepared = load_policy(start, ModelCache(), options, step="x", seed=7)
    before = {n: p.detach().clone() for n, p in prepared.model.named_parameters()}
    trained = trainer(prepared.model, tokenizer, tmp_path / "t", bf16=bf16, checkpoint=bf16)
    assert trained is prepared.model
    model_cache = ModelCache()
    artifact = save_model(
        prepared.model, tmp_path / "out", model_cache=model_cache, base=prepared.base
    )
    moved = {n for n, p in prepared.model.named_parameters() if not torch.equal(p, before[n])}
    assert moved <= {n for n, p in prepared.model.named_parameters() if p.requires_grad}
    assert moved
    is_reward = trainer is reward
    handed = load_model(artifact, model_cache, reward=is_reward)
    loaded = load_model(artifact, ModelCache(), reward=is_reward)
    assert handed is prepared.model
    assert differences(handed, loaded) == []
    assert torch.equal(metrics(handed, ids), metrics(loaded, ids))
    assert handed(ids).logits.dtype == torch.float32


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("trainer", [sft, reward])
def test_nothing_stays_of_a_trainer_that_saw_the_model_without_its_wrapper(
    make: Any, tokenizer: Any, tmp_path: Path, differences: Any, trainer: Any
) -> None:
    start, is_reward = make(), trainer is reward
    if is_reward:
        prepared = load_reward_to_train(start, ModelCache(), LORA, step="x", seed=7, pad=0)
    else:
        prepared = load_policy(start, ModelCache(), LORA, step="x", seed=7)
    trainer(base_model(prepared.model), tokenizer, tmp_path / "t", bf16=True, checkpoint=True)
    model_cache = ModelCache()
    artifact = save_model(
        prepared.model, tmp_path / "out", model_cache=model_cache, base=prepared.base
    )
    handed = load_model(artifact, model_cache, reward=is_reward)
    assert differences(handed, load_model(artifact, ModelCache(), reward=is_reward)) == []


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_a_copy_of_a_cleaned_model_runs_its_own_weights(
    make: Any, tokenizer: Any, tmp_path: Path, ids: torch.Tensor
) -> None:
    prepared = load_policy(make(), ModelCache(), FULL, step="x", seed=7)
    sft(prepared.model, tokenizer, tmp_path / "t")
    with pytest.raises(AssertionError, match="restore the model before it is copied"):
        frozen_copy(prepared.model)
    twin = frozen_copy(restore_model(prepared.model))
    expected = metrics(prepared.model, ids)
    for parameter in twin.parameters():
        parameter.zero_()
    assert torch.equal(metrics(prepared.model, ids), expected)
    assert not metrics(twin, ids).any()


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_the_precision_of_a_later_trainer_is_its_own(
    make: Any, tokenizer: Any, tmp_path: Path
) -> None:
    """accelerate marks a model it has prepared, and then never wraps it in autocast again."""
    prepared = load_policy(make(), ModelCache(), FULL, step="x", seed=7)
    seen: list[torch.dtype] = []
    for number, bf16 in enumerate([True, False, True]):
        model = prepared.model
        handle = model.lm_head.register_forward_hook(lambda m, i, out: seen.append(out.dtype))
        backbone = model.model.layers[0].mlp.register_forward_hook(
            lambda m, i, out: seen.append(out.dtype)
        )
        sft(model, tokenizer, tmp_path / str(number), bf16=bf16)
        handle.remove()
        backbone.remove()
        assert set(seen) == {torch.bfloat16 if bf16 else torch.float32}
        seen.clear()
        restore_model(model)


def test_every_adapter_that_is_not_ours_is_taken_off(make: Any) -> None:
    prepared = load_policy(make(), ModelCache(), LORA, step="x", seed=7)
    model: Any = prepared.model
    attach_config(model, copy.deepcopy(model.peft_config["default"]), "ref")
    model.set_adapter("ref")
    restore_model(model)
    assert list(model.peft_config) == ["default"]
    assert model.active_adapters == ["default"]
    assert not [name for name, _ in model.named_parameters() if ".ref." in name]
    frozen = [n for n, p in model.named_parameters() if not p.requires_grad and "lora" in n]
    assert frozen == []


def test_settings_that_trainers_overwrite_come_back(make: Any) -> None:
    model: Any = load_model(make("gpt2"), ModelCache())
    kept = copy.deepcopy(model.generation_config.to_dict())
    model.config.use_cache = False
    model.config.pad_token_id = model.config.eos_token_id = 9
    model.generation_config.pad_token_id = 9
    model.transformer.drop.p = 0.0
    model.train()
    restore_model(model)
    assert model.config.use_cache is True
    assert (model.config.eos_token_id, model.config.pad_token_id) == (2, 0)
    assert model.generation_config.to_dict() == kept
    assert model.transformer.drop.p == 0.1
    assert not model.training


def test_collecting_hidden_states_survives_a_cleaning(make: Any, ids: torch.Tensor) -> None:
    model: Any = load_model(make(), ModelCache())
    first = model(ids, output_hidden_states=True).hidden_states
    restore_model(model)
    again = model(ids, output_hidden_states=True).hidden_states
    assert again is not None
    assert len(again) == len(first) == 3
    assert base_model(model) is model

"""Every stage of ours holds to the contract that any plugin's stage is held to."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

from aligner.testing import StageContract, conversations, labels, preferences, prompts, texts
from aligner_annotate.stage import Annotate, Paraphrase
from aligner_chat.stage import Chat
from aligner_dpo.stage import DPO
from aligner_evaluate.stage import Evaluate
from aligner_grpo.stage import GRPO
from aligner_kto.stage import KTO
from aligner_ppo.stage import PPO
from aligner_pretrain.stage import Pretrain
from aligner_reward.stage import Reward
from aligner_sft.stage import SFT

TRAINING: dict[str, Any] = {
    "max_steps": 4,
    "per_device_train_batch_size": 4,
    "learning_rate": 1e-2,
    "logging_steps": 1,
    "save_steps": 2,
}


class TestPretrain(StageContract):
    stage = Pretrain
    options: ClassVar = TRAINING | {
        "data": "texts.jsonl",
        "max_length": 32,
        "vocab_size": 300,
        "fresh": {
            "hidden_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "max_position_embeddings": 64,
        },
    }
    files: ClassVar = {"texts.jsonl": texts()}


class TestChat(StageContract):
    stage = Chat
    options: ClassVar = {"template": "chatml"}
    interrupt_at = None


class TestSFT(StageContract):
    stage = SFT
    options: ClassVar = TRAINING | {"data": "talks.jsonl", "eval_data": "others.jsonl"}
    files: ClassVar = {"talks.jsonl": conversations(), "others.jsonl": conversations(4, seed=9)}


class TestReward(StageContract):
    stage = Reward
    options: ClassVar = TRAINING | {"data": "pairs.jsonl"}
    files: ClassVar = {"pairs.jsonl": preferences()}


class TestDPO(StageContract):
    stage = DPO
    options: ClassVar = TRAINING | {"data": "pairs.jsonl"}
    files: ClassVar = {"pairs.jsonl": preferences()}


class TestKTO(StageContract):
    stage = KTO
    options: ClassVar = TRAINING | {"data": "labels.jsonl", "eval_data": "others.jsonl"}
    files: ClassVar = {"labels.jsonl": labels(), "others.jsonl": labels(4, seed=9)}


class TestEvaluate(StageContract):
    stage = Evaluate
    options: ClassVar = {
        "prompts": "prompts.jsonl",
        "conversations": "talks.jsonl",
        "metrics": ["token_f1"],
        "max_new_tokens": 4,
    }
    files: ClassVar = {"prompts.jsonl": prompts(4), "talks.jsonl": conversations(4)}
    fill: ClassVar = ("reward",)
    interrupt_at = None


@pytest.mark.slow
class TestSFTWithAdapter(TestSFT):
    options: ClassVar = TestSFT.options | {"adapter": {"r": 4}}


@pytest.mark.slow
class TestSFTPacked(TestSFT):
    options: ClassVar = TestSFT.options | {"packing": True, "max_length": 64}


@pytest.mark.slow
class TestRewardWithAdapter(TestReward):
    options: ClassVar = TestReward.options | {"adapter": {"r": 4}}


@pytest.mark.slow
class TestDPOWithAdapter(TestDPO):
    options: ClassVar = TestDPO.options | {"adapter": {"r": 4}, "hold_out": 0.3}


@pytest.mark.slow
class TestDPOWithAnotherReference(TestDPO):
    fill: ClassVar = ("reference",)


@pytest.mark.slow
class TestKTOWithAdapter(TestKTO):
    options: ClassVar = TestKTO.options | {"adapter": {"r": 4}}


@pytest.mark.slow
class TestKTOOfPairsWithAnotherReference(TestKTO):
    options: ClassVar = TRAINING | {"data": "pairs.jsonl", "loss_type": "apo_zero_unpaired"}
    files: ClassVar = {"pairs.jsonl": preferences()}
    fill: ClassVar = ("reference",)


class TestAnnotate(StageContract):
    stage = Annotate
    options: ClassVar = {
        "prompts": "prompts.jsonl",
        "samples_per_prompt": 2,
        "score": {"name": "length", "options": {"maximum": 2}},
        "keep": "best",
        "ended_only": False,
        "max_new_tokens": 4,
        "batch_size": 4,
    }
    files: ClassVar = {"prompts.jsonl": prompts(6)}
    interrupt_at = 4


class TestAnnotateByRewardModel(TestAnnotate):
    options: ClassVar = TestAnnotate.options | {"score": "model", "keep": "pairs"}
    interrupt_at = 16


class TestParaphrase(StageContract):
    stage = Paraphrase
    options: ClassVar = {
        "data": "talks.jsonl",
        "versions": 8,
        "instruction": "reword {text}",
        "shortest": 0,
        "longest": 100,
        "max_new_tokens": 24,
        "batch_size": 16,
    }
    files: ClassVar = {"talks.jsonl": conversations(6)}
    interrupt_at = 16


class TestPPO(StageContract):
    stage = PPO
    options: ClassVar = {
        "data": "prompts.jsonl",
        "iterations": 4,
        "prompts": 2,
        "num_generations": 2,
        "num_ppo_epochs": 1,
        "num_mini_batches": 1,
        "max_new_tokens": 4,
        "learning_rate": 1e-3,
        "save_steps": 2,
        "guards": {"unending": {"limit": None}},
    }
    files: ClassVar = {"prompts.jsonl": prompts(4)}
    unrepeatable: ClassVar = frozenset({"tokens_per_second"})


@pytest.mark.slow
class TestPPOWithAdapterAndRewardModel(TestPPO):
    options: ClassVar = TestPPO.options | {"adapter": {"r": 4}, "value": "head"}


class TestGRPO(StageContract):
    stage = GRPO
    options: ClassVar = {
        "data": "prompts.jsonl",
        "iterations": 4,
        "prompts": 2,
        "num_generations": 2,
        "max_new_tokens": 4,
        "learning_rate": 1e-3,
        "beta": 0.04,
        "save_steps": 2,
        "hold_out": 0.3,
        "guards": {"unending": {"limit": None}},
    }
    files: ClassVar = {"prompts.jsonl": prompts(8)}
    unrepeatable: ClassVar = frozenset({"tokens_per_second"})


@pytest.mark.slow
class TestGRPOWithAdapterRewardFunctionsAndMix(TestGRPO):
    options: ClassVar = TestGRPO.options | {
        "adapter": {"r": 4},
        "rewards": [{"name": "length", "options": {"maximum": 3}}, "exact_match"],
        "num_iterations": 2,
        "loss_type": "dr_grpo",
        "scale_rewards": "none",
        "pretraining": {"data": "texts.jsonl", "batch_size": 3},
    }
    files: ClassVar = TestGRPO.files | {"texts.jsonl": texts()}

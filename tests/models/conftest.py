"""Tiny models of several architectures, what trainers do to them, and how two models are compared."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
)

from aligner.models.fresh import fresh_model
from aligner.models.options import FreshModel
from aligner.models.save import save_model
from aligner.state import Artifact, ModelCache

VOCABULARY = 24
Make = Callable[..., Artifact]


def _llama() -> Any:
    shape = FreshModel(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        intermediate_size=24,
        max_position_embeddings=32,
    )
    return fresh_model(shape, vocab_size=VOCABULARY, seed=1)


def _wide() -> Any:
    """Wide enough for the kernels that compute on four bits."""
    return fresh_model(
        FreshModel(
            hidden_size=64, num_hidden_layers=1, num_attention_heads=2, intermediate_size=128
        ),
        vocab_size=VOCABULARY,
        seed=1,
    )


def _gpt2() -> Any:
    """Dropout of its own, transposed weights, learned positions, tied ends."""
    torch.manual_seed(1)
    return GPT2LMHeadModel(
        GPT2Config(vocab_size=VOCABULARY, n_embd=16, n_layer=2, n_head=2, n_positions=32)
    )


def _moe() -> Any:
    """Experts whose files name and cut their weights in another way than the model does."""
    torch.manual_seed(1)
    return Qwen3MoeForCausalLM(
        Qwen3MoeConfig(
            vocab_size=VOCABULARY,
            hidden_size=16,
            intermediate_size=24,
            moe_intermediate_size=8,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=8,
            num_experts=4,
            num_experts_per_tok=2,
            max_position_embeddings=32,
        )
    )


def _qwen2() -> Any:
    """Biases, and ends that are not tied."""
    torch.manual_seed(1)
    return Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=VOCABULARY,
            hidden_size=16,
            intermediate_size=24,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            max_position_embeddings=32,
            tie_word_embeddings=False,
        )
    )


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Save a tiny model of an architecture, and give its artifact."""

    def made(kind: str = "llama", *, dtype: torch.dtype = torch.float32) -> Artifact:
        makers = {"llama": _llama, "wide": _wide, "gpt2": _gpt2, "moe": _moe, "qwen2": _qwen2}
        model = makers[kind]().to(dtype)
        model.config.dtype = dtype
        for settings in (model.config, model.generation_config):
            settings.bos_token_id, settings.eos_token_id, settings.pad_token_id = 1, 2, 0
        return save_model(model, tmp_path / "start", model_cache=ModelCache())

    return made


@pytest.fixture
def ids() -> torch.Tensor:
    """Token ids of shape (2, 12)."""
    return torch.arange(3, 27).view(2, 12) % (VOCABULARY - 3) + 3


@pytest.fixture
def train(ids: torch.Tensor) -> Callable[..., None]:
    """Move what requires a gradient, by plain steps."""

    def trained(model: Any, *, steps: int = 2, rate: float = 1.0) -> None:
        parameters = [p for p in model.parameters() if p.requires_grad]
        optimizer = torch.optim.SGD(parameters, lr=rate)
        model.train()
        for _ in range(steps):
            optimizer.zero_grad()
            out = model(ids)
            logits = out.logits
            if logits.dim() == 3:
                loss = torch.nn.functional.cross_entropy(
                    logits[:, :-1].flatten(0, 1).float(), ids[:, 1:].flatten()
                )
            else:
                loss = logits.float().pow(2).mean() - logits.float().sum()
            loss.backward()
            optimizer.step()
        model.eval()

    return trained


@pytest.fixture
def differences() -> Callable[[Any, Any], list[str]]:
    """Every way in which two models are not the same to the bit."""

    def compare(a: Any, b: Any) -> list[str]:
        found = _compare(dict(a.named_parameters()), dict(b.named_parameters()), "parameter")
        found += _compare(dict(a.named_buffers()), dict(b.named_buffers()), "buffer")
        ours, theirs = dict(a.named_modules()), dict(b.named_modules())
        for name in ours.keys() | theirs.keys():
            left, right = ours.get(name), theirs.get(name)
            if type(left) is not type(right):
                found.append(f"module {name}: {type(left)} {type(right)}")
                continue
            assert left is not None
            assert right is not None
            if left.training != right.training:
                found.append(f"training {name}")
            # What only from_pretrained notes, and a model that was built says by default.
            odd = left.__dict__.keys() ^ right.__dict__.keys()
            odd -= {"_use_kernels", "_weight_conversions"}
            found += [f"attribute {name}.{item}" for item in sorted(odd)]
            for hooks in ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks"):
                if len(getattr(left, hooks)) != len(getattr(right, hooks)):
                    found.append(f"{hooks} of {name}")
            if isinstance(left, torch.nn.Dropout) and left.p != right.p:
                found.append(f"dropout {name}: {left.p} {right.p}")
        found += _compare_settings(a.config, b.config, "config")
        if hasattr(a, "generation_config"):
            found += _compare_settings(a.generation_config, b.generation_config, "generation")
        return found

    return compare


def _compare(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor], what: str) -> list[str]:
    found = [f"{what} {name} on one side" for name in sorted(a.keys() ^ b.keys())]
    for name in sorted(a.keys() & b.keys()):
        if a[name].dtype != b[name].dtype:
            found.append(f"{what} {name}: {a[name].dtype} {b[name].dtype}")
        elif not torch.equal(a[name], b[name]):
            found.append(f"{what} {name} differs")
        if a[name].requires_grad != b[name].requires_grad:
            found.append(f"{what} {name}: requires_grad {a[name].requires_grad}")
        if a[name].grad is not None or b[name].grad is not None:
            found.append(f"{what} {name} has a gradient")
    return found


def _compare_settings(a: Any, b: Any, what: str) -> list[str]:
    ours, theirs = a.to_dict(), b.to_dict()
    noise = {"_name_or_path", "transformers_version"}
    keys = (ours.keys() | theirs.keys()) - noise
    odd = [key for key in keys if ours.get(key) != theirs.get(key)]
    return [f"{what} {key}: {ours.get(key)} {theirs.get(key)}" for key in sorted(odd)]


@pytest.fixture
def tokenizer() -> Any:
    """A word for every letter, `<pad>` 0, `<s>` 1 and `</s>` 2."""
    words = ["<pad>", "<s>", "</s>", *"abcdefghijklmnopqrstu"]
    plain = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="a"))
    plain.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=plain, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )


@pytest.fixture
def shared() -> Path:
    folder = Path(
        os.environ.get("ALIGNER_SHARED", Path(__file__).parents[2] / ".." / "shared")
    ).resolve()
    if not (folder / "models").is_dir():
        pytest.skip("the shared models are not here; set ALIGNER_SHARED")
    return folder

"""Tiny real models, a tokenizer of words, and whole settings for the tests of PPO."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from aligner.models.language_model import split_language_model
from aligner.models.policy import prepare_policy
from aligner.models.reference import reference_of
from aligner.registry import Completion, Registry, RewardFunction
from aligner.stage import Plan, StepContext
from aligner.state import ModelCache
from aligner.train.scoring import RewardSource
from aligner_ppo.options import PPOOptions
from aligner_ppo.parallel import ProcessGroup
from aligner_ppo.setting import PPOContext, PPOPrompt
from aligner_ppo.step import setting_of
from aligner_ppo.value import HeadOnTrunk, OwnAdapter, OwnModel, add_value_adapter

CPU = torch.device("cpu")


def tiny_model(
    *, seed: int = 0, vocab: int = 32, layers: int = 2, width: int = 32, **more: Any
) -> Any:
    """A Llama of about 20,000 random parameters whose padding token is its stop token."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocab,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        initializer_range=0.2,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=2,
        **more,
    )
    return LlamaForCausalLM(config).eval()


def words(vocab: int = 32) -> PreTrainedTokenizerFast:
    """A tokenizer whose token 7 is the word `w7`; 0, 1 and 2 are special."""
    names = ["<pad>", "<s>", "</s>", *(f"w{i}" for i in range(3, vocab))]
    backend = Tokenizer(models.WordLevel({name: i for i, name in enumerate(names)}, "<pad>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )


class Table(RewardFunction):
    """Pays for the words of a response by a table, and nothing else."""

    name: ClassVar[str] = "table"

    def __init__(self, table: dict[str, float]) -> None:
        super().__init__()
        self.table = table

    def score(self, completions: Sequence[Completion]) -> list[float]:
        return [sum(self.table.get(word, 0.0) for word in c.text.split()) for c in completions]


def options(**more: Any) -> PPOOptions:
    """Options that suit tiny models; the data is never read."""
    small = {
        "data": "none.jsonl",
        "rewards": ["table"],
        "iterations": 3,
        "prompts": 4,
        "num_generations": 4,
        "num_ppo_epochs": 2,
        "num_mini_batches": 2,
        "per_device_train_batch_size": 3,
        "max_new_tokens": 8,
        "learning_rate": 1e-3,
        "value_learning_rate": 1e-3,
        "precision": "fp32",
    }
    return PPOOptions(**(small | more))


def run_in(folder: Path, *, seed: int = 0, **more: Any) -> StepContext:
    folder.mkdir(parents=True, exist_ok=True)
    return StepContext(
        step="ppo",
        folder=folder,
        recipe_folder=folder,
        where="recipe.yaml:7",
        seed=seed,
        plan=Plan(summary=""),
        model_cache=ModelCache(),
        registry=Registry(),
        memo={},
        **more,
    )


PROMPTS = [[1, 5, 6], [1, 7], [1, 2, 9, 10, 11], [1, 4, 5, 6, 7, 8, 9], [1, 12, 13]]


def whole_setting(
    options: PPOOptions,
    context: StepContext,
    *,
    model: Any = None,
    kind: str = "model",
    table: dict[str, float] | None = None,
    scorer: Any = None,
    prompts: Sequence[Sequence[int]] = PROMPTS,
    stops: Sequence[int] = (2, 3),
    together: ProcessGroup | None = None,
) -> PPOContext:
    """A setting as a step makes it, its parts made here instead of read from folders."""
    model = tiny_model() if model is None else model
    vocab = model.config.vocab_size
    value_of = _own_model(model) if kind == "model" else None
    prepared = prepare_policy(model, None, options=options, step="ppo", seed=context.seed)
    parts = split_language_model(prepared.model)
    reference = reference_of(prepared)
    width = parts.trunk.config.hidden_size
    if kind == "adapter":
        add_value_adapter(prepared.model, seed=context.seed, step="ppo")
    value = {
        "model": lambda: OwnModel(value_of),
        "head": lambda: HeadOnTrunk(width),
        "adapter": lambda: OwnAdapter(prepared.model, parts.trunk, width),
    }[kind]()
    scorer = Table(table or {"w5": 1.0}) if scorer is None else scorer
    return setting_of(
        options,
        context,
        prepared=prepared,
        parts=parts,
        reference=reference,
        value=value,
        prompts=[
            PPOPrompt(tokens=tuple(p), messages=({"role": "user", "content": str(p)},), row={})
            for p in prompts
        ],
        held_out=[],
        sources=[RewardSource(name="table", weight=1.0, scorer=scorer)],
        tokenizer=words(vocab),
        stops=stops,
        together=together or ProcessGroup(rank=0, world=1, device=CPU),
    )


def _own_model(model: Any) -> Any:
    """What `value_model` makes: the policy's trunk under a head of zeros."""
    import copy

    from transformers import LlamaForSequenceClassification

    config = copy.deepcopy(model.config)
    config.num_labels = 1
    value = LlamaForSequenceClassification(config)
    value.model.load_state_dict(model.model.state_dict())
    torch.nn.init.zeros_(value.score.weight)
    return value


@pytest.fixture
def tiny() -> Callable[..., Any]:
    return tiny_model


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., tuple[PPOContext, StepContext]]:
    """Make a setting and a run: `make(kind="head", iterations=5, …)`."""
    made = iter(range(1000))

    def make(
        *,
        seed: int = 0,
        folder: str | None = None,
        parts: dict[str, Any] | None = None,
        **more: Any,
    ) -> tuple[PPOContext, StepContext]:
        run = run_in(tmp_path / (folder or str(next(made))), seed=seed)
        return whole_setting(options(**more), run, **(parts or {})), run

    return make

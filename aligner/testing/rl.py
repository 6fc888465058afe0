"""Tiny models and reward functions for the tests of a stage on the RL engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from aligner.models.language_model import LanguageModel, split_language_model
from aligner.models.policy import prepare_policy
from aligner.models.reference import reference_of
from aligner.registry import Completion, Registry, RewardFunction
from aligner.rl.algorithm import Algorithm
from aligner.rl.context import RLContext
from aligner.rl.processes import ProcessGroup
from aligner.rl.prompts import RLPrompt
from aligner.rl.run import make_context
from aligner.rl.value import ValueFunction
from aligner.stage import Plan, StepContext
from aligner.state import ModelCache
from aligner.train.scoring import RewardSource

CPU = torch.device("cpu")
SMALL: dict[str, Any] = {
    "data": "none.jsonl",
    "rewards": ["table"],
    "iterations": 3,
    "prompts": 4,
    "num_generations": 4,
    "num_mini_batches": 2,
    "per_device_train_batch_size": 3,
    "max_new_tokens": 8,
    "learning_rate": 1e-3,
    "precision": "fp32",
}
"""Options for `tiny_rl`, which never reads the data."""
PROMPTS = ((1, 5, 6), (1, 7), (1, 2, 9, 10, 11), (1, 4, 5, 6, 7, 8, 9), (1, 12, 13))


def tiny_llama(
    *, seed: int = 0, vocab: int = 32, layers: int = 2, width: int = 32, **more: Any
) -> Any:
    """Make a Llama of about 20,000 random parameters whose padding token is its stop token."""
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
    return LlamaForCausalLM(config).eval()  # type: ignore[no-untyped-call]


def word_tokenizer(vocab: int = 32) -> PreTrainedTokenizerFast:
    """Make a tokenizer whose token 7 is the word `w7`; 0, 1 and 2 are special."""
    names = ["<pad>", "<s>", "</s>", *(f"w{i}" for i in range(3, vocab))]
    backend = Tokenizer(models.WordLevel({name: i for i, name in enumerate(names)}, "<pad>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=backend, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )


class TableReward(RewardFunction):
    """Sum of a fixed reward for each word of a response."""

    name: ClassVar[str] = "table"

    def __init__(self, table: dict[str, float]) -> None:
        super().__init__()
        self.table = table

    def score(self, completions: Sequence[Completion]) -> list[float]:
        return [sum(self.table.get(word, 0.0) for word in c.text.split()) for c in completions]


def step_context(folder: Path, *, seed: int = 0, **more: Any) -> StepContext:
    """Make the context of a step that writes into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    return StepContext(
        step="online",
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


def tiny_rl(
    algorithm: Algorithm[Any],
    context: StepContext,
    *,
    model: Any = None,
    value: Callable[[Any, LanguageModel], ValueFunction] | None = None,
    table: dict[str, float] | None = None,
    scorer: Any = None,
    prompts: Sequence[Sequence[int]] = PROMPTS,
    stops: Sequence[int] = (2, 3),
    processes: ProcessGroup | None = None,
) -> RLContext:
    """Make the parts of an online step from a tiny model, with nothing read from folders.

    Args:
        algorithm: With options such as `SMALL`.
        context: From `step_context`.
        model: The policy; by default `tiny_llama`.
        value: Makes the value function from the policy and its trunk and head.
        table: Reward of each word.
        scorer: Reward function in place of the table.
        prompts: Token ids.
        stops: Stop tokens.
        processes: By default this process alone.
    """
    model = tiny_llama() if model is None else model
    vocab = model.config.vocab_size
    prepared = prepare_policy(
        model, None, options=algorithm.options, step="online", seed=context.seed
    )
    parts = split_language_model(prepared.model)
    reference = reference_of(prepared)
    scorer = TableReward(table or {"w5": 1.0}) if scorer is None else scorer
    return make_context(
        algorithm,
        context,
        policy=prepared.model,
        parts=parts,
        reference=reference,
        value=None if value is None else value(prepared.model, parts),
        prompts=[
            RLPrompt(tokens=tuple(p), messages=({"role": "user", "content": str(p)},), row={})
            for p in prompts
        ],
        held_out=[],
        sources=[RewardSource(name="table", weight=1.0, scorer=scorer)],
        tokenizer=word_tokenizer(vocab),
        stops=stops,
        processes=processes or ProcessGroup(rank=0, world_size=1, device=CPU),
    )

"""A tiny model with a tokenizer, data of every kind, and a way to run a recipe on them."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
from pydantic import Field
from transformers import LlamaConfig, LlamaForCausalLM

import aligner
import aligner_curation
import aligner_evaluate
import aligner_sft
from aligner import chain
from aligner.data.encoding.tokenizers import (
    load_tokenizer,
    planned_tokenizer,
    save_tokenizer,
    train_tokenizer,
)
from aligner.host import Host, host_of
from aligner.models.load import load_model
from aligner.models.model_info import planned_model, reward_info, with_vocabulary
from aligner.models.reward import make_reward
from aligner.models.save import save_model
from aligner.models.tokens import resize_embeddings
from aligner.recipe import read_recipe
from aligner.registry import Completion, ExtensionOptions, RewardFunction
from aligner.stage import Plan, PlanContext, SlotForecast, Stage, StageOptions, StepContext
from aligner.state import ModelCache, ModelState

ROLES = ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>")
TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>{% if m.role == 'assistant' %}{% generation %}"
    "{{ m.content }}<|end|>{% endgeneration %}{% else %}{{ m.content }}<|end|>{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
WORDS = ("red", "green", "blue", "one", "two", "three", "cat", "dog", "sun", "moon")


def conversation(number: int) -> dict[str, Any]:
    asked = f"say {WORDS[number % 10]} {WORDS[number * 3 % 7]}"
    return {
        "messages": [
            {"role": "user", "content": asked},
            {"role": "assistant", "content": asked.removeprefix("say ")},
        ]
    }


def pair(number: int) -> dict[str, Any]:
    asked, output = conversation(number)["messages"]
    return {
        "prompt": [asked],
        "chosen": [output],
        "rejected": [{"role": "assistant", "content": WORDS[(number + 1) % 10]}],
    }


def prompt(number: int) -> dict[str, Any]:
    asked, output = conversation(number)["messages"]
    return {"prompt": [asked], "answer": output["content"]}


def lines(path: Path, rows: Iterable[Any]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


class CountConfig(ExtensionOptions):
    """Options of the judge of these tests."""

    letter: str = Field("e", max_length=1)
    """What is counted."""


class Count(RewardFunction):
    """Counts a letter; takes one off for an answer that did not end."""

    name: ClassVar[str] = "count"
    Options: ClassVar[type[ExtensionOptions]] = CountConfig
    config: CountConfig

    def score(self, completions: Sequence[Completion]) -> list[float]:
        return [item.text.count(self.options.letter) - (not item.ended) for item in completions]


class Broken(RewardFunction):
    """Gives no number."""

    name: ClassVar[str] = "broken"

    def score(self, completions: Sequence[Completion]) -> list[float]:
        return [float("nan") for _ in completions]


class ShakeConfig(StageOptions):
    """Options of the stage `shake`."""

    by: float = 0.05
    """Deviation of the noise."""
    blow_up: bool = False
    """Leave weights so large that nothing can be computed with them."""
    template: bool = True
    """Whether the tokenizer has a chat template afterwards."""
    words: tuple[str, ...] = ()
    """Tokens that the tokenizer is given."""


class Shake(Stage[ShakeConfig]):
    """Adds noise to the policy: a step that trains, as far as others can see."""

    name = "shake"
    requires = frozenset({"policy", "tokenizer"})
    provides = frozenset({"policy", "tokenizer"})

    def plan(self, context: PlanContext) -> Plan:
        tokenizer = self._tokenizer(planned_tokenizer(context))
        facts = with_vocabulary(planned_model(context, "policy"), len(tokenizer))
        return Plan(
            summary="shakes",
            slots={
                "policy": SlotForecast(made_by=context.step, facts={"model": facts}),
                "tokenizer": SlotForecast(made_by=context.step, facts={"tokenizer": tokenizer}),
            },
        )

    def run(self, state: ModelState, context: StepContext) -> ModelState:
        model = load_model(state.get("policy"), context.model_cache, trainable=True)
        tokenizer = self._tokenizer(load_tokenizer(state.get("tokenizer"), context.model_cache))
        resize_embeddings(model, tokenizer)
        generator = torch.Generator().manual_seed(len(context.step))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += self.options.by * torch.randn(parameter.shape, generator=generator)
            if self.options.blow_up:
                model.get_output_embeddings().weight.fill_(3e38)
        return state.put(
            context.step,
            policy=save_model(model, context.folder / "policy", model_cache=context.model_cache),
            tokenizer=save_tokenizer(tokenizer, context.folder / "tokenizer"),
        )

    def _tokenizer(self, tokenizer: Any) -> Any:
        made = copy.deepcopy(tokenizer)
        made.add_tokens(list(self.options.words))
        made.chat_template = TEMPLATE if self.options.template else None
        return made


class RewardOf(Stage[StageOptions]):
    """Puts a head of random weights on the policy."""

    name = "head"
    requires = frozenset({"policy", "tokenizer"})
    provides = frozenset({"reward"})

    def plan(self, context: PlanContext) -> Plan:
        facts = reward_info(planned_model(context, "policy"))
        return Plan(
            summary="scores",
            slots={"reward": SlotForecast(made_by=context.step, facts={"model": facts})},
        )

    def run(self, state: ModelState, context: StepContext) -> ModelState:
        pad = load_tokenizer(state.get("tokenizer"), context.model_cache).pad_token_id
        model = make_reward(state.get("policy"), context.model_cache, seed=context.seed, pad=pad)
        return state.put(
            context.step,
            reward=save_model(model, context.folder / "reward", model_cache=context.model_cache),
        )


class Helpers:
    @aligner.hookimpl
    def aligner_stages(self) -> Iterable[type[Stage[Any]]]:
        return Shake, RewardOf

    @aligner.hookimpl
    def aligner_reward_functions(self) -> Iterable[type[RewardFunction]]:
        return Count, Broken


@pytest.fixture
def host() -> Host:
    return host_of([aligner_curation, aligner_evaluate, aligner_sft, Helpers()])


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    tokenizer = train_tokenizer(
        (str(conversation(n)) for n in range(40)), 300, special=ROLES, max_length=64
    )
    tokenizer.chat_template = TEMPLATE
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=64,
            initializer_range=0.3,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def desk(tmp_path: Path, model_folder: Path) -> Path:
    """A recipe's folder with data beside it."""
    (tmp_path / "model").symlink_to(model_folder)
    lines(tmp_path / "conversations.jsonl", map(conversation, range(12)))
    lines(tmp_path / "prompts.jsonl", map(prompt, range(20, 29)))
    lines(tmp_path / "pairs.jsonl", map(pair, range(30, 40)))
    (tmp_path / "text.txt").write_text("one two three red\n\nsun moon cat dog\n\nblue\n")
    return tmp_path


@pytest.fixture
def check(desk: Path, host: Host) -> Callable[[str], chain.CheckedChain]:
    def look(steps: str, *, head: str = "model: model\nseed: 3\n") -> chain.CheckedChain:
        path = desk / "mine.yaml"
        path.write_text(f"{head}steps:\n{steps}")
        return chain.check(chain.link(read_recipe(path), host), host)

    return look


@pytest.fixture
def go(check: Callable[..., chain.CheckedChain], desk: Path, host: Host) -> Callable[..., Any]:
    """Check and run steps; gives the outcome with the metrics of each step, and the events."""

    def run(steps: str, *, runs: str = "runs", **more: Any) -> SimpleNamespace:
        events: list[Any] = []
        outcome = chain.run(
            check(steps, **more),
            host,
            runs=desk / runs,
            model_cache=ModelCache(),
            on_event=events.append,
        )
        return SimpleNamespace(
            outcome=outcome, events=events, **{item.step: item.metrics for item in outcome.steps}
        )

    return run

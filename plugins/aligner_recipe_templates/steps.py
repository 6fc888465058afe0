"""One step of an outline: its text, filled in with what suits the model and the data."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from string import Template

from aligner.registry import DatasetSummary, TemplateInputs

TOKENS_AT_ONCE = 8192
"""Tokens of a batch that fit on common devices beside a small model."""
UNKNOWN_LENGTH = 1024
MARKS: Mapping[str, str] = {
    "<|start_header_id|>": "llama-3",
    "<start_of_turn>": "gemma",
    "<|im_start|>": "chatml",
}
"""Special tokens by which a base model shows the template it was prepared for."""


@dataclass(frozen=True, kw_only=True)
class StepTemplate:
    """A stage's place in outlines."""

    stage: str
    data: str | None = None
    """Which of the outline's data it reads; without it the step is left out."""
    full: float = 0.0
    """Learning rate for all weights."""
    low_rank: float = 0.0
    """Learning rate for an adapter."""
    together: int = 16
    """Rows an optimizer step, where there are enough."""
    pairs: bool = False
    policy: bool = True
    """Whether it trains the policy itself; else a copy, into which adapters are merged."""

    def leaves_adapter(self, material: TemplateInputs) -> bool:
        return self.policy and self.data is not None and material.adapter != "none"

    def text(self, material: TemplateInputs, *, after_adapter: bool) -> str:
        part = (
            files("aligner_recipe_templates")
            .joinpath("parts", f"{self.stage}.yaml")
            .read_text("utf-8")
        )
        words = self._words(material, after_adapter) if self.data else _chat(material)
        return Template(part).substitute(words)

    def _words(self, material: TemplateInputs, after_adapter: bool) -> dict[str, str]:
        assert self.data is not None
        data = material.data[self.data]
        longest, why = _length(data, material)
        at_once = _power_below(TOKENS_AT_ONCE // longest // (2 if self.pairs else 1), 8)
        together = self.together if data.rows is None else min(
            self.together, _power_below(max(4, data.rows // 20), self.together)
        )  # fmt: skip
        at_once = min(at_once, together)
        answer = min(256, max(16, longest // 2))
        prompt = longest
        if material.positions is not None:
            prompt = min(longest, max(16, material.positions - answer))
        adapter = material.adapter != "none"
        rate = self.low_rank if adapter else self.full
        epochs, epochs_why = _epochs(data)
        return {
            "data": data.spec,
            "seen": "the rows were not looked at" if data.rows is None else f"{data.rows} rows",
            "hold_out": _hold_out(data),
            "max_length": str(longest),
            "length_why": why,
            "overflow": _overflow(data, longest),
            "adapter": _adapter(material, self, after_adapter),
            "num_train_epochs": str(epochs),
            "epochs_why": epochs_why,
            "per_device_train_batch_size": str(at_once),
            "gradient_accumulation_steps": str(together // at_once),
            "together": str(together),
            "learning_rate": f"{rate:g}",
            "rate_why": "adapters want ten times what full weights do" if adapter
            else "for full weights; an adapter wants ten times as much",
            "prompts": str(min(64, _power_below(data.rows or 64, 64))),
            "max_new_tokens": str(answer),
            "prompt_length": str(prompt),
            "prompt_overflow": _overflow(data, prompt),
        }  # fmt: skip


STEPS: Mapping[str, StepTemplate] = {
    step.stage: step
    for step in (
        StepTemplate(stage="chat"),
        StepTemplate(stage="pretrain", data="data", full=5e-5, low_rank=2e-4, together=32),
        StepTemplate(stage="sft", data="data", full=2e-5, low_rank=2e-4),
        StepTemplate(
            stage="reward", data="preferences", full=1e-5, low_rank=1e-4, pairs=True, policy=False
        ),
        StepTemplate(stage="dpo", data="preferences", full=5e-7, low_rank=5e-6, pairs=True),
        StepTemplate(stage="ppo", data="preferences", full=1e-6, low_rank=1e-5),
    )
}


def head(about: str, material: TemplateInputs) -> str:
    part = files("aligner_recipe_templates").joinpath("parts", "head.yaml").read_text("utf-8")
    return Template(part).substitute(
        about=about, model=json.dumps(material.model, ensure_ascii=False)
    )


def evaluated(steps: Sequence[StepTemplate]) -> str:
    """How to measure what came of it, commented out: nothing is known of prompts or judges."""
    if not any(step.stage == "chat" for step in steps):
        return ""
    part = files("aligner_recipe_templates").joinpath("parts", "evaluate.yaml").read_text("utf-8")
    return Template(part).substitute(first="chat")


def _chat(material: TemplateInputs) -> dict[str, str]:
    marked = next((name for mark, name in MARKS.items() if mark in material.special), None)
    if material.template:
        return {"template": "own", "template_why": "the tokenizer has one"}
    if marked is not None:
        return {"template": marked, "template_why": "the tokenizer has its tokens, and no template"}
    if material.template is None and _looks_tuned(material.model):
        why = "going by the model's name: its tokenizer could not be looked at"
        return {"template": "own", "template_why": why}
    if material.adapter != "none":
        why = (
            "the tokenizer has none; this one needs no new tokens, which an adapter would not train"
        )
        return {"template": "zephyr", "template_why": why}
    return {"template": "chatml", "template_why": "the tokenizer has none"}


def _looks_tuned(model: str) -> bool:
    name = model.rsplit("/", 1)[-1].lower()
    return any(word in name.replace("_", "-").split("-") for word in ("instruct", "chat", "it"))


def _length(data: DatasetSummary, material: TemplateInputs) -> tuple[int, str]:
    limit = material.positions
    if data.longest is None:
        return min(UNKNOWN_LENGTH, limit or UNKNOWN_LENGTH), "tokens; lengths were not looked at"
    wanted = max(64, -(-data.longest // 64) * 64)
    if limit is not None and wanted > limit:
        fit = "not all rows fit" if data.longest > limit else "nearly all rows fit"
        return limit, f"tokens: all that the model takes; {fit}"
    return wanted, "tokens: nearly all rows fit"


def _overflow(data: DatasetSummary, longest: int) -> str:
    """How longer rows are treated, where many are longer."""
    if data.longest is None or data.longest <= longest:
        return (
            "    # overflow: turns # leave out the oldest turns of longer rows, not the whole row"
        )
    return (
        "    overflow: turns # leave out the oldest turns of longer rows\n"
        "    limits: {cut: 1.0, dropped: 1.0} # many are longer: the ledger says how many"
    )


def _hold_out(data: DatasetSummary) -> str:
    rows = data.rows
    if rows is not None and rows < 50:
        return "    # hold_out: 0.1 # too few rows to keep any back to measure on"
    share = 0.05 if rows is None else 0.1 if rows < 500 else 0.05 if rows < 20_000 else 0.01
    return f"    hold_out: {share} # kept back to measure on; never the same prompt on both sides"


def _epochs(data: DatasetSummary) -> tuple[int, str]:
    if data.rows is None or data.rows >= 20_000:
        return 1, "passes over the rows"
    return (3, "few rows want several passes") if data.rows < 5_000 else (2, "passes over the rows")


def _adapter(material: TemplateInputs, step: StepTemplate, after_adapter: bool) -> str:
    lines = []
    new = "    adapter: {method: lora, r: 16, lora_alpha: 32} # trained in place of the whole model"
    if material.adapter == "none":
        return "    # adapter: {method: lora, r: 16, lora_alpha: 32} # train this in place of the whole model"
    if material.adapter == "qlora":
        lines.append(
            "    quantize: nf4 # the weights below the adapter in 4 bits; needs aligner[quantize]"
        )
    if after_adapter and step.policy:
        lines.append("    incoming: continue # train the adapter of the step before further")
        lines.append(
            "    # incoming: stack # or leave that one on, frozen, below a new one (say which: adapter)"
        )
    else:
        lines.append(new)
        lines.append("    # adapter: {method: dora, r: 16, lora_alpha: 32} # or rslora")
    return "\n".join(lines)


def _power_below(number: int, most: int) -> int:
    """The largest power of two up to `number`, from 1 to `most`."""
    power = 1
    while power * 2 <= min(number, most):
        power *= 2
    return power

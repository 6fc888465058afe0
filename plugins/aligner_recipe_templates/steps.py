"""Steps of a recipe template, rendered with values that fit the model and the data."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from string import Template

from aligner import DatasetSummary, TemplateInputs

TOKENS_PER_BATCH = 8192
"""Tokens of a batch that fit into the memory of common devices beside a small model."""
UNKNOWN_LENGTH = 1024
TEMPLATE_TOKENS: Mapping[str, str] = {
    "<|start_header_id|>": "llama-3",
    "<start_of_turn>": "gemma",
    "<|im_start|>": "chatml",
}
"""Special tokens that identify the chat template a base model was prepared for."""


@dataclass(frozen=True, kw_only=True)
class StepTemplate:
    """Defaults of a stage in recipe templates."""

    stage: str
    data: str | None = None
    """Name of the data that the step reads; the step is omitted where it is not given."""
    full_rate: float = 0.0
    """Learning rate for training all weights."""
    adapter_rate: float = 0.0
    """Learning rate for training an adapter."""
    global_batch_size: int = 16
    """Rows of an optimizer step, if there are enough rows."""
    pairs: bool = False
    policy: bool = True
    """True if the step trains the policy itself; else it trains a copy with merged adapters."""

    def adds_adapter(self, inputs: TemplateInputs) -> bool:
        return self.policy and self.data is not None and inputs.adapter != "none"

    def text(self, inputs: TemplateInputs, *, after_adapter: bool) -> str:
        part = (
            files("aligner_recipe_templates")
            .joinpath("parts", f"{self.stage}.yaml")
            .read_text("utf-8")
        )
        values = self._values(inputs, after_adapter) if self.data else _chat(inputs)
        return Template(part).substitute(values)

    def _values(self, inputs: TemplateInputs, after_adapter: bool) -> dict[str, str]:
        assert self.data is not None
        data = inputs.data[self.data]
        longest, why = _length(data, inputs)
        batch_size = _power_below(TOKENS_PER_BATCH // longest // (2 if self.pairs else 1), 8)
        global_batch = self.global_batch_size if data.rows is None else min(
            self.global_batch_size, _power_below(max(4, data.rows // 20), self.global_batch_size)
        )  # fmt: skip
        batch_size = min(batch_size, global_batch)
        answer = min(256, max(16, longest // 2))
        prompt = longest
        if inputs.positions is not None:
            prompt = min(longest, max(16, inputs.positions - answer))
        adapter = inputs.adapter != "none"
        rate = self.adapter_rate if adapter else self.full_rate
        epochs, epochs_why = _epochs(data)
        return {
            "data": data.spec,
            "seen": "the rows were not read" if data.rows is None else f"{data.rows} rows",
            "hold_out": _hold_out(data),
            "max_length": str(longest),
            "length_why": why,
            "overflow": _overflow(data, longest),
            "adapter": _adapter(inputs, self, after_adapter),
            "num_train_epochs": str(epochs),
            "epochs_why": epochs_why,
            "per_device_train_batch_size": str(batch_size),
            "gradient_accumulation_steps": str(global_batch // batch_size),
            "global_batch": str(global_batch),
            "learning_rate": f"{rate:g}",
            "rate_why": "adapters need about ten times the rate of full weights" if adapter
            else "for full weights; an adapter needs about ten times as much",
            "prompts": str(min(64, _power_below(data.rows or 64, 64))),
            "max_new_tokens": str(answer),
            "prompt_length": str(prompt),
            "prompt_overflow": _overflow(data, prompt),
        }  # fmt: skip


STEPS: Mapping[str, StepTemplate] = {
    step.stage: step
    for step in (
        StepTemplate(stage="chat"),
        StepTemplate(
            stage="pretrain",
            data="data",
            full_rate=5e-5,
            adapter_rate=2e-4,
            global_batch_size=32,
        ),
        StepTemplate(stage="sft", data="data", full_rate=2e-5, adapter_rate=2e-4),
        StepTemplate(
            stage="reward",
            data="preferences",
            full_rate=1e-5,
            adapter_rate=1e-4,
            pairs=True,
            policy=False,
        ),
        StepTemplate(
            stage="dpo",
            data="preferences",
            full_rate=5e-7,
            adapter_rate=5e-6,
            pairs=True,
        ),
        StepTemplate(stage="ppo", data="preferences", full_rate=1e-6, adapter_rate=1e-5),
    )
}


def head(about: str, inputs: TemplateInputs) -> str:
    part = files("aligner_recipe_templates").joinpath("parts", "head.yaml").read_text("utf-8")
    return Template(part).substitute(
        about=about, model=json.dumps(inputs.model, ensure_ascii=False)
    )


def evaluation(steps: Sequence[StepTemplate]) -> str:
    """Render an evaluate step as a comment, since prompts and judge are unknown."""
    if not any(step.stage == "chat" for step in steps):
        return ""
    part = files("aligner_recipe_templates").joinpath("parts", "evaluate.yaml").read_text("utf-8")
    return Template(part).substitute(first="chat")


def _chat(inputs: TemplateInputs) -> dict[str, str]:
    known = next((name for mark, name in TEMPLATE_TOKENS.items() if mark in inputs.special), None)
    if inputs.template:
        return {"template": "own", "template_why": "the tokenizer has one"}
    if known is not None:
        return {
            "template": known,
            "template_why": "the tokenizer has its special tokens but no template",
        }
    if inputs.template is None and _looks_tuned(inputs.model):
        why = "a guess from the model's name, as its tokenizer could not be read"
        return {"template": "own", "template_why": why}
    if inputs.adapter != "none":
        why = "the tokenizer has none; this one adds no tokens, which an adapter would not train"
        return {"template": "zephyr", "template_why": why}
    return {"template": "chatml", "template_why": "the tokenizer has none"}


def _looks_tuned(model: str) -> bool:
    name = model.rsplit("/", 1)[-1].lower()
    return any(word in name.replace("_", "-").split("-") for word in ("instruct", "chat", "it"))


def _length(data: DatasetSummary, inputs: TemplateInputs) -> tuple[int, str]:
    limit = inputs.positions
    if data.longest is None:
        return min(
            UNKNOWN_LENGTH, limit or UNKNOWN_LENGTH
        ), "tokens; the lengths of the rows are unknown"
    wanted = max(64, -(-data.longest // 64) * 64)
    if limit is not None and wanted > limit:
        fit = "some rows are longer" if data.longest > limit else "nearly all rows fit"
        return limit, f"tokens, the maximum of the model; {fit}"
    return wanted, "tokens; nearly all rows fit"


def _overflow(data: DatasetSummary, longest: int) -> str:
    """Render the option for rows beyond the maximum length."""
    if data.longest is None or data.longest <= longest:
        return (
            "    # overflow: turns # drop the oldest turns of longer rows instead of the whole row"
        )
    return (
        "    overflow: turns # drop the oldest turns of longer rows\n"
        "    limits: {truncated: 1.0, dropped: 1.0} # many rows are longer; the ledger counts them"
    )


def _hold_out(data: DatasetSummary) -> str:
    rows = data.rows
    if rows is not None and rows < 50:
        return "    # hold_out: 0.1 # share of rows for evaluation; here there are too few rows"
    share = 0.05 if rows is None else 0.1 if rows < 500 else 0.05 if rows < 20_000 else 0.01
    return f"    hold_out: {share} # share of rows for evaluation; a prompt is never in both splits"


def _epochs(data: DatasetSummary) -> tuple[int, str]:
    if data.rows is None or data.rows >= 20_000:
        return 1, "passes over the rows"
    return (
        (3, "several passes, as there are few rows")
        if data.rows < 5_000
        else (2, "passes over the rows")
    )


def _adapter(inputs: TemplateInputs, step: StepTemplate, after_adapter: bool) -> str:
    lines = []
    new = (
        "    adapter: {method: lora, r: 16, lora_alpha: 32} # train an adapter, not the whole model"
    )
    if inputs.adapter == "none":
        return "    # adapter: {method: lora, r: 16, lora_alpha: 32} # train an adapter, not the whole model"
    if inputs.adapter == "qlora":
        lines.append(
            "    quantize: nf4 # load the frozen weights in 4 bits; needs aligner[quantize]"
        )
    if after_adapter and step.policy:
        lines.append("    incoming: continue # continue training the adapter of the previous step")
        lines.append(
            "    # incoming: stack # or keep it frozen below a new one, which `adapter` describes"
        )
    else:
        lines.append(new)
        lines.append("    # adapter: {method: dora, r: 16, lora_alpha: 32} # or rslora")
    return "\n".join(lines)


def _power_below(number: int, most: int) -> int:
    """Return the largest power of two up to `number`, from 1 to `most`."""
    power = 1
    while power * 2 <= min(number, most):
        power *= 2
    return power

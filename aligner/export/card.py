"""Write the model card: usage, training steps, verification and versions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.metadata import version
from typing import Any

import yaml

from aligner.export.lineage import DatasetRecord, Lineage, LineageStep
from aligner.export.options import ExportOptions
from aligner.export.result import Verification
from aligner.terminal.text import (
    format_duration,
    format_number,
    hide_secrets,
    one_line,
    sanitize,
)


def model_card(
    lineage: Lineage,
    options: ExportOptions,
    verification: Verification,
    *,
    name: str,
    dtype: str,
    base: str | None,
    template: bool,
) -> str:
    """Return the text of `README.md` with its YAML front matter.

    Args:
        lineage: History of the model.
        options: Options of the export.
        verification: Comparison with the run's model.
        name: Name of the model.
        dtype: Data type of whole weights.
        base: Base model of an adapter; None for whole weights.
        template: True if the tokenizer has a chat template.
    """
    parts = [
        f"# {_text(name)}",
        f"The {options.slot} of step `{_text(lineage.step)}` in run `{_text(lineage.run)}`: "
        f"{_form(options, dtype, base)}.",
        *_usage(options, template=template),
        "## Training",
        _base_model(lineage),
        _table(lineage),
        *map(_step, lineage.steps),
        "## Verification",
        "\n".join(f"- {line}" for line in verification.lines()),
        "## Versions",
        _versions(lineage),
    ]
    return f"{_front_matter(lineage, options, base)}\n" + "\n\n".join(parts) + "\n"


def _front_matter(lineage: Lineage, options: ExportOptions, base: str | None) -> str:
    reward = options.slot == "reward"
    stages = dict.fromkeys(step.stage for step in lineage.steps)
    values: dict[str, Any] = {"library_name": "peft" if base is not None else "transformers"}
    if lineage.base is not None:
        values["base_model"] = lineage.base
        values["base_model_relation"] = "adapter" if base is not None else "finetune"
    values["pipeline_tag"] = "text-classification" if reward else "text-generation"
    values["tags"] = ["aligner", *stages, *(["reward-model"] if reward else [])]
    for key in ("license", "license_name", "license_link"):
        if getattr(options, key) is not None:
            values[key] = getattr(options, key)
    if lineage.hub_datasets:
        values["datasets"] = list(lineage.hub_datasets)
    return f"---\n{_yaml(values)}---\n"


def _form(options: ExportOptions, dtype: str, base: str | None) -> str:
    if base is None:
        return f"whole weights in {dtype}"
    local = "" if "/" in base and not base.startswith("/") else ", a local folder"
    return f"a LoRA adapter on `{_text(base)}`{local}"


def _usage(options: ExportOptions, *, template: bool) -> list[str]:
    if options.slot == "reward":
        kind, last = "AutoModelForSequenceClassification", "model(**inputs).logits"
        library, more = "transformers", ", AutoTokenizer"
    elif options.form == "adapter":
        kind, library, more = "AutoPeftModelForCausalLM", "peft", ""
        last = (
            "settings = GenerationConfig.from_pretrained(folder)\n"
            "answer = model.generate(**inputs, generation_config=settings, max_new_tokens=256)"
        )
    else:
        kind, library, more = "AutoModelForCausalLM", "transformers", ", AutoTokenizer"
        last = "answer = model.generate(**inputs, max_new_tokens=256)"
    lines = [f"from {library} import {kind}{more}"]
    if library == "peft":
        lines.append("from transformers import AutoTokenizer, GenerationConfig")
    lines += [
        "",
        'folder = "…"  # the folder of this card, or its Hub id',
        "tokenizer = AutoTokenizer.from_pretrained(folder)",
        f"model = {kind}.from_pretrained(folder)",
    ]
    if template:
        answer = ' + [{"role": "assistant", "content": "…"}]' if options.slot == "reward" else ""
        prompt = "" if options.slot == "reward" else "add_generation_prompt=True, "
        lines += [
            f'messages = [{{"role": "user", "content": "…"}}]{answer}',
            f'inputs = tokenizer.apply_chat_template(messages, {prompt}return_tensors="pt")',
        ]
    else:
        lines.append('inputs = tokenizer("…", return_tensors="pt")')
    code = "\n".join(["```python", *lines, last, "```"])
    return ["## Usage", code]


def _base_model(lineage: Lineage) -> str:
    if lineage.base is None:
        return "A chain of steps; each step trains the model of the step before:"
    revision = f" at `{lineage.base_revision}`" if lineage.base_revision else ""
    return (
        f"A chain of steps from `{lineage.base}`{revision}; each step trains the model of the step "
        "before:"
    )


def _table(lineage: Lineage) -> str:
    rows = ["| step | stage | metrics | time |", "|---|---|---|---|"]
    for step in lineage.steps:
        metrics = ", ".join(f"{_text(n)} {format_number(v)}" for n, v in step.metrics.items())
        cells = (f"{step.number} {_text(step.name)}", _text(step.stage), metrics)
        rows.append(f"| {' | '.join(cells)} | {format_duration(step.seconds)} |")
    return "\n".join(rows)


def _step(step: LineageStep) -> str:
    lines = [f"### {step.number} {_text(step.name)}", ""]
    seed = "" if step.seed is None else f", seed {step.seed}"
    lines.append(f"- stage `{_text(step.stage)}` of {_text(step.plugin)}{seed}")
    lines += [f"- input: {', '.join(step.inputs)}"] if step.inputs else []
    lines += [f"- output: {', '.join(step.outputs)}"] if step.outputs else []
    for dataset in step.data:
        lines.append(f"- {_text(dataset.option)}: {_dataset(dataset)}")
    lines.append(f"- fingerprint `{step.fingerprint}`")
    options = _yaml(step.options).rstrip()
    lines += ["", "<details><summary>Options</summary>", "", "```yaml", options, "```", ""]
    return "\n".join([*lines, "</details>"])


def _dataset(dataset: DatasetRecord) -> str:
    parts = [f"`{_text(dataset.name)}`", *_counts(dataset.ledger), f"SHA-256 `{dataset.hash}`"]
    return ", ".join(parts)


def _counts(ledger: Mapping[str, Any]) -> Iterator[str]:
    if not ledger:
        return
    yield f"{ledger.get('used', 0):,} of {ledger.get('read', 0):,} rows used"
    for kind in ("dropped", "skipped"):
        for reason, count in ledger.get(kind, {}).items():
            yield f"{count['rows']:,} {kind} ({_text(reason)})"
    if ledger.get("tokens"):
        yield f"{ledger['tokens']:,} tokens, {ledger['trained']:,} trained"


def _versions(lineage: Lineage) -> str:
    versions = {"aligner": version("aligner"), **lineage.versions}
    return ", ".join(f"{name} {number}" for name, number in versions.items() if number != "absent")


def _yaml(value: Any) -> str:
    text: str = yaml.safe_dump(_plain(value), sort_keys=False, allow_unicode=True, width=100)
    return sanitize(text)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _text(text: str) -> str:
    """Return `text` on one line with Markdown and HTML characters escaped."""
    plain = one_line(hide_secrets(str(text)))
    return plain.replace("|", "\\|").replace("<", "&lt;").replace("`", "'")

"""Write the model card: what the model is, how to use it, and the whole chain that made it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.metadata import version
from typing import Any

import yaml

from aligner.export.lineage import DataSet, Lineage, LineageStep
from aligner.export.spec import Proof, Wanted
from aligner.terminal.text import duration, format_number, one_line, safe, without_secrets


def card(
    lineage: Lineage,
    wanted: Wanted,
    proof: Proof,
    *,
    name: str,
    dtype: str,
    base: str | None,
    template: bool,
) -> str:
    """The text of `README.md`, YAML front matter included.

    Args:
        lineage: The chain.
        wanted: What was asked for.
        proof: How the folder compares with the run's model.
        name: What to call the model.
        dtype: How its whole weights are held.
        base: What an adapter points to; None for whole weights.
        template: Whether the tokenizer has a chat template.
    """
    parts = [
        f"# {_text(name)}",
        f"The {wanted.slot} that step `{_text(lineage.plugin_version)}` of run `{_text(lineage.run)}` made: "
        f"{_form(wanted, dtype, base)}.",
        *_use(wanted, template=template),
        "## How it was made",
        _begun(lineage),
        _table(lineage),
        *(_step(link) for link in lineage.links),
        "## Proof",
        "\n".join(f"- {line}" for line in proof.lines()),
        "## Versions",
        _versions(lineage),
    ]
    return f"{_front(lineage, wanted, base)}\n" + "\n\n".join(parts) + "\n"


def _front(lineage: Lineage, wanted: Wanted, base: str | None) -> str:
    stages = dict.fromkeys(link.stage for link in lineage.links)
    facts: dict[str, Any] = {"library_name": "peft" if base is not None else "transformers"}
    if lineage.base is not None:
        facts["base_model"] = lineage.base
        facts["base_model_relation"] = "adapter" if base is not None else "finetune"
    facts["pipeline_tag"] = "text-generation" if wanted.slot == "policy" else "text-classification"
    facts["tags"] = ["aligner", *stages, *(["reward-model"] if wanted.slot == "reward" else [])]
    for key in ("license", "license_name", "license_link"):
        if getattr(wanted, key) is not None:
            facts[key] = getattr(wanted, key)
    if lineage.data_sets:
        facts["datasets"] = list(lineage.data_sets)
    return f"---\n{_yaml(facts)}---\n"


def _form(wanted: Wanted, dtype: str, base: str | None) -> str:
    if base is None:
        return f"whole weights in {dtype}"
    local = "" if "/" in base and not base.startswith("/") else ", a folder that must be there"
    return f"a LoRA adapter on `{_text(base)}`{local}"


def _use(wanted: Wanted, *, template: bool) -> list[str]:
    if wanted.slot == "reward":
        kind, last = "AutoModelForSequenceClassification", "model(**inputs).logits"
        library, more = "transformers", ", AutoTokenizer"
    elif wanted.form == "adapter":
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
        'folder = "…"  # where this card lies, or its name on the hub',
        "tokenizer = AutoTokenizer.from_pretrained(folder)",
        f"model = {kind}.from_pretrained(folder)",
    ]
    if template:
        said = ' + [{"role": "assistant", "content": "…"}]' if wanted.slot == "reward" else ""
        ask = "" if wanted.slot == "reward" else "add_generation_prompt=True, "
        lines += [
            f'messages = [{{"role": "user", "content": "…"}}]{said}',
            f'inputs = tokenizer.apply_chat_template(messages, {ask}return_tensors="pt")',
        ]
    else:
        lines.append('inputs = tokenizer("…", return_tensors="pt")')
    code = "\n".join(["```python", *lines, last, "```"])
    return ["## Use", code]


def _begun(lineage: Lineage) -> str:
    if lineage.base is None:
        return "A chain of steps, each on what the one before left:"
    at = f" at `{lineage.base_revision}`" if lineage.base_revision else ""
    return f"A chain of steps, begun with `{lineage.base}`{at}, each on what the one before left:"


def _table(lineage: Lineage) -> str:
    rows = ["| step | stage | metrics | time |", "|---|---|---|---|"]
    for link in lineage.links:
        shown = ", ".join(f"{_text(n)} {format_number(v)}" for n, v in link.metrics.items())
        cells = (f"{link.number} {_text(link.name)}", _text(link.stage), shown)
        rows.append(f"| {' | '.join(cells)} | {duration(link.seconds)} |")
    return "\n".join(rows)


def _step(link: LineageStep) -> str:
    lines = [f"### {link.number} {_text(link.name)}", ""]
    seed = "" if link.seed is None else f", seed {link.seed}"
    lines.append(f"- stage `{_text(link.stage)}` of {_text(link.plugin)}{seed}")
    lines += [f"- took: {', '.join(link.took)}"] if link.took else []
    lines += [f"- left: {', '.join(link.left)}"] if link.left else []
    for one in link.data:
        lines.append(f"- {_text(one.option)}: {_data(one)}")
    lines.append(f"- fingerprint `{link.fingerprint}`")
    options = _yaml(link.options).rstrip()
    lines += ["", "<details><summary>Options</summary>", "", "```yaml", options, "```", ""]
    return "\n".join([*lines, "</details>"])


def _data(one: DataSet) -> str:
    return ", ".join([f"`{_text(one.name)}`", *_counts(one.ledger), f"content `{one.hash}`"])


def _counts(ledger: Mapping[str, Any]) -> Iterator[str]:
    if not ledger:
        return
    yield f"{ledger.get('used', 0):,} of {ledger.get('read', 0):,} rows used"
    for what in ("dropped", "skipped"):
        for reason, count in ledger.get(what, {}).items():
            yield f"{count['rows']:,} {what} ({_text(reason)})"
    if ledger.get("tokens"):
        yield f"{ledger['tokens']:,} tokens, {ledger['trained']:,} trained"


def _versions(lineage: Lineage) -> str:
    found = {"aligner": version("aligner"), **lineage.versions}
    return ", ".join(f"{name} {number}" for name, number in found.items() if number != "absent")


def _yaml(value: Any) -> str:
    text: str = yaml.safe_dump(_plain(value), sort_keys=False, allow_unicode=True, width=100)
    return safe(text)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value


def _text(text: str) -> str:
    """`text` on one line, with nothing in it that Markdown would take for its own."""
    plain = one_line(without_secrets(str(text)))
    return plain.replace("|", "\\|").replace("<", "&lt;").replace("`", "'")

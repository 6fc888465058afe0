"""The model card that an export writes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import yaml

from aligner.run.folder import RunFolder
from aligner.terminal.text import format_duration, format_number

Aligner = Callable[..., tuple[int, str, str]]


def test_the_card_documents_the_whole_chain(
    aligner: Aligner, small_run: Path, tmp_path: Path
) -> None:
    to = tmp_path / "tiny"
    license = ("--license", "other", "--license-name", "mine", "--license-link", "https://a.b")
    aligner("export", "small", "--to", str(to), "--step", "dpo", *license)
    _, front, text = (to / "README.md").read_text().split("---\n", 2)
    assert yaml.safe_load(front) == {
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["aligner", "pretrain", "chat", "sft", "dpo"],
        "license": "other",
        "license_name": "mine",
        "license_link": "https://a.b",
    }
    lines = text.splitlines()
    assert [line for line in lines if line.startswith("#")] == [
        "# tiny", "## Usage", "## Training", "### 1 pretrain", "### 2 chat", "### 3 sft",
        "### 4 dpo", "## Verification", "## Versions",
    ]  # fmt: skip
    assert lines[3] == "The policy of step `dpo` in run `small`: whole weights in float32."
    steps = list(RunFolder(small_run / "runs" / "small").finished())[:4]
    for number, name, step in steps:
        metrics = ", ".join(f"{key} {format_number(value)}" for key, value in step.metrics.items())
        time = format_duration(step.seconds)
        assert f"| {number} {name} | {step.stage} | {metrics} | {time} |" in lines
        assert f"- fingerprint `{step.fingerprint}`" in lines
    sft, dpo = steps[2][2], steps[3][2]
    before, after = (step.state().policy.hash[:12] for step in (sft, dpo))
    tokenizer = dpo.state().tokenizer.hash[:12]
    inputs = f"policy of step `sft` (`{before}`), tokenizer of step `chat` (`{tokenizer}`)"
    assert f"- input: {inputs}" in lines
    assert f"- output: policy (`{after}`)" in lines
    [data] = [line for line in lines if "`pairs.jsonl`" in line]
    assert data.startswith("- data: `pairs.jsonl`, 16 of 16 rows used, ")
    assert data.endswith(f" trained, SHA-256 `{dpo.determinants['data']['data']}`")


def test_the_options_in_the_card_are_those_that_determined_the_step(
    aligner: Aligner, small_run: Path, tmp_path: Path
) -> None:
    aligner("export", "small", "--to", str(tmp_path / "tiny"), "--step", "dpo")
    text = (tmp_path / "tiny" / "README.md").read_text()
    shown = [yaml.safe_load(part.split("```")[0]) for part in text.split("```yaml\n")[1:]]
    steps = list(RunFolder(small_run / "runs" / "small").finished())[:4]
    assert shown == [dict(step.determinants["options"]) for _, _, step in steps]


def test_the_card_contains_no_local_paths(
    aligner: Aligner, small_run: Path, tmp_path: Path
) -> None:
    aligner("export", "small", "--to", str(tmp_path / "tiny"))
    assert str(small_run) not in (tmp_path / "tiny" / "README.md").read_text()


def test_the_code_in_the_card_runs(aligner: Aligner, tmp_path: Path) -> None:
    forms = {"merged": (), "adapter": ("--adapter",), "reward": ("--slot", "reward")}
    for name, words in forms.items():
        aligner("export", "small", "--to", str(tmp_path / name), *words)
        text = (tmp_path / name / "README.md").read_text()
        code = text.split("```python\n")[1].split("```")[0]
        code = code.replace('folder = "…"', f"folder = {str(tmp_path / name)!r}")
        exec(code.replace("max_new_tokens=256", "max_new_tokens=2"), {})

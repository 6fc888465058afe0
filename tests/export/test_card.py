"""The model card that an export writes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import yaml

from aligner.run.folder import RunFolder
from aligner.terminal.text import duration, format_number

Aligner = Callable[..., tuple[int, str, str]]


def test_the_card_tells_the_whole_chain(aligner: Aligner, small_run: Path, tmp_path: Path) -> None:
    to = tmp_path / "tiny"
    licence = ("--license", "other", "--license-name", "mine", "--license-link", "https://a.b")
    aligner("export", "small", "--to", str(to), "--step", "dpo", *licence)
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
        "# tiny", "## Use", "## How it was made", "### 1 pretrain", "### 2 chat", "### 3 sft",
        "### 4 dpo", "## Proof", "## Versions",
    ]  # fmt: skip
    assert lines[3] == ("The policy that step `dpo` of run `small` made: whole weights in float32.")
    steps = list(RunFolder(small_run / "runs" / "small").finished())[:4]
    for number, name, one in steps:
        shown = ", ".join(f"{key} {format_number(value)}" for key, value in one.metrics.items())
        assert f"| {number} {name} | {one.stage} | {shown} | {duration(one.seconds)} |" in lines
        assert f"- fingerprint `{one.fingerprint}`" in lines
    sft, dpo = steps[2][2], steps[3][2]
    before, after = (one.state().policy.hash[:12] for one in (sft, dpo))
    words = dpo.state().tokenizer.hash[:12]
    assert (
        f"- took: policy of step `sft` (`{before}`), tokenizer of step `chat` (`{words}`)" in lines
    )
    assert f"- left: policy (`{after}`)" in lines
    [data] = [line for line in lines if "`pairs.jsonl`" in line]
    assert data.startswith("- data: `pairs.jsonl`, 16 of 16 rows used, ")
    assert data.endswith(f" trained, content `{dpo.determinants['data']['data']}`")


def test_the_options_in_the_card_are_those_that_determined_the_step(
    aligner: Aligner, small_run: Path, tmp_path: Path
) -> None:
    aligner("export", "small", "--to", str(tmp_path / "tiny"), "--step", "dpo")
    text = (tmp_path / "tiny" / "README.md").read_text()
    shown = [yaml.safe_load(part.split("```")[0]) for part in text.split("```yaml\n")[1:]]
    steps = list(RunFolder(small_run / "runs" / "small").finished())[:4]
    assert shown == [dict(one.determinants["options"]) for _, _, one in steps]


def test_the_card_says_nothing_of_where_files_lay(
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

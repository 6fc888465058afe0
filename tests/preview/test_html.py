"""The HTML page: complete, safe for any text of rows, and readable without colors."""

from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

import aligner
from aligner import chain
from aligner.preview import PreviewToken
from aligner.terminal.preview_html import preview_html
from aligner.testing import write_files

PlanContext = Callable[..., chain.ChainPreview]

SFT = {"stage": "sft", "data": "talks.jsonl", "per_device_train_batch_size": 3}
DPO = {"stage": "dpo", "data": "pairs.jsonl", "per_device_train_batch_size": 2}
HOSTILE = ("<script>alert(1)</script>", "<img src=x onerror=a()>\"'&", "\x1b[31m\u202e</style>-->")
LONG = """\
name: long
steps:
  - stage: pretrain
    data: long.txt
    fresh: {hidden_size: 16, num_hidden_layers: 1, num_attention_heads: 2, max_position_embeddings: 4096}
    vocab_size: 270
    max_length: 4096
"""


class Reading(HTMLParser):
    """Parses a page into its elements and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self._open: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert not self._open, f"never closed: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta", "br", "wbr"):
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def _tokens(text: str) -> list[tuple[int, str]]:
    """Return id and role of every single token, from its title and its class."""
    found = []
    for tag, attributes in Reading(text).elements:
        classes = str(attributes.get("class")).split()
        if tag == "span" and "t" in classes and attributes.get("title"):
            match = re.match(r"id (\d+) · .* · (\w+) · positions? (\d+)", str(attributes["title"]))
            assert match, attributes["title"]
            found.append((int(match[1]), classes[1]))
    return found


def _expected(tokens: tuple[PreviewToken, ...]) -> list[tuple[int, str]]:
    kept = [(token.id, token.role) for token in tokens if token.role != "padding"]
    return kept + [(t.id, "padding") for t in tokens if t.role == "padding"][:1]


def test_every_token_is_in_the_page_with_its_id_and_its_role(preview_steps: PlanContext) -> None:
    shown = preview_steps(SFT)
    rows = shown.steps[0].sections[0].rows
    expected = [item for row in rows for item in _expected(row.sequences[0].tokens)]
    assert _tokens(preview_html(shown)) == expected


def test_a_shared_prompt_is_in_the_page_once_followed_by_both_answers(
    preview_steps: PlanContext,
) -> None:
    shown = preview_steps(DPO, rows=(1,))
    (row,) = shown.steps[0].sections[0].rows
    chosen, rejected = (sequence.tokens[row.prompt_length :] for sequence in row.sequences)
    prompt = row.sequences[0].tokens[: row.prompt_length]
    assert _tokens(preview_html(shown)) == _expected(prompt) + _expected(chosen) + _expected(
        rejected
    )
    text = Reading(preview_html(shown)).text
    assert f"shared prompt: {row.prompt_length} tokens" in text
    assert text.index("chosen") < text.index("rejected")


def test_text_of_rows_cannot_become_html(tmp_path: Path, desk: Path) -> None:
    talks = [
        {"messages": [{"role": "user", "content": ask}, {"role": "assistant", "content": "<b>"}]}
        for ask in HOSTILE
    ]
    write_files(tmp_path, {"<b>x.jsonl": talks})
    (tmp_path / "r.yaml").write_text(
        f"name: tiny\nmodel: {desk / 'base'}\nsteps: [{{stage: sft, data: <b>x.jsonl, as: s}}]\n"
    )
    shown = aligner.Recipe.load(tmp_path / "r.yaml").preview(rows=[1, 2, 3])
    text = preview_html(shown.inner)
    reading = Reading(text)
    tags = {tag for tag, _ in reading.elements}
    assert not tags & {"script", "img", "iframe", "object", "link", "b"}
    assert text.count("</style>") == 1
    assert not {"\x1b", "\u202e"} & set(text)
    assert "\\x1b" in reading.text
    assert "\\xe2" in reading.text, "a character that turns the line around, in its bytes"
    handlers = {
        name for _, attributes in reading.elements for name in attributes if name[:2] == "on"
    }
    assert not handlers


def test_the_page_has_no_external_resources_and_no_scripts(preview_steps: PlanContext) -> None:
    text = preview_html(preview_steps(SFT, DPO))
    elements = Reading(text).elements
    assert not any("src" in attributes for _, attributes in elements)
    links = {str(a["href"]) for tag, a in elements if tag == "a"}
    assert links == {"#step-1", "#step-2"}
    assert not re.search(r"https?:|url\(|@import", text)
    policies = [
        a["content"] for _, a in elements if a.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'"]


def test_roles_differ_by_more_than_color_and_there_is_a_dark_style(
    preview_steps: PlanContext,
) -> None:
    text = preview_html(preview_steps(SFT))
    assert "prefers-color-scheme: dark" in text
    for role, sign in (
        ("trained", "2px solid"),
        ("masked", "1px dotted"),
        ("padding", "2px dashed"),
    ):
        rules = re.findall(rf"^(?:\.t|\.{role})\s*\{{(.*?)\}}", text, re.MULTILINE | re.DOTALL)
        assert any(sign in rule for rule in rules), role
    legend = Reading(text).text
    assert "trained has a loss" in legend
    assert "masked context without a loss" in legend


def test_the_middle_of_a_long_group_is_folded(tmp_path: Path) -> None:
    write_files(tmp_path, {"long.txt": " ".join(f"{number}" for number in range(400))})
    (tmp_path / "r.yaml").write_text(LONG)
    shown = aligner.Recipe.load(tmp_path / "r.yaml").preview()
    (row,) = shown.steps["pretrain"][0].rows
    trained = row.sequences[0].counts["trained"]
    reading = Reading(preview_html(shown.inner))
    assert [tag for tag, _ in reading.elements].count("details") == 1
    assert f"⋯ {trained - 120:,} more trained tokens" in reading.text
    assert len(_tokens(preview_html(shown.inner))) == len(row.sequences[0].tokens), (
        "none is left out"
    )


def test_the_bar_has_its_counts_as_a_label(preview_steps: PlanContext) -> None:
    bars = [
        attributes["aria-label"]
        for _, attributes in Reading(preview_html(preview_steps(SFT, rows=(1,)))).elements
        if attributes.get("role") == "img"
    ]
    assert bars[0] == "8 tokens, 3 trained, 5 masked, 5 padding"


@pytest.mark.parametrize("name", ["page.html", "other.html"])
def test_a_preview_in_python_writes_the_page(desk: Path, tmp_path: Path, name: str) -> None:
    sheet = f"name: tiny\nmodel: {desk / 'base'}\nsteps: [{{stage: sft, data: {desk / 'talks.jsonl'}}}]\n"
    (tmp_path / "r.yaml").write_text(sheet)
    shown = aligner.Recipe.load(tmp_path / "r.yaml").preview(rows=[2])
    shown.write(tmp_path / name)
    assert (tmp_path / name).read_text(encoding="utf-8") == preview_html(shown.inner)
    assert shown.steps["sft"][0].rows[0].number == 2
    assert "┗" in str(shown)
    frame = shown._repr_html_()
    assert frame.startswith('<iframe sandbox="" ')
    assert "<html" not in frame

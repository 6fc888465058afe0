"""Previews in a terminal, with colors or with marks."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from aligner import chain
from aligner.preview import PreviewToken, Role
from aligner.terminal.console import make_console, print_to
from aligner.terminal.preview import render_preview
from aligner.terminal.preview_lines import TokenLines
from aligner.terminal.preview_spans import token_spans, visible

PlanContext = Callable[..., chain.ChainPreview]
TEXTS = st.text(st.characters(exclude_characters="┗╵"), max_size=12)

SFT = {"stage": "sft", "data": "talks.jsonl", "per_device_train_batch_size": 3}
DPO = {"stage": "dpo", "data": "pairs.jsonl", "per_device_train_batch_size": 2}

SFT_IN_MARKS = """\
tiny  recipe
┗━━━ trained   ╵ masked (no loss)   ░░ padding   · space  ↵ new line  ⇥ tab

1 sft  steps[0]
  data: 3 rows to train on

  row 1  talks.jsonl:1
  <|user|>a·cat<|end|><|assistant|>big<|end|><pad> × 5
  ╵       ╵╵   ╵      ╵            ┗┗━┗━━━━━━░░░░░░░░░
  8 tokens · 3 trained · 5 masked · 5 padding · ends with <|end|>, trained

  row 2  talks.jsonl:2
  <|user|>the·dog↵
  ╵       ╵  ╵   ╵
  runs<|end|><|assistant|>small·cat<|end|>
  ╵╵  ╵      ╵            ┗┗━━┗┗━━━┗━━━━━━
  13 tokens · 5 trained · 8 masked · ends with <|end|>, trained

  batch of rows 1 to 3: 3 × 13 = 39 positions: 14 trained (36%), 17 masked
  (44%), 8 padding (21%)
  training makes its batches of rows of like length, so they hold less padding
"""
DPO_IN_MARKS = """\
tiny  recipe
┗━━━ trained   ╵ masked (no loss)   ░░ padding   · space  ↵ new line  ⇥ tab

1 dpo  steps[0]
  data: 8 rows to train on

  row 1  pairs.jsonl:1
  shared prompt: 7 tokens
  <|user|>0·sees·eats·small<|end|><|assistant|>
  ╵       ╵╵    ╵    ╵     ╵      ╵
  chosen                                           rejected
  yes·sees·sleeps·the·sees<|end|><pad> × 3         no·sees·red<|end|><pad> × 6
  ┗┗┗┗━━━━┗━━━━━━┗━━━┗━━━━┗━━━━━━░░░░░░░░░         ┗┗┗━━━━┗━━━┗━━━━━━░░░░░░░░░
  15 tokens · 8 trained · 7 masked · 3 padding ·   12 tokens · 5 trained · 7 masked · 6 padding ·
  ends with <|end|>, trained                       ends with <|end|>, trained

  batch of rows 1 and 2: 4 × 18 = 72 positions: 28 trained (39%), 32 masked (44%), 12 padding (17%)
  training makes its batches of rows of like length, so they hold less padding
"""


def _drawn(shown: chain.ChainPreview, width: int, **how: Any) -> str:
    file = io.StringIO()
    console = make_console(file)
    console.width = width
    print_to(console, render_preview(shown, console, **how))
    return file.getvalue()


def _strip(tokens: list[PreviewToken], width: int, *, color: bool = False, **how: Any) -> list[str]:
    console = Console(
        file=io.StringIO(), width=width, color_system="standard" if color else None,
        force_terminal=color, no_color=False, legacy_windows=False, markup=False,
        highlight=False, emoji=False,
    )  # fmt: skip
    with console.capture() as capture:
        console.print(TokenLines(token_spans(tokens, **how)))
    return [line.rstrip() for line in capture.get().splitlines()]


def _tokens(*stretches: tuple[Role, str]) -> list[PreviewToken]:
    """Return the tokens of texts written `a| b`, with the role of each text."""
    return [
        PreviewToken(number, text, role)
        for role, texts in stretches
        for number, text in enumerate(texts.split("|"))
    ]


def test_without_colors_every_token_has_a_mark_below(preview_steps: PlanContext) -> None:
    assert _drawn(preview_steps(SFT), 78) == SFT_IN_MARKS


def test_the_answers_of_a_pair_are_side_by_side_on_a_wide_terminal(
    preview_steps: PlanContext,
) -> None:
    assert _drawn(preview_steps(DPO, rows=(1,)), 100) == DPO_IN_MARKS


def test_the_answers_of_a_pair_are_a_list_on_a_narrow_terminal(
    preview_steps: PlanContext,
) -> None:
    lines = _drawn(preview_steps(DPO, rows=(1,)), 60).splitlines()
    assert lines.index("  chosen") < lines.index("  rejected")
    assert all(cell_len(line) <= 60 for line in lines)


def test_with_colors_trained_tokens_are_blocks_and_there_are_no_marks() -> None:
    tokens = _tokens(("masked", "ask| me"), ("trained", "I| say"), ("padding", "<pad>"))
    (line,) = _strip(tokens, 60, color=True)
    assert "\x1b[30;46mI" in line, "black on cyan"
    assert "\x1b[30;106m·say" in line, "black on bright cyan, so that neighbors differ"
    assert "\x1b[46m" not in line.split("I", 1)[0], "what is masked has no background"
    assert not set("┗╵░") & set(line)


def test_no_color_disables_colors(
    preview_steps: PlanContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("FORCE_COLOR", "1")
    drawn = _drawn(preview_steps(SFT), 70)
    assert "┗" in drawn
    assert "\x1b[30;46m" not in drawn


def test_long_groups_are_shortened_in_the_middle_and_borders_stay() -> None:
    tokens = (
        _tokens(
            ("masked", "|".join("q" for _ in range(200))),
            ("trained", "|".join("a" for _ in range(100))),
        )
        + [PreviewToken(0, "_", "padding")] * 37
    )
    lines = _strip(tokens, 120)
    assert lines == [
        "q" * 48, "╵" * 48,
        "⋯ 120 masked tokens omitted ⋯",
        "q" * 32 + "a" * 48, "╵" * 32 + "┗" * 48,
        "⋯ 20 trained tokens omitted ⋯",
        "a" * 32 + "_ × 37", "┗" * 32 + "░" * 6,
    ]  # fmt: skip
    assert "omitted" not in "".join(_strip(tokens, 120, full=True))


def test_a_sequence_with_very_many_groups_is_shortened() -> None:
    turns = [("masked", "q|q"), ("trained", "a|a|a")] * 300
    spans = token_spans(_tokens(*turns))  # type: ignore[arg-type]  # the roles, in turn
    assert len(spans) < 450
    (omitted,) = (span for span in spans if span.kind == "omitted")
    assert "masked" in omitted.text
    assert "trained" in omitted.text
    assert sum(len(span.tokens) for span in spans) == 1500


@pytest.mark.parametrize(
    ("text", "drawn"),
    [
        (" a b", "·a·b"),
        ("\n\n", "↵↵\n"),
        ("a\nb", "a↵\nb"),
        ("\t\r\n", "⇥␍↵\n"),
        ("\x1b[31m", "\\x1b[31m"),
        ("\u202e\u200b", "\\u202e\\u200b"),
        ("\u00a0\u2003", "⍽\\u2003"),
        ("\x7f\x00", "\\x7f\\x00"),
        ("", "∅"),
    ],
)
def test_white_space_is_visible_and_control_characters_are_escaped(text: str, drawn: str) -> None:
    assert visible(text) == drawn


def test_a_single_accent_is_drawn_apart_from_the_token_before() -> None:
    assert (
        _strip([PreviewToken(1, "e", "masked"), PreviewToken(2, "\u0301", "masked")], 20)[0]
        == "e◌\u0301"
    )


def test_the_documentation_has_this_example() -> None:
    page = (Path(__file__).parents[2] / "docs" / "preview.md").read_text(encoding="utf-8")
    assert "\n".join(SFT_IN_MARKS.splitlines()[4:-1]) in page


@given(
    st.lists(
        st.tuples(TEXTS, st.sampled_from(("trained", "masked", "padding"))),
        max_size=40,
    ),
    st.integers(min_value=4, max_value=50),
)
def test_no_line_is_wider_than_the_width_and_no_token_is_lost(
    made: list[tuple[str, Role]], width: int
) -> None:
    tokens = [PreviewToken(number, text, role) for number, (text, role) in enumerate(made)]
    lines = _strip(tokens, width, full=True)
    assert all(cell_len(line) <= width for line in lines)
    drawn, roles = "".join(lines), [role for _, role in made]
    begun = roles.count("trained"), roles.count("masked")
    assert (drawn.count("┗"), drawn.count("╵")) == begun

"""Displays of a run: marks, remaining times, and the intervals of plain lines."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from aligner import Plan, Progress
from aligner.chain import Event, StepFailed, StepProgress, StepReused, StepStarted
from aligner.errors import Stopped
from aligner.terminal.console import InlineList, LabeledRows, make_console, print_to, styled_line
from aligner.terminal.progress import LineDisplay
from aligner.terminal.progress_state import ProgressTracker


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def started(number: int = 1, summary: str = "ten steps") -> Event:
    plan = Plan(summary=summary)
    return StepStarted(number=number, of=2, step="s", stage="s", plan=plan, folder=Path())


def progress(done: int, total: int = 100, number: int = 1, **metrics: float) -> Event:
    report = Progress(step="s", done=done, total=total, metrics=metrics)
    return StepProgress(number=number, progress=report)


def plain(monkeypatch: pytest.MonkeyPatch) -> tuple[Clock, LineDisplay, io.StringIO]:
    monkeypatch.setenv("COLUMNS", "40")
    clock, file = Clock(), io.StringIO()
    return clock, LineDisplay(make_console(file), ProgressTracker(["s", "t"], clock=clock)), file


def drawn(content: object, width: int) -> list[str]:
    file = io.StringIO()
    print_to(Console(file=file, width=width), content)  # type: ignore[arg-type]  # any renderable
    return file.getvalue().splitlines()


def test_time_left_follows_the_speed_and_counts_down_between_reports() -> None:
    clock = Clock()
    tracker = ProgressTracker(["s"], clock=clock)
    step = tracker.update(started())
    assert step is not None
    assert step.left(0.0) is None
    for clock.now, done in ((10.0, 10), (30.0, 30)):
        tracker.update(progress(done))
    # 20 steps in 20 seconds, so 70 seconds for the 70 that are left, 5 of which have passed.
    assert step.left(35.0) == 65.0
    assert step.left(500.0) == 0.0


def test_the_speed_of_a_resumed_step_ignores_earlier_progress() -> None:
    clock = Clock()
    tracker = ProgressTracker(["s"], clock=clock)
    step = tracker.update(started())
    assert step is not None
    clock.now = 1.0
    tracker.update(progress(80))
    assert step.left(1.0) is None
    clock.now = 11.0
    tracker.update(progress(85))
    assert step.left(11.0) == 30.0


def test_plain_lines_come_after_ten_seconds_and_a_tenth_or_after_a_minute(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, lines, file = plain(monkeypatch)
    lines.on_event(started())
    for second in range(1, 200):
        clock.now = float(second)
        lines.on_event(progress(second if second < 50 else 50, loss=0.5))
    assert file.getvalue().splitlines() == [
        "[1/2] s: ten steps",
        "[1/2] s: 10% · 10/100 · loss 0.5 · 1 min 30 s left",
        "[1/2] s: 20% · 20/100 · loss 0.5 · 1 min 20 s left",
        "[1/2] s: 30% · 30/100 · loss 0.5 · 1 min 10 s left",
        "[1/2] s: 40% · 40/100 · loss 0.5 · 1 min 00 s left",
        "[1/2] s: 50% · 50/100 · loss 0.5 · 50.0 s left",
        "[1/2] s: 50% · 50/100 · loss 0.5 · 1 min 51 s left",
        "[1/2] s: 50% · 50/100 · loss 0.5 · 2 min 52 s left",
    ]


def test_plain_lines_have_no_control_characters_and_there_is_one_per_event(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, lines, file = plain(monkeypatch)
    lines.on_event(started(summary="a\x1b[2Jb\nc" + " long" * 20))
    lines.warn("one\ntwo\x07")
    assert file.getvalue().splitlines() == [
        "[1/2] s: a\\x1b[2Jb c" + " long" * 20,
        "warning: one two\\x07",
    ]


def test_a_step_that_runs_after_its_damaged_result_was_reused_is_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, lines, file = plain(monkeypatch)
    reused = StepReused(number=1, of=2, step="s", stage="s", metrics={}, folder=Path())
    lines.on_event(reused)
    clock.now = 5.0
    lines.on_event(started())
    clock.now = 8.0
    stopped = Stopped("stopped")
    lines.on_event(StepFailed(number=1, of=2, step="s", stage="s", error=stopped, folder=Path()))
    assert file.getvalue().splitlines() == [
        "[1/2] s: reused",
        "[1/2] s: ten steps",
        "[1/2] s: stopped after 3.0 s",
    ]


def test_a_list_of_metrics_breaks_between_metrics_and_keeps_its_dot() -> None:
    row = InlineList(["loss 0.5", "accuracy 0.75", "reward 1.2"], lead=styled_line("x: "))
    assert drawn(row, 80) == ["x: loss 0.5 · accuracy 0.75 · reward 1.2"]
    assert drawn(row, 30) == ["x: loss 0.5 · accuracy 0.75 ·", "reward 1.2"]
    assert drawn(row, 18) == ["x: loss 0.5 ·", "accuracy 0.75 ·", "reward 1.2"]


def test_a_path_too_long_for_its_column_is_printed_below_its_label() -> None:
    rows = LabeledRows([("run", "short"), ("policy", "runs/small/3-again")])
    assert drawn(rows, 30) == ["run    short", "policy runs/small/3-again"]
    assert drawn(rows, 22) == ["run    short", "policy", "  runs/small/3-again"]


def test_markup_in_a_text_is_not_interpreted() -> None:
    assert drawn(styled_line("[bold]x[/bold] :smile: [link=http://x]"), 60) == [
        "[bold]x[/bold] :smile: [link=http://x]"
    ]

"""Render the plan of a checked chain: a table of its steps, and a paragraph on each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.text import Text

from aligner.chain import ChainStep, CheckedChain
from aligner.stage import Plan
from aligner.terminal.console import NARROW, InlineList, LabeledRows, make_table, styled_line
from aligner.terminal.forecast import Forecast
from aligner.terminal.text import format_amount, format_count, format_number, one_line


def render_plan(
    checked: CheckedChain, forecasts: Sequence[Forecast], console: Console, *, full: bool
) -> RenderableType:
    """Render the output of `aligner check`.

    Args:
        checked: The checked chain.
        forecasts: The forecast of each step.
        console: The console that the plan is printed on.
        full: Show all counts of each data set, not only the numbers of rows.
    """
    recipe = checked.chain.recipe
    start = checked.chain.start.policy
    parts: list[RenderableType] = [
        styled_line((recipe.name, "bold"), f"  {one_line(recipe.description)}".rstrip()),
        LabeledRows(
            [
                ("recipe", recipe.where),
                ("model", start.path if start else "none"),
                ("seed", str(recipe.seed)),
            ]
        ),
        "",
    ]
    narrow = console.width < NARROW
    if not narrow:
        parts += [_table(checked), ""]
    for step, plan, forecast in zip(checked.chain.steps, checked.plans, forecasts, strict=True):
        title = (f"{step.number} {step.name}", "bold")
        rows = list(_paragraph(step, plan, forecast, sizes=narrow, full=full))
        parts += [styled_line(title, (f"  {step.where}", "dim")), LabeledRows(rows, by=2), ""]
    return Group(*parts[:-1], "", _last_line(forecasts))


def plan_json(checked: CheckedChain, forecasts: Sequence[Forecast]) -> dict[str, Any]:
    """Return the plan as values for JSON."""
    recipe = checked.chain.recipe
    start = checked.chain.start.policy
    return {
        "recipe": recipe.where,
        "name": recipe.name,
        "seed": recipe.seed,
        "model": start.path if start else None,
        "steps": [
            _step_json(step, plan, forecast)
            for step, plan, forecast in zip(
                checked.chain.steps, checked.plans, forecasts, strict=True
            )
        ],
    }


def _step_json(step: ChainStep, plan: Plan, forecast: Forecast) -> dict[str, Any]:
    numbers = ("rows", "tokens", "optimizer_steps", "trained", "parameters")
    return {
        "number": step.number,
        "step": step.name,
        "stage": step.stage.name,
        "plugin": step.plugin_version,
        "where": step.where,
        "reads": sorted(step.stage.requires),
        "uses": sorted(step.stage.uses),
        "writes": sorted(step.stage.provides),
        "summary": plan.summary,
        **{name: getattr(plan, name) for name in numbers},
        "incoming": plan.incoming,
        "reference": plan.reference,
        "gate": {name: str(bound) for name, bound in step.spec.gate.items()},
        "metrics": sorted(plan.metrics),
        "data": dict(plan.data),
        "ledgers": {name: dict(ledger) for name, ledger in plan.ledgers.items()},
        "notes": list(plan.notes),
        "status": forecast.status,
        "run": forecast.run or None,
        "reason": forecast.reason,
        "differences": list(forecast.differences),
    }


def _table(checked: CheckedChain) -> RenderableType:
    table = make_table(
        [("", "right"), ("step", "left"), ("reads", "left"), ("writes", "left")]
        + [(heading, "right") for heading in ("rows", "tokens", "steps", "trained")]
    )
    for step, plan in zip(checked.chain.steps, checked.plans, strict=True):
        reads = [*sorted(step.stage.requires), *(f"({s})" for s in sorted(step.stage.uses))]
        table.add_row(
            str(step.number),
            styled_line(step.name),
            Text(" ".join(reads)),
            Text(" ".join(sorted(step.stage.provides))),
            *_sizes(plan).values(),
        )
    return table


def _sizes(plan: Plan) -> dict[str, str]:
    trained = format_amount(plan.trained)
    if trained and plan.parameters:
        trained += f" of {format_amount(plan.parameters)}"
    return {
        "rows": format_count(plan.rows),
        "tokens": format_amount(plan.tokens),
        "steps": format_count(plan.optimizer_steps),
        "trained": trained,
    }


def _paragraph(
    step: ChainStep, plan: Plan, forecast: Forecast, *, sizes: bool, full: bool
) -> Iterator[tuple[str, RenderableType]]:
    yield "stage", f"{step.stage.name} (plugin {step.plugin_version})"
    yield "task", one_line(plan.summary)
    if sizes:
        yield "reads", ", ".join(sorted(step.stage.requires | step.stage.uses)) or "nothing"
        yield "writes", ", ".join(sorted(step.stage.provides)) or "nothing"
        if parts := [f"{name} {value}" for name, value in _sizes(plan).items() if value]:
            yield "size", InlineList(parts)
    if plan.incoming:
        yield "adapters", one_line(plan.incoming)
    if plan.reference:
        yield "reference", one_line(plan.reference)
    for name, ledger in plan.ledgers.items():
        yield "data", InlineList(_counts(ledger), lead=styled_line(f"{one_line(name)}: "))
        if full:
            yield "", Text("\n".join(one_line(text) for text in _all_values(ledger)), "dim")
    if step.spec.gate:
        yield "gate", InlineList(f"{metric} {bound}" for metric, bound in step.spec.gate.items())
    for note in plan.notes:
        yield "note", one_line(note)
    yield "status", _status(forecast)


def _status(forecast: Forecast) -> RenderableType:
    if forecast.status == "reused":
        source = f" from run {forecast.run!r}" if forecast.run else ""
        return styled_line(("done", "green"), f": reused{source}")
    line = styled_line((forecast.status, "yellow" if forecast.status == "runs" else "dim"))
    if forecast.reason:
        line.append_text(styled_line(f": {forecast.reason}"))
    if forecast.differences:
        return InlineList(forecast.differences, lead=line.append_text(styled_line(": ")))
    return line


def _last_line(forecasts: Sequence[Forecast]) -> Text:
    reused = sum(step.status == "reused" for step in forecasts)
    runs = sum(step.status == "runs" for step in forecasts)
    return styled_line(
        ("no errors", "green"), f"; {reused} of {len(forecasts)} steps are done, {runs} would run"
    )


def _counts(ledger: Mapping[str, Any]) -> Iterator[str]:
    """Return the counts of a ledger; removed rows are counted per reason."""
    for key, value in ledger.items():
        name = key.replace("_", " ")
        if isinstance(value, int) and value:
            yield f"{name} {format_count(value)}"
        elif isinstance(value, Mapping):
            reasons = {
                k: v["rows"] for k, v in value.items() if isinstance(v, Mapping) and "rows" in v
            }
            if total := sum(reasons.values()):
                listed = ", ".join(f"{format_count(n)} {one_line(r)}" for r, n in reasons.items())
                yield f"{name} {format_count(total)} ({listed})"


def _all_values(value: Any, path: str = "") -> Iterator[str]:
    """Return every value in a ledger, one per line."""
    if isinstance(value, Mapping):
        for key, child in value.items():
            yield from _all_values(child, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list | tuple):
        if value:
            yield f"{path}: {', '.join(map(_item, value))}"
    elif value not in ("", None):
        yield f"{path}: {format_number(value) if isinstance(value, float) else value}"


def _item(value: Any) -> str:
    if isinstance(value, Mapping):
        return " ".join(f"{key} {item}" for key, item in value.items())
    return str(value)

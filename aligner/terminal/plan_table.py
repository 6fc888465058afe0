"""What a checked chain will do: a table of its steps, and a paragraph on each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.text import Text

from aligner.chain import ChainStep, CheckedChain
from aligner.stage import Plan
from aligner.terminal.console import NARROW, Joined, Labelled, line, table
from aligner.terminal.forecast import Forecast
from aligner.terminal.text import amount, count, format_number, one_line


def planned(
    checked: CheckedChain, answers: Sequence[Forecast], console: Console, *, everything: bool
) -> RenderableType:
    """The whole answer of `aligner check`.

    Args:
        everything: Show all that is known of each data set, not just how many rows.
    """
    recipe = checked.chain.recipe
    start = checked.chain.start.policy
    parts: list[RenderableType] = [
        line((recipe.name, "bold"), f"  {one_line(recipe.description)}".rstrip()),
        Labelled(
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
    for link, plan, answer in zip(checked.chain.steps, checked.plans, answers, strict=True):
        head = line((f"{link.number} {link.name}", "bold"), (f"  {link.where}", "dim"))
        rows = list(_paragraph(link, plan, answer, numbers=narrow, everything=everything))
        parts += [head, Labelled(rows, by=2), ""]
    return Group(*parts[:-1], "", _closing(answers))


def as_json(checked: CheckedChain, answers: Sequence[Forecast]) -> dict[str, Any]:
    """The same for programs."""
    recipe = checked.chain.recipe
    start = checked.chain.start.policy
    return {
        "recipe": recipe.where,
        "name": recipe.name,
        "seed": recipe.seed,
        "model": start.path if start else None,
        "steps": [
            _step_json(link, plan, answer)
            for link, plan, answer in zip(checked.chain.steps, checked.plans, answers, strict=True)
        ],
    }


def _step_json(link: ChainStep, plan: Plan, answer: Forecast) -> dict[str, Any]:
    numbers = ("rows", "tokens", "optimizer_steps", "trained", "parameters")
    return {
        "number": link.number,
        "step": link.name,
        "stage": link.stage.name,
        "plugin": link.plugin_version,
        "where": link.where,
        "reads": sorted(link.stage.requires),
        "uses": sorted(link.stage.uses),
        "writes": sorted(link.stage.provides),
        "summary": plan.summary,
        **{name: getattr(plan, name) for name in numbers},
        "incoming": plan.incoming,
        "reference": plan.reference,
        "gate": {name: str(bound) for name, bound in link.spec.gate.items()},
        "metrics": sorted(plan.metrics),
        "data": dict(plan.data),
        "ledgers": {name: dict(ledger) for name, ledger in plan.ledgers.items()},
        "notes": list(plan.notes),
        "standing": answer.standing,
        "run": answer.run or None,
        "because": answer.because,
        "changed": list(answer.changed),
    }


def _table(checked: CheckedChain) -> RenderableType:
    heads = ("rows", "tokens", "steps", "trained")
    made = table(
        [("", "right"), ("step", "left"), ("reads", "left"), ("writes", "left")]
        + [(head, "right") for head in heads]
    )
    for link, plan in zip(checked.chain.steps, checked.plans, strict=True):
        reads = [*sorted(link.stage.requires), *(f"({s})" for s in sorted(link.stage.uses))]
        made.add_row(
            str(link.number),
            line(link.name),
            Text(" ".join(reads)),
            Text(" ".join(sorted(link.stage.provides))),
            *_numbers(plan).values(),
        )
    return made


def _numbers(plan: Plan) -> dict[str, str]:
    trained = amount(plan.trained)
    if trained and plan.parameters:
        trained += f" of {amount(plan.parameters)}"
    return {
        "rows": count(plan.rows),
        "tokens": amount(plan.tokens),
        "steps": count(plan.optimizer_steps),
        "trained": trained,
    }


def _paragraph(
    link: ChainStep, plan: Plan, answer: Forecast, *, numbers: bool, everything: bool
) -> Iterator[tuple[str, RenderableType]]:
    yield "stage", f"{link.stage.name}, by plugin {link.plugin_version}"
    yield "does", one_line(plan.summary)
    if numbers:
        yield "reads", ", ".join(sorted(link.stage.requires | link.stage.uses)) or "nothing"
        yield "writes", ", ".join(sorted(link.stage.provides)) or "nothing"
        if parts := [f"{name} {value}" for name, value in _numbers(plan).items() if value]:
            yield "size", Joined(parts)
    if plan.incoming:
        yield "adapters", one_line(plan.incoming)
    if plan.reference:
        yield "reference", one_line(plan.reference)
    for name, ledger in plan.ledgers.items():
        yield "data", Joined(_in_brief(ledger), lead=line(f"{one_line(name)}: "))
        if everything:
            yield "", Text("\n".join(one_line(text) for text in _at_length(ledger)), "dim")
    if link.spec.gate:
        yield "gate", Joined(f"{metric} {bound}" for metric, bound in link.spec.gate.items())
    for note in plan.notes:
        yield "note", one_line(note)
    yield "status", _status(answer)


def _status(answer: Forecast) -> RenderableType:
    if answer.standing == "reused":
        whose = f" from run {answer.run!r}" if answer.run else ""
        return line(("done", "green"), f": reused{whose}")
    said = line((answer.standing, "yellow" if answer.standing == "runs" else "dim"))
    if answer.because:
        said.append_text(line(f": {answer.because}"))
    if answer.changed:
        return Joined(answer.changed, lead=said.append_text(line(": ")))
    return said


def _closing(answers: Sequence[Forecast]) -> Text:
    reused = sum(answer.standing == "reused" for answer in answers)
    runs = sum(answer.standing == "runs" for answer in answers)
    return line(
        ("no errors", "green"), f"; {reused} of {len(answers)} steps are done, {runs} would run"
    )


def _in_brief(ledger: Mapping[str, Any]) -> Iterator[str]:
    """The counts of a ledger; of rows left out for several reasons, how many for each."""
    for key, value in ledger.items():
        name = key.replace("_", " ")
        if isinstance(value, int) and value:
            yield f"{name} {count(value)}"
        elif isinstance(value, Mapping):
            reasons = {
                k: v["rows"] for k, v in value.items() if isinstance(v, Mapping) and "rows" in v
            }
            if total := sum(reasons.values()):
                each = ", ".join(f"{count(n)} {one_line(reason)}" for reason, n in reasons.items())
                yield f"{name} {count(total)} ({each})"


def _at_length(value: Any, path: str = "") -> Iterator[str]:
    """Everything in a ledger, a line each."""
    if isinstance(value, Mapping):
        for key, below in value.items():
            yield from _at_length(below, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list | tuple):
        if value:
            yield f"{path}: {', '.join(map(_in_words, value))}"
    elif value not in ("", None):
        yield f"{path}: {format_number(value) if isinstance(value, float) else value}"


def _in_words(value: Any) -> str:
    if isinstance(value, Mapping):
        return " ".join(f"{key} {one}" for key, one in value.items())
    return str(value)

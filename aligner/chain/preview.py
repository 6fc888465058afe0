"""Look at rows as each step of a chain will get them, as far as its recipe is without faults."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from aligner.chain.execute import find_finished
from aligner.chain.link import Chain, Link
from aligner.chain.look import Checked, check, seeing
from aligner.errors import AlignerError, ChainError, Collected, did_you_mean
from aligner.host import Host
from aligner.preview import Asked, Section
from aligner.stage import Look


@dataclass(frozen=True)
class StepPreview:
    """What one step shows."""

    link: Link
    sections: tuple[Section, ...]


@dataclass(frozen=True)
class Preview:
    """What the steps of a chain show, and what is wrong with those that could not be looked at."""

    chain: Chain
    steps: tuple[StepPreview, ...]
    """Those that read rows, or the one that was asked for."""
    faults: tuple[AlignerError, ...] = field(default=())


def preview(
    chain: Chain,
    host: Host,
    asked: Asked | None = None,
    *,
    steps: Sequence[str] = (),
    runs: Path | None = None,
) -> Preview:
    """Plan every link in turn, and let it show rows as soon as it has; no weights are loaded.

    Args:
        chain: The recipe's.
        host: Whose plugins offer what it asks for.
        asked: Which rows; the first two by default.
        steps: Names of the steps to look at; all by default. Later ones are not planned.
        runs: Folder of all runs, in which prepared data is kept for later ones.

    Raises:
        ChainError: there is no such step.
    """
    asked = asked or Asked()
    wanted = _wanted(chain, steps)
    links = [one for one in chain.links if one.step.name in wanted]
    last = max((chain.links.index(one) for one in links), default=-1)
    shown: list[StepPreview] = []
    faults = Collected()

    def look_at(link: Link, look: Look) -> None:
        if link.step.name in wanted:
            with faults:
                sections = _with_stand_ins(link, link.stage.preview(look, asked))
                if sections or steps:
                    shown.append(StepPreview(link, sections))

    upto = chain if len(links) < len(wanted) else replace(chain, links=chain.links[: last + 1])
    with faults:
        checked = check(upto, host, runs=runs, each=look_at)
        if runs is not None:
            shown = [_on_made_rows(one, checked, runs, asked) for one in shown]
    return Preview(chain, tuple(shown), tuple(faults.found))


def _on_made_rows(one: StepPreview, checked: Checked, runs: Path, asked: Asked) -> StepPreview:
    """The same, with the real rows in place of stand-ins where the steps that make them have finished."""
    makers = set(one.link.stage.config.rows_from().values())
    if not makers:
        return one
    made = {
        link.step.name: done.state().get("data")
        for link, done in zip(checked.chain.links, find_finished(checked, runs), strict=True)
        if done is not None and link.step.name in makers
    }
    if makers - made.keys():
        return one
    look = seeing(checked.looks[one.link.number - 1], made)
    return StepPreview(one.link, tuple(one.link.stage.preview(look, asked)))


def _with_stand_ins(link: Link, sections: Sequence[Section]) -> tuple[Section, ...]:
    """Sections that say so where rows are shown that an earlier step has yet to make."""
    makers = list(dict.fromkeys(link.stage.config.rows_from().values()))
    if not makers:
        return tuple(sections)
    note = (
        f"rows that {' and '.join(map(repr, makers))} will make are shown with real prompts; "
        "their answers are not written yet, and what stands there is not what will be trained"
    )
    return tuple(replace(one, notes=(note, *one.notes)) for one in sections)


def _wanted(chain: Chain, steps: Sequence[str]) -> frozenset[str]:
    known = [step.name for step in chain.recipe.steps]
    for name in steps:
        if name not in known:
            raise ChainError(
                f"no step of the recipe is called {name!r}",
                where=chain.recipe.where,
                hint=did_you_mean(name, known),
            )
    return frozenset(steps or known)

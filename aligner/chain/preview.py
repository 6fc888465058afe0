"""Look at rows as each step of a chain will get them, as far as its recipe is without errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from aligner.chain.check import CheckedChain, check, seeing
from aligner.chain.execute import find_finished
from aligner.chain.link import Chain, ChainStep
from aligner.errors import AlignerError, ChainError, ErrorCollector, did_you_mean, error_location
from aligner.host import Host
from aligner.preview import PreviewRequest, PreviewSection
from aligner.stage import PlanContext


@dataclass(frozen=True)
class StepPreview:
    """What one step shows."""

    link: ChainStep
    sections: tuple[PreviewSection, ...]


@dataclass(frozen=True)
class ChainPreview:
    """What the steps of a chain show, and what is wrong with those that could not be looked at."""

    chain: Chain
    steps: tuple[StepPreview, ...]
    """Those that read rows, or the one that was asked for."""
    errors: tuple[AlignerError, ...] = field(default=())


def preview(
    chain: Chain,
    host: Host,
    request: PreviewRequest | None = None,
    *,
    steps: Sequence[str] = (),
    runs: Path | None = None,
) -> ChainPreview:
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
    request = request or PreviewRequest()
    wanted = _wanted(chain, steps)
    links = [one for one in chain.links if one.step.name in wanted]
    last = max((chain.links.index(one) for one in links), default=-1)
    shown: list[StepPreview] = []
    errors = ErrorCollector()

    def look_at(link: ChainStep, context: PlanContext) -> None:
        if link.step.name in wanted:
            with errors, error_location(link.step.where):
                sections = _with_stand_ins(link, link.stage.preview(context, request))
                if sections or steps:
                    shown.append(StepPreview(link, sections))

    upto = chain if len(links) < len(wanted) else replace(chain, links=chain.links[: last + 1])
    with errors:
        checked = check(upto, host, runs=runs, each=look_at)
        if runs is not None:
            shown = [_on_made_rows(one, checked, runs, request) for one in shown]
    return ChainPreview(chain, tuple(shown), tuple(errors.found))


def _on_made_rows(
    one: StepPreview, checked: CheckedChain, runs: Path, request: PreviewRequest
) -> StepPreview:
    """The same, with the real rows in place of stand-ins where the steps that make them have finished."""
    makers = set(one.link.stage.options.rows_from().values())
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
    with error_location(one.link.step.where):
        return StepPreview(one.link, tuple(one.link.stage.preview(look, request)))


def _with_stand_ins(
    link: ChainStep, sections: Sequence[PreviewSection]
) -> tuple[PreviewSection, ...]:
    """Sections that say so where rows are shown that an earlier step has yet to make."""
    makers = list(dict.fromkeys(link.stage.options.rows_from().values()))
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

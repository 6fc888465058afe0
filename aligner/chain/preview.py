"""Preview rows as the steps of a chain will receive them, as far as the recipe has no errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from aligner.chain.check import CheckedChain, check, with_step_rows
from aligner.chain.execute import find_finished
from aligner.chain.link import Chain, ChainStep
from aligner.errors import AlignerError, ChainError, ErrorCollector, did_you_mean, error_location
from aligner.host import Host
from aligner.preview import PreviewRequest, PreviewSection
from aligner.stage import PlanContext


@dataclass(frozen=True)
class StepPreview:
    """Preview of one step."""

    step: ChainStep
    sections: tuple[PreviewSection, ...]


@dataclass(frozen=True)
class ChainPreview:
    """Previews of the steps of a chain, and the errors of those without one."""

    chain: Chain
    steps: tuple[StepPreview, ...]
    """Steps that read rows, or the requested ones."""
    errors: tuple[AlignerError, ...] = field(default=())


def preview(
    chain: Chain,
    host: Host,
    request: PreviewRequest | None = None,
    *,
    steps: Sequence[str] = (),
    runs: Path | None = None,
) -> ChainPreview:
    """Plan each step and collect its preview; no weights are loaded.

    Args:
        chain: The linked recipe.
        host: The plugins.
        request: The rows; the first two by default.
        steps: Names of the steps to preview; all by default. Later ones are not planned.
        runs: Folder of all runs, in which prepared data is stored for later ones.

    Raises:
        ChainError: There is no such step.
    """
    request = request or PreviewRequest()
    names = _requested(chain, steps)
    requested = [step for step in chain.steps if step.name in names]
    last = max((chain.steps.index(step) for step in requested), default=-1)
    previews: list[StepPreview] = []
    errors = ErrorCollector()

    def on_planned(step: ChainStep, context: PlanContext) -> None:
        if step.name in names:
            with errors, error_location(step.where):
                sections = _with_note(step, step.stage.preview(context, request))
                if sections or steps:
                    previews.append(StepPreview(step, sections))

    complete = len(requested) == len(names)
    part = replace(chain, steps=chain.steps[: last + 1]) if complete else chain
    with errors:
        checked = check(part, host, runs=runs, on_planned=on_planned)
        if runs is not None:
            previews = [_with_finished_rows(shown, checked, runs, request) for shown in previews]
    return ChainPreview(chain, tuple(previews), tuple(errors.found))


def _with_finished_rows(
    preview: StepPreview, checked: CheckedChain, runs: Path, request: PreviewRequest
) -> StepPreview:
    """Replace placeholder rows by the real ones if the steps that write them have finished."""
    step = preview.step
    makers = set(step.stage.options.rows_from().values())
    if not makers:
        return preview
    rows = {
        earlier.name: finished.state().get("data")
        for earlier, finished in zip(checked.chain.steps, find_finished(checked, runs), strict=True)
        if finished is not None and earlier.name in makers
    }
    if makers - rows.keys():
        return preview
    context = with_step_rows(checked.contexts[step.number - 1], rows)
    with error_location(step.where):
        return StepPreview(step, tuple(step.stage.preview(context, request)))


def _with_note(step: ChainStep, sections: Sequence[PreviewSection]) -> tuple[PreviewSection, ...]:
    """Add a note to sections with rows that an earlier step has not written yet."""
    makers = list(dict.fromkeys(step.stage.options.rows_from().values()))
    if not makers:
        return tuple(sections)
    note = (
        f"the rows of {' and '.join(map(repr, makers))} do not exist yet: the prompts are real, "
        "the answers are placeholders"
    )
    return tuple(replace(section, notes=(note, *section.notes)) for section in sections)


def _requested(chain: Chain, steps: Sequence[str]) -> frozenset[str]:
    known = [step.name for step in chain.recipe.steps]
    for name in steps:
        if name not in known:
            raise ChainError(
                f"no step of the recipe is called {name!r}",
                where=chain.recipe.where,
                hint=did_you_mean(name, known),
            )
    return frozenset(steps or known)

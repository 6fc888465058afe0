"""Find the run and the finished step that a command names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from aligner.errors import ChainError, did_you_mean
from aligner.run.folder import RunFolder, all_runs
from aligner.run.store import FinishedStep
from aligner.state import Artifact, ModelState, Slot


@dataclass(frozen=True, kw_only=True)
class SelectedStep:
    """A finished step of a run, with the steps before it."""

    run: RunFolder
    number: int
    name: str
    """Name of the step in this run."""
    finished: FinishedStep
    state: ModelState
    before: tuple[tuple[int, str, FinishedStep], ...]
    """Steps of the run up to and including this one: number, name, and the step."""

    def made_by(self, slot: Slot) -> str:
        """Return the name, in this run, of the step that wrote the artifact in `slot`."""
        content = self.artifact(slot).hash
        return next(
            name
            for _, name, finished in self.before
            if (artifact := finished.state().find(slot)) is not None and artifact.hash == content
        )

    def artifact(self, slot: Slot) -> Artifact:
        """Return the artifact in `slot`.

        Raises:
            ChainError: The slot is empty.
        """
        if slot not in self.state.filled():
            filled = ", ".join(sorted(self.state.filled())) or "nothing"
            raise ChainError(
                f"step {self.name!r} has no {slot}",
                where=str(self.run.path),
                hint=f"filled slots: {filled}",
            )
        return self.state.get(slot)


def find_run(runs: Path, run: str) -> RunFolder:
    """Return the run named `run` in the folder `runs`, or at the path `run`.

    Raises:
        ChainError: There is no such run.
    """
    for path in (runs / run, Path(run)):
        if (path / "recipe.yaml").is_file():
            return RunFolder(path)
    known = [folder.name for folder in all_runs(runs)]
    hint = did_you_mean(run, known) if known else "give the folder of the runs with `--runs DIR`"
    raise ChainError(f"no run is called {run!r}", where=str(runs), hint=hint)


def select_step(folder: RunFolder, step: str | None, *, slot: Slot) -> SelectedStep:
    """Return the finished step `step`, or by default the last one whose `slot` is filled.

    Args:
        folder: The run.
        step: Its name, or number and name as in its link (`2-tune`).
        slot: The slot that has to be filled.

    Raises:
        ChainError: There is no such step, its `slot` is empty, or files are missing.
    """
    done = tuple(folder.finished())
    if not done:
        raise ChainError(
            f"run {folder.name!r} has no finished step",
            where=str(folder.path),
            hint="resume it with `aligner run` and its recipe",
        )
    selected = _named(folder, done, step) if step is not None else _last(folder, done, slot)
    if slot not in selected.state.filled():
        filling = [name for _, name, finished in done if slot in finished.state().filled()]
        raise ChainError(
            f"step {selected.name!r} has no {slot}",
            where=str(folder.path),
            hint=f"steps with a {slot}: {', '.join(filling) or 'none'}",
        )
    if damage := selected.finished.damage(hashes=False):
        what = f"step {selected.name!r} is incomplete: {damage}"
        raise ChainError(what, where=str(folder.path))
    return selected


def _named(
    folder: RunFolder, done: Sequence[tuple[int, str, FinishedStep]], step: str
) -> SelectedStep:
    for index, (number, name, _) in enumerate(done):
        if step in (name, f"{number}-{name}"):
            return _selected(folder, done, index)
    raise ChainError(
        f"run {folder.name!r} has no finished step {step!r}",
        where=str(folder.path),
        hint=did_you_mean(step, [name for _, name, _ in done]),
    )


def _last(
    folder: RunFolder, done: Sequence[tuple[int, str, FinishedStep]], slot: Slot
) -> SelectedStep:
    for index in reversed(range(len(done))):
        selected = _selected(folder, done, index)
        if slot in selected.state.filled():
            return selected
    raise ChainError(
        f"no finished step of run {folder.name!r} has a {slot}", where=str(folder.path)
    )


def _selected(
    folder: RunFolder, done: Sequence[tuple[int, str, FinishedStep]], index: int
) -> SelectedStep:
    number, name, finished = done[index]
    return SelectedStep(
        run=folder,
        number=number,
        name=name,
        finished=finished,
        state=finished.state(),
        before=tuple(done[: index + 1]),
    )

"""Find the run and the finished step that a command means, and the state the step left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from aligner.errors import ChainError, did_you_mean
from aligner.run.folder import RunFolder, all_runs
from aligner.run.store import Finished
from aligner.state import Artifact, ModelState, Slot


@dataclass(frozen=True, kw_only=True)
class ChosenStep:
    """A finished step of a run, and those that it was built on."""

    run: RunFolder
    number: int
    name: str
    """What the run calls it."""
    finished: Finished
    state: ModelState
    before: tuple[tuple[int, str, Finished], ...]
    """The run's steps up to this one, itself included: number, name, and what each left."""

    def made_by(self, slot: Slot) -> str:
        """Return the name, in this run, of the step that wrote the artifact in `slot`."""
        content = self.artifact(slot).hash
        return next(
            name
            for _, name, finished in self.before
            if (artifact := finished.state().find(slot)) is not None and artifact.hash == content
        )

    def artifact(self, slot: Slot) -> Artifact:
        """What fills `slot`.

        Raises:
            ChainError: Nothing does.
        """
        if slot not in self.state.filled():
            filled = ", ".join(sorted(self.state.filled())) or "nothing"
            raise ChainError(
                f"step {self.name!r} left no {slot}",
                where=str(self.run.path),
                hint=f"it left: {filled}",
            )
        return self.state.get(slot)


def find_run(runs: Path, run: str) -> RunFolder:
    """The run called `run` in the folder `runs`, or at the path `run`.

    Raises:
        ChainError: There is none.
    """
    for path in (runs / run, Path(run)):
        if (path / "recipe.yaml").is_file():
            return RunFolder(path)
    known = [folder.name for folder in all_runs(runs)]
    hint = did_you_mean(run, known) if known else "`--runs DIR` says where the runs are"
    raise ChainError(f"no run is called {run!r}", where=str(runs), hint=hint)


def chosen_step(folder: RunFolder, step: str | None, *, slot: Slot) -> ChosenStep:
    """The finished step `step`, or the last one that left something in `slot`.

    Args:
        folder: The run.
        step: Its name, or number and name as in its folder (`2-tune`).
        slot: What is wanted of it.

    Raises:
        ChainError: There is no such step, it left nothing in `slot`, or its files are not all there.
    """
    done = tuple(folder.finished())
    if not done:
        raise ChainError(
            f"run {folder.name!r} has no finished step",
            where=str(folder.path),
            hint="`aligner run` with its recipe goes on with it",
        )
    chosen = _named(folder, done, step) if step is not None else _last(folder, done, slot)
    if slot not in chosen.state.filled():
        having = [name for _, name, one in done if slot in one.state().filled()]
        raise ChainError(
            f"step {chosen.name!r} left no {slot}",
            where=str(folder.path),
            hint=f"steps that did: {', '.join(having) or 'none'}",
        )
    if damage := chosen.finished.damage(hashes=False):
        raise ChainError(f"step {chosen.name!r} is not whole: {damage}", where=str(folder.path))
    return chosen


def _named(folder: RunFolder, done: Sequence[tuple[int, str, Finished]], step: str) -> ChosenStep:
    for place, (number, name, _) in enumerate(done):
        if step in (name, f"{number}-{name}"):
            return _chosen(folder, done, place)
    raise ChainError(
        f"run {folder.name!r} has no finished step {step!r}",
        where=str(folder.path),
        hint=did_you_mean(step, [name for _, name, _ in done]),
    )


def _last(folder: RunFolder, done: Sequence[tuple[int, str, Finished]], slot: Slot) -> ChosenStep:
    for place in reversed(range(len(done))):
        chosen = _chosen(folder, done, place)
        if slot in chosen.state.filled():
            return chosen
    raise ChainError(
        f"no finished step of run {folder.name!r} left a {slot}", where=str(folder.path)
    )


def _chosen(folder: RunFolder, done: Sequence[tuple[int, str, Finished]], place: int) -> ChosenStep:
    number, name, finished = done[place]
    return ChosenStep(
        run=folder,
        number=number,
        name=name,
        finished=finished,
        state=finished.state(),
        before=tuple(done[: place + 1]),
    )

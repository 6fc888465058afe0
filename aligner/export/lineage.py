"""Read the history of a model from its run: steps, inputs, data and metrics."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import constants

from aligner.run.folder import RunFolder
from aligner.run.selection import SelectedStep
from aligner.run.store import FinishedStep
from aligner.state import ModelState, Slot

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


@dataclass(frozen=True, kw_only=True)
class DatasetRecord:
    """A data set that a step read."""

    option: str
    """Option that names it."""
    name: str
    """File names without folders, Hub ids, or data sources."""
    hash: str
    """SHA-256 of its content and of the options for reading it."""
    ledger: Mapping[str, Any]
    """Counts of rows used and removed; empty if the step recorded none."""


@dataclass(frozen=True, kw_only=True)
class LineageStep:
    """A step in the history of a model."""

    number: int
    name: str
    stage: str
    plugin: str
    """Name and version."""
    seed: int | None
    options: Mapping[str, Any]
    """Options that determine the result."""
    inputs: tuple[str, ...]
    """Slots it read, with the step that filled each and the content's hash."""
    outputs: tuple[str, ...]
    """Slots it filled, with the content's hash."""
    data: tuple[DatasetRecord, ...]
    metrics: Mapping[str, float]
    seconds: float
    fingerprint: str


@dataclass(frozen=True, kw_only=True)
class Lineage:
    """The history of a model."""

    run: str
    step: str
    """Step that trained the model."""
    steps: tuple[LineageStep, ...]
    base: str | None
    """Hub id of the base model; None if it was a folder or the chain began without a model."""
    base_revision: str | None
    hub_datasets: tuple[str, ...]
    """Hub ids of the data sets, in the order of use."""
    versions: Mapping[str, str]
    """Versions of the libraries at the last step."""


def read_lineage(step: SelectedStep, slot: Slot) -> Lineage:
    """Return the steps up to `step`, as the history of the artifact in `slot`."""
    recipe = _recipe(step.run)
    entries = recipe.get("steps")
    written = [e for e in entries if isinstance(e, dict)] if isinstance(entries, list) else []
    base, revision = _base(step, recipe)
    hub_ids = tuple(dict.fromkeys(_hub_ids(written[: step.number])))
    steps, state = [], None
    for number, name, finished in step.before:
        steps.append(_step(number, name, finished, state, hub_ids))
        state = finished.state()
    return Lineage(
        run=step.run.name,
        step=step.made_by(slot),
        steps=tuple(steps),
        base=base,
        base_revision=revision,
        hub_datasets=hub_ids,
        versions=dict(step.finished.determinants.get("versions", {})),
    )


def _step(
    number: int,
    name: str,
    finished: FinishedStep,
    before: ModelState | None,
    hub_ids: tuple[str, ...],
) -> LineageStep:
    determinants = finished.determinants
    return LineageStep(
        number=number,
        name=name,
        stage=finished.stage,
        plugin=str(determinants.get("plugin", "")),
        seed=determinants.get("seed"),
        options=determinants.get("options", {}),
        inputs=tuple(_inputs(determinants.get("slots", {}), before)),
        outputs=tuple(_outputs(finished)),
        data=tuple(_datasets(finished, hub_ids)),
        metrics=finished.metrics,
        seconds=finished.seconds,
        fingerprint=finished.fingerprint,
    )


def _inputs(slots: Mapping[str, str], before: ModelState | None) -> Iterator[str]:
    for slot, digest in slots.items():
        artifact = before.find(slot) if before is not None else None
        known = artifact is not None and artifact.hash == digest
        step = artifact.made_by if artifact is not None and known else "model"
        source = "the base model" if step == "model" else f"step `{step}`"
        yield f"{slot} of {source} (`{digest[:12]}`)"


def _outputs(finished: FinishedStep) -> Iterator[str]:
    state = finished.state()
    for slot in sorted(set(finished.provides) & state.filled()):
        yield f"{slot} (`{state.get(slot).hash[:12]}`)"


def _datasets(finished: FinishedStep, hub_ids: tuple[str, ...]) -> Iterator[DatasetRecord]:
    ledgers = _read_json(finished.folder / "ledger.json")
    for option, digest in finished.determinants.get("data", {}).items():
        ledger = ledgers.get(option, {})
        names = str(ledger.get("name", "")).split(", ")
        # A model card must not publish the folders of somebody's machine.
        public = [name if name in hub_ids else Path(name).name for name in names]
        yield DatasetRecord(option=option, name=", ".join(public), hash=digest, ledger=ledger)


def _base(step: SelectedStep, recipe: Mapping[str, Any]) -> tuple[str | None, str | None]:
    for _, _, finished in step.before:
        policy = finished.state().policy
        if policy is not None and policy.revision is not None:
            return policy.path, policy.revision
    model = recipe.get("model")
    written = model if isinstance(model, dict) else {"path": model}
    path, revision = written.get("path"), written.get("revision")
    if not isinstance(path, str) or not _HUB_ID.fullmatch(path):
        return None, None
    # A Hub id and a relative folder look alike; what came from the Hub is in its cache.
    cached = Path(constants.HF_HUB_CACHE) / f"models--{path.replace('/', '--')}"
    folder = _recipe_folder(step.run)
    if not cached.is_dir() or (folder / path).is_dir():
        return None, None
    return path, revision if isinstance(revision, str) else None


def _recipe_folder(run: RunFolder) -> Path:
    """Return the folder of the recipe that started the run."""
    if run.journal.is_file():
        for text in run.journal.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                line = json.loads(text)
            except ValueError:
                continue
            if isinstance(line, dict) and line.get("event") == "run started":
                return Path(str(line.get("recipe", ""))).parent
    return Path()


def _hub_ids(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("hub"), str):
            yield value["hub"]
        for inner in value.values():
            yield from _hub_ids(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _hub_ids(inner)


def _recipe(run: RunFolder) -> Mapping[str, Any]:
    raw = yaml.safe_load(run.recipe.read_text(encoding="utf-8"))
    return raw if isinstance(raw, dict) else {}


def _read_json(path: Path) -> Mapping[str, Any]:
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return raw if isinstance(raw, dict) else {}

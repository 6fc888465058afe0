"""Read from a run all that a model card tells: steps, what each took, its data and its metrics."""

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
class DataSet:
    """Data that a step read."""

    option: str
    """The option that names it."""
    name: str
    """Files without their folders, hub ids, or sources."""
    hash: str
    """SHA-256 of its content and of how it was read."""
    ledger: Mapping[str, Any]
    """What became of its rows; empty where the step kept no account."""


@dataclass(frozen=True, kw_only=True)
class LineageStep:
    """A step as a card tells it."""

    number: int
    name: str
    stage: str
    plugin: str
    """With its version."""
    seed: int | None
    options: Mapping[str, Any]
    """All that determine the result."""
    took: tuple[str, ...]
    """Each slot it read, who had filled it, and the content's hash."""
    left: tuple[str, ...]
    """Each slot it filled, and the content's hash."""
    data: tuple[DataSet, ...]
    metrics: Mapping[str, float]
    seconds: float
    fingerprint: str


@dataclass(frozen=True, kw_only=True)
class Lineage:
    """Where a model comes from."""

    run: str
    plugin_version: str
    """The step that made the model."""
    links: tuple[LineageStep, ...]
    base: str | None
    """Hub id of the model the chain began with; None where it was a folder, or nothing."""
    base_revision: str | None
    data_sets: tuple[str, ...]
    """Hub ids of the data, in the order of use."""
    versions: Mapping[str, str]
    """Of the libraries, at the last step."""


def lineage_of(chosen: SelectedStep, slot: Slot) -> Lineage:
    """The chain up to `chosen`, as the story of what is in `slot`."""
    recipe = _recipe(chosen.run)
    steps = recipe.get("steps")
    written = [one for one in steps if isinstance(one, dict)] if isinstance(steps, list) else []
    base, revision = _base(chosen, recipe)
    hub = tuple(dict.fromkeys(_hub_ids(written[: chosen.number])))
    links, before = [], None
    for number, name, finished in chosen.before:
        links.append(_link(number, name, finished, before, hub))
        before = finished.state()
    return Lineage(
        run=chosen.run.name,
        plugin_version=chosen.made_by(slot),
        links=tuple(links),
        base=base,
        base_revision=revision,
        data_sets=hub,
        versions=dict(chosen.finished.determinants.get("versions", {})),
    )


def _link(
    number: int, name: str, finished: FinishedStep, before: ModelState | None, hub: tuple[str, ...]
) -> LineageStep:
    facts = finished.determinants
    return LineageStep(
        number=number,
        name=name,
        stage=finished.stage,
        plugin=str(facts.get("plugin", "")),
        seed=facts.get("seed"),
        options=facts.get("options", {}),
        took=tuple(_took(facts.get("slots", {}), before)),
        left=tuple(_left(finished)),
        data=tuple(_data(finished, hub)),
        metrics=finished.metrics,
        seconds=finished.seconds,
        fingerprint=finished.fingerprint,
    )


def _took(slots: Mapping[str, str], before: ModelState | None) -> Iterator[str]:
    for slot, digest in slots.items():
        there = before.find(slot) if before is not None else None
        plugin_version = there.made_by if there is not None and there.hash == digest else "model"
        whose = (
            "the model the chain began with"
            if plugin_version == "model"
            else f"step `{plugin_version}`"
        )
        yield f"{slot} of {whose} (`{digest[:12]}`)"


def _left(finished: FinishedStep) -> Iterator[str]:
    state = finished.state()
    for slot in sorted(set(finished.provides) & state.filled()):
        yield f"{slot} (`{state.get(slot).hash[:12]}`)"


def _data(finished: FinishedStep, hub: tuple[str, ...]) -> Iterator[DataSet]:
    ledgers = _json(finished.folder / "ledger.json")
    for option, digest in finished.determinants.get("data", {}).items():
        ledger = ledgers.get(option, {})
        names = str(ledger.get("name", "")).split(", ")
        # Where files lay on somebody's machine is nobody else's business.
        shown = [name if name in hub else Path(name).name for name in names]
        yield DataSet(option=option, name=", ".join(shown), hash=digest, ledger=ledger)


def _base(chosen: SelectedStep, recipe: Mapping[str, Any]) -> tuple[str | None, str | None]:
    for _, _, finished in chosen.before:
        policy = finished.state().policy
        if policy is not None and policy.revision is not None:
            return policy.path, policy.revision
    model = recipe.get("model")
    written = model if isinstance(model, dict) else {"path": model}
    path, revision = written.get("path"), written.get("revision")
    if not isinstance(path, str) or not _HUB_ID.fullmatch(path):
        return None, None
    # A hub id and a relative folder look alike; what came from the hub is in its cache.
    cached = Path(constants.HF_HUB_CACHE) / f"models--{path.replace('/', '--')}"
    beside = _begun_beside(chosen.run)
    if not cached.is_dir() or (beside / path).is_dir():
        return None, None
    return path, revision if isinstance(revision, str) else None


def _begun_beside(run: RunFolder) -> Path:
    """The folder of the recipe that the run was started with."""
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


def _json(path: Path) -> Mapping[str, Any]:
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return raw if isinstance(raw, dict) else {}

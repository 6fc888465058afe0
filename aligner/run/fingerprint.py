"""Determinants of a step: the content of its fingerprint."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from pydantic import BaseModel

from aligner.stage import Plan, Stage
from aligner.state import ModelState

LIBRARIES = ("torch", "transformers", "trl", "peft", "tokenizers", "accelerate", "bitsandbytes")
"""Libraries whose version may change the result of a step."""


def determinants(
    stage: Stage[Any],
    plan: Plan,
    state: ModelState,
    *,
    plugin_version: str,
    seed: int,
    past: Mapping[str, ModelState],
) -> dict[str, Any]:
    """Return everything that determines the result of `stage` on `state`.

    Its hash is the fingerprint of the step; the readable form explains why a step runs again.
    """
    return {
        "stage": stage.name,
        "plugin": plugin_version,
        "reward_functions": dict(plan.reward_functions),
        "options": determining_options(stage.options),
        "slots": _hashes(state, stage.requires | stage.uses),
        "past": {name: _hashes(past[name], past[name].filled()) for name in stage.earlier_steps},
        "step_rows": {
            option: past[name].get("data").hash
            for option, name in stage.options.rows_from().items()
        },
        "data": dict(plan.data),
        "seed": seed,
        "versions": {name: _version(name) for name in LIBRARIES},
    }


def determining_options(options: BaseModel) -> dict[str, Any]:
    """Return the options, nested ones too, without those marked `determines: False`."""
    determining: dict[str, Any] = {}
    for name, field in type(options).model_fields.items():
        extra = field.json_schema_extra
        if not (isinstance(extra, dict) and extra.get("determines") is False):
            determining[name] = _plain(getattr(options, name))
    return determining


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return determining_options(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, set | frozenset):
        return sorted(_plain(entry) for entry in value)
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _hashes(state: ModelState, slots: frozenset[Any]) -> dict[str, str]:
    return {slot: state.get(slot).hash for slot in sorted(slots & state.filled())}


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return "absent"

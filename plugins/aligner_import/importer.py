"""Import the files of a tool by its table of settings, and link their steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from aligner import AlignerError, ConfigImporter, ExternalConfig, ImportNote, ImportResult
from aligner.kit.declare import ChainError, ErrorGroup, did_you_mean, show
from aligner_import.rules import NoCounterpart, Rule, is_empty, parse_bool
from aligner_import.step_draft import StepDraft

ADAPTER_SETTINGS = ("adapter_name_or_path", "lora_model_dir")
"""Settings with the path of an adapter to continue training."""
Stages = Mapping[str, type[BaseModel]]


@dataclass(frozen=True, kw_only=True)
class Importer:
    """Importer for the configuration files of another tool."""

    name: str
    title: str
    identifying: frozenset[str]
    """Settings that only this tool has; any of them identifies its files."""
    method: Callable[[ExternalConfig], str]
    """Return the equivalent stage; raise ChainError if there is none."""
    rules: tuple[Rule, ...]
    composers: tuple[Callable[[StepDraft], None], ...]
    """Functions that read several settings together, called in this order after the rules."""
    result: str = "output_dir"
    """Setting with the output folder, by which a later file refers to the result."""
    method_settings: frozenset[str] = frozenset()
    """Settings that `method` reads."""
    policy_settings: tuple[str, ...] = ()
    """Settings by which a file refers to an earlier file's policy."""

    def rule(self, key: str, stage: str) -> Rule | None:
        candidates = [rule for rule in self.rules if rule.key == key]
        return next(
            (rule for rule in candidates if not rule.methods or stage in rule.methods), None
        )


def make_importer(importer: Importer) -> ConfigImporter:
    """Make the importer that the hook returns from a tool's tables."""
    return ConfigImporter(
        name=importer.name,
        recognize=lambda settings: bool(importer.identifying & settings.keys()),
        translate=lambda files, stages: import_files(importer, files, stages),
    )


def import_files(
    importer: Importer, files: Sequence[ExternalConfig], stages: Stages
) -> ImportResult:
    """Import the files, in order, as one chain.

    Raises:
        ChainError, ErrorGroup: A setting that determines the result has no equivalent.
    """
    errors: list[AlignerError] = []
    drafts: list[StepDraft] = []
    for config in files:
        try:
            drafts.append(_draft_step(importer, config, stages))
        except AlignerError as error:
            errors.append(error)
    errors += [error for draft in drafts for error in draft.errors]
    ErrorGroup.raise_if_any(errors)
    _link_steps(importer, drafts)
    for draft in drafts:
        _note_unused(importer, draft)
    ErrorGroup.raise_if_any([error for draft in drafts for error in draft.errors])
    recipe = dict(drafts[0].head)
    recipe["steps"] = [*_chat_step(drafts), *_name_steps(draft.step() for draft in drafts)]
    return ImportResult(
        recipe=recipe,
        notes=tuple(note for draft in drafts for note in _sort_by_line(draft.notes)),
        taken=sum(draft.taken for draft in drafts),
    )


def _draft_step(importer: Importer, config: ExternalConfig, stages: Stages) -> StepDraft:
    stage = importer.method(config)
    if stage not in stages:
        raise ChainError(
            f"this file needs the stage {stage!r}, which no enabled plugin offers",
            where=config.where,
            hint=did_you_mean(stage, stages),
        )
    draft = StepDraft(config, importer.title, stage, stages[stage])
    for key, value in config.settings.items():
        _apply_rule(importer, draft, key, value)
    for rule in importer.rules:
        is_unset = is_empty(config.settings.get(rule.key))
        if is_unset and rule.default is not None and rule == importer.rule(rule.key, stage):
            draft.add(rule.to, rule.convert(rule.default), rule.key)
    for composer in importer.composers:
        try:
            composer(draft)
        except AlignerError as error:
            draft.errors.append(error)
        except (TypeError, ValueError, AttributeError) as error:  # a value of another kind
            message = f"a value has another type than {importer.title} takes: {error}"
            draft.errors.append(ChainError(message, where=config.where))
    return draft


def _apply_rule(importer: Importer, draft: StepDraft, key: str, value: Any) -> None:
    rule = importer.rule(key, draft.stage)
    if is_empty(value):
        draft.add_note("default", key, "it is not set")
    elif rule is None:
        _note_unknown(importer, draft, key, value)
    elif rule.ignored:
        draft.add_note("not needed", key, rule.ignored)
    elif rule.unsupported and value in rule.harmless:
        draft.add_note("default", key, f"{show(value)} is the default")
    elif rule.unsupported and rule.decides:
        draft.add_error(key, f"{key}: {rule.unsupported}")
    elif rule.unsupported:
        draft.add_note("no counterpart", key, rule.unsupported)
    elif not rule.composed:
        _convert(draft, rule, key, value)
    elif rule.differs and value is not False:
        draft.add_note("other meaning", key, rule.differs)


def _note_unknown(importer: Importer, draft: StepDraft, key: str, value: Any) -> None:
    known = {rule.key for rule in importer.rules}
    if key in known and value is False:
        draft.add_note("default", key, "false is the default")
    elif key in known:
        draft.add_note("no counterpart", key, f"the stage {draft.stage!r} has no such option")
    else:
        suggestion = did_you_mean(key, known)
        text = f"not a known setting of {importer.title}"
        draft.add_note(
            "no counterpart", key, f"{text}; {suggestion}" if suggestion.startswith("did") else text
        )


def _convert(draft: StepDraft, rule: Rule, key: str, value: Any) -> None:
    try:
        converted = rule.convert(value)
    except NoCounterpart as error:
        draft.add_note("no counterpart", key, str(error))
        return
    except (TypeError, ValueError):
        draft.add_note("no counterpart", key, f"{show(value)} cannot be read")
        return
    if converted is None:
        draft.add_note("default", key, f"{show(value)} sets nothing")
    else:
        draft.put(rule.to, converted, key, differs=rule.differs)


def _link_steps(importer: Importer, drafts: Sequence[StepDraft]) -> None:
    """Link each step to the results of the steps before it."""
    before: list[StepDraft] = []
    for draft in drafts:
        policies = [earlier for earlier in before if earlier.stage != "reward"]
        results = {str(earlier.get(importer.result)) for earlier in before}
        continued = [key for key in importer.policy_settings if draft.get(key) in results]
        for key in ADAPTER_SETTINGS:
            if draft.has(key) and key not in continued:
                what = f"{key}: a chain cannot start from an adapter"
                hint = (
                    "merge it into the model first, or give the file that trains it before this one"
                )
                draft.add_error(key, what, hint)
        if policies and not continued:
            text = "the step starts from the previous step, not from its own base model"
            draft.add_note("other meaning", importer.policy_settings[0], text)
        # A reward model is a copy of the policy, into which adapters are merged.
        if draft.stage != "reward" and any(
            "adapter.method" in earlier.options for earlier in policies
        ):
            is_new = parse_bool(draft.get("create_new_adapter")) or not set(ADAPTER_SETTINGS) & set(
                continued
            )
            if "adapter.method" in draft.options and is_new:
                draft.options["incoming"] = "merge"
            else:
                for option in [name for name in draft.options if name.startswith("adapter.")]:
                    del draft.options[option]
                draft.options["incoming"] = "continue"
        if draft.stage == "ppo" and not any(earlier.stage == "reward" for earlier in before):
            what = "the reward model is trained by another file, and the chain needs it as a step"
            hint = (
                f"give that file before this one: aligner import REWARD.yaml {draft.config.where}"
            )
            draft.add_error("reward_model", what, hint)
        before.append(draft)


def _note_unused(importer: Importer, draft: StepDraft) -> None:
    """Add notes for settings without effect, such as `lora_alpha` without LoRA."""
    noted = {note.key for note in draft.notes}
    for key, value in draft.config.settings.items():
        rule = importer.rule(key, draft.stage)
        silent = rule is not None and rule.composed and key not in noted and draft.unread(key)
        if silent and not is_empty(value) and key not in importer.method_settings:
            draft.add_note("not needed", key, "it has no effect in this file")


def _chat_step(drafts: Sequence[StepDraft]) -> list[dict[str, Any]]:
    """Return the chat step, if any step has a template; all must have the same."""
    with_chat = [draft for draft in drafts if draft.chat]
    for draft in with_chat[1:]:
        if draft.chat != with_chat[0].chat:
            raise ChainError(
                f"its chat template is {draft.chat.get('template')!r}, but that of "
                f"{with_chat[0].config.where} is {with_chat[0].chat.get('template')!r}",
                where=draft.config.where,
                hint="a chain has a single template: use the same in all files",
            )
    return [{"stage": "chat", **with_chat[0].chat}] if with_chat else []


def _name_steps(steps: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the steps, with names where a stage occurs twice."""
    named: list[dict[str, Any]] = []
    for step in steps:
        same = sum(earlier["stage"] == step["stage"] for earlier in named)
        name = {"as": f"{step['stage']}-{same + 1}"} if same else {}
        named.append({"stage": step["stage"], **name, **step})
    return named


def _sort_by_line(notes: Sequence[ImportNote]) -> list[ImportNote]:
    def line(note: ImportNote) -> int:
        number = note.where.rpartition(":")[2]
        return int(number) if number.isdecimal() else 10**9

    return sorted(notes, key=line)

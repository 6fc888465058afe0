"""Read one tool's files by its table, and link the steps they make."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aligner.errors import AlignerError, ChainError, ErrorGroup, did_you_mean
from aligner.recipe.tree import show
from aligner.registry import ConfigImporter, ExternalConfig, ImportNote, ImportResult
from aligner.stage import Stage
from aligner_import.draft import StepDraft
from aligner_import.rules import NoCounterpart, Rule, is_empty, switch

ADAPTERS = ("adapter_name_or_path", "lora_model_dir")
"""Settings that name an adapter to train further."""
Stages = Mapping[str, type[Stage[Any]]]


@dataclass(frozen=True, kw_only=True)
class Importer:
    """Another tool: how its files are told, its table, and what its settings say together."""

    name: str
    title: str
    signs: frozenset[str]
    """Settings that no other of these tools has; a file with any of them is this tool's."""
    method: Callable[[ExternalConfig], str]
    """The stage that does what the file does; raises ChainError where there is none."""
    rules: tuple[Rule, ...]
    composers: tuple[Callable[[StepDraft], None], ...]
    """Read the settings that are parts, in this order, after the rules."""
    result: str = "output_dir"
    """The setting that says where the result goes, by which another file takes it up."""
    deciding: frozenset[str] = frozenset()
    """The settings that `method` reads."""
    begins: tuple[str, ...] = ()
    """The settings by which a file takes up another's policy."""

    def rule(self, key: str, stage: str) -> Rule | None:
        found = [one for one in self.rules if one.key == key]
        return next((one for one in found if not one.methods or stage in one.methods), None)


def translation(peer: Importer) -> ConfigImporter:
    return ConfigImporter(
        name=peer.name,
        recognize=lambda settings: bool(peer.signs & settings.keys()),
        translate=lambda files, stages: translate(peer, files, stages),
    )


def translate(peer: Importer, files: Sequence[ExternalConfig], stages: Stages) -> ImportResult:
    """One chain from the files, in order.

    Raises:
        ChainError, Errors: Something that decides the result has no counterpart.
    """
    errors: list[AlignerError] = []
    drafts: list[StepDraft] = []
    for foreign in files:
        try:
            drafts.append(_drafted(peer, foreign, stages))
        except AlignerError as error:
            errors.append(error)
    errors += [error for draft in drafts for error in draft.errors]
    ErrorGroup.raise_if_any(errors)
    _link(peer, drafts)
    for draft in drafts:
        _unused(peer, draft)
    ErrorGroup.raise_if_any([error for draft in drafts for error in draft.errors])
    recipe = dict(drafts[0].head)
    recipe["steps"] = [*_chat(drafts), *_named(draft.step() for draft in drafts)]
    return ImportResult(
        recipe=recipe,
        notes=tuple(remark for draft in drafts for remark in _by_line(draft.notes)),
        taken=sum(draft.taken for draft in drafts),
    )


def _drafted(peer: Importer, foreign: ExternalConfig, stages: Stages) -> StepDraft:
    stage = peer.method(foreign)
    if stage not in stages:
        raise ChainError(
            f"this needs the stage {stage!r}, which no plugin in use offers",
            where=foreign.where,
            hint=did_you_mean(stage, stages),
        )
    draft = StepDraft(foreign, peer.title, stage, stages[stage].Options)
    for key, value in foreign.settings.items():
        _apply(peer, draft, key, value)
    for rule in peer.rules:
        unsaid = is_empty(foreign.settings.get(rule.key))
        if unsaid and rule.default is not None and rule == peer.rule(rule.key, stage):
            draft.add(rule.to, rule.convert(rule.default), rule.key)
    for composer in peer.composers:
        try:
            composer(draft)
        except AlignerError as error:
            draft.errors.append(error)
        except (TypeError, ValueError, AttributeError) as error:  # a value of another kind
            what = f"a value is of another kind than {peer.title} takes: {error}"
            draft.errors.append(ChainError(what, where=foreign.where))
    return draft


def _apply(peer: Importer, draft: StepDraft, key: str, value: Any) -> None:
    rule = peer.rule(key, draft.stage)
    if is_empty(value):
        draft.say("default", key, "nothing is said")
    elif rule is None:
        _unknown(peer, draft, key, value)
    elif rule.ignored:
        draft.say("not needed", key, rule.ignored)
    elif rule.unsupported and value in rule.harmless:
        draft.say("default", key, f"{show(value)} is what happens here anyway")
    elif rule.unsupported and rule.decides:
        draft.refuse(key, f"{key}: {rule.unsupported}")
    elif rule.unsupported:
        draft.say("no counterpart", key, rule.unsupported)
    elif not rule.part:
        _convert(draft, rule, key, value)
    elif rule.differs and value is not False:
        draft.say("other meaning", key, rule.differs)


def _unknown(peer: Importer, draft: StepDraft, key: str, value: Any) -> None:
    known = {one.key for one in peer.rules}
    if key in known and value is False:
        draft.say("default", key, "false is what happens here anyway")
    elif key in known:
        draft.say("no counterpart", key, f"the stage {draft.stage!r} has nothing like it")
    else:
        near = did_you_mean(key, known)
        text = f"not a setting of {peer.title}'s that is known here"
        draft.say("no counterpart", key, f"{text}; {near}" if near.startswith("did") else text)


def _convert(draft: StepDraft, rule: Rule, key: str, value: Any) -> None:
    try:
        made = rule.convert(value)
    except NoCounterpart as error:
        draft.say("no counterpart", key, str(error))
        return
    except (TypeError, ValueError):
        draft.say("no counterpart", key, f"{show(value)} cannot be read")
        return
    if made is None:
        draft.say("default", key, f"{show(value)} sets nothing")
    else:
        draft.put(rule.to, made, key, differs=rule.differs)


def _link(peer: Importer, drafts: Sequence[StepDraft]) -> None:
    """Say how each file takes up what the ones before it leave."""
    before: list[StepDraft] = []
    for draft in drafts:
        policies = [one for one in before if one.stage != "reward"]
        results = {str(one.get(peer.result)) for one in before}
        taken_up = [key for key in peer.begins if draft.get(key) in results]
        for key in ADAPTERS:
            if draft.has(key) and key not in taken_up:
                what = f"{key}: a chain cannot begin with an adapter beside its model"
                hint = "merge it into the model first, or name the file that trained it before this"
                draft.refuse(key, what, hint)
        if policies and not taken_up:
            text = "it begins with what the steps before leave, not with a model of its own"
            draft.say("other meaning", peer.begins[0], text)
        # A reward model is a copy of the policy, into which adapters are merged.
        if draft.stage != "reward" and any("adapter.method" in one.options for one in policies):
            anew = switch(draft.get("create_new_adapter")) or not set(ADAPTERS) & set(taken_up)
            if "adapter.method" in draft.options and anew:
                draft.options["incoming"] = "merge"
            else:
                for option in [one for one in draft.options if one.startswith("adapter.")]:
                    del draft.options[option]
                draft.options["incoming"] = "continue"
        if draft.stage == "ppo" and not any(one.stage == "reward" for one in before):
            what = "the reward model is trained by another file, and a chain needs it as a step"
            hint = (
                f"name that file before this one: aligner import REWARD.yaml {draft.foreign.where}"
            )
            draft.refuse("reward_model", what, hint)
        before.append(draft)


def _unused(peer: Importer, draft: StepDraft) -> None:
    """Say which settings have no part in what the file does, `lora_alpha` without LoRA for one."""
    spoken = {remark.key for remark in draft.notes}
    for key, value in draft.foreign.settings.items():
        rule = peer.rule(key, draft.stage)
        silent = rule is not None and rule.part and key not in spoken and draft.unread(key)
        if silent and not is_empty(value) and key not in peer.deciding:
            draft.say("not needed", key, "it has no part in what this file does")


def _chat(drafts: Sequence[StepDraft]) -> list[dict[str, Any]]:
    """The chat step, where any step speaks in a template; all must speak in one."""
    said = [draft for draft in drafts if draft.chat]
    for draft in said[1:]:
        if draft.chat != said[0].chat:
            raise ChainError(
                f"it speaks in template {draft.chat.get('template')!r}, and "
                f"{said[0].foreign.where} in {said[0].chat.get('template')!r}",
                where=draft.foreign.where,
                hint="a chain has one template; make the files agree",
            )
    return [{"stage": "chat", **said[0].chat}] if said else []


def _named(steps: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The steps, the second of a kind under a name of its own."""
    made: list[dict[str, Any]] = []
    for step in steps:
        same = sum(one["stage"] == step["stage"] for one in made)
        name = {"as": f"{step['stage']}-{same + 1}"} if same else {}
        made.append({"stage": step["stage"], **name, **step})
    return made


def _by_line(notes: Sequence[ImportNote]) -> list[ImportNote]:
    def line(remark: ImportNote) -> int:
        number = remark.where.rpartition(":")[2]
        return int(number) if number.isdecimal() else 10**9

    return sorted(notes, key=line)

"""Export a step's model: weights proven, tokenizer and settings right, card written, then in place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from aligner.data.encoding.tokenizers import load_tokenizer, save_tokenizer
from aligner.export.card import card
from aligner.export.gguf import add_gguf, find_converter
from aligner.export.hub import check_hub, push
from aligner.export.lineage import lineage_of
from aligner.export.place import beside, check_place
from aligner.export.spec import Exported, ExportError, Wanted
from aligner.export.weights import write_weights
from aligner.models.files import verify
from aligner.run.chosen import ChosenStep
from aligner.state import Artifact, ModelCache


def export_step(
    chosen: ChosenStep, wanted: Wanted, *, tell: Callable[[str], None] = lambda text: None
) -> Exported:
    """Write the model of `chosen` as `wanted`, whole and proven or not at all.

    Args:
        chosen: The step.
        wanted: What, how and where.
        tell: Hears what is done next.

    Raises:
        ExportError: It cannot be as asked; nothing was written.
        ExportFailed: It did not come out right; nothing was written, unless only the push failed.
        ModelError: The run's own files are damaged.
    """
    wanted.check()
    artifact = chosen.artifact(wanted.slot)
    where = str(chosen.run.link_of(chosen.number, chosen.name))
    check_place(wanted.to, (artifact, *_slots(chosen)), force=wanted.force)
    converter = None if wanted.gguf is None else find_converter(wanted.gguf)
    if wanted.push_to is not None:
        check_hub(wanted.push_to)
        _check_pushable(artifact, wanted)
    tell("checking the run's files")
    verify(artifact, where=where)
    tokenizer = _tokenizer(chosen, artifact, wanted, where=where)
    name = wanted.push_to.split("/")[1] if wanted.push_to else wanted.to.absolute().name
    with beside(wanted.to) as folder:
        tell("writing the weights and loading them back")
        proof, dtype = write_weights(artifact, tokenizer, folder, wanted, where=where)
        save_tokenizer(tokenizer, folder)
        base = artifact.path if wanted.form == "adapter" else None
        text = card(
            lineage_of(chosen, wanted.slot),
            wanted,
            proof,
            name=name,
            dtype=_name(dtype),
            base=base,
            template=bool(tokenizer.chat_template),
        )
        (folder / "README.md").write_text(text, encoding="utf-8")
        made = None
        if converter is not None and wanted.gguf is not None:
            tell("converting to GGUF")
            made = add_gguf(folder, converter, wanted.gguf, name=name)
        octets = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    exported = Exported(
        folder=wanted.to,
        form=wanted.form,
        dtype=_name(dtype),
        proof=proof,
        base=base,
        gguf=None if made is None else wanted.to / made.name,
        octets=octets,
        notes=tuple(_notes(artifact, wanted)),
    )
    if wanted.push_to is None:
        return exported
    tell(f"pushing to {wanted.push_to}")
    return replace(exported, url=push(wanted.to, wanted.push_to, private=wanted.private))


def _tokenizer(chosen: ChosenStep, artifact: Artifact, wanted: Wanted, *, where: str) -> Any:
    """The tokenizer of the model: the one in its own folder if it has one, as reward models do."""
    own = Path(artifact.adapters[-1] if artifact.adapters else artifact.path)
    if wanted.slot == "reward" and (own / "tokenizer.json").is_file():
        return load_tokenizer(Artifact(path=str(own)), ModelCache(), where=where)
    return load_tokenizer(chosen.artifact("tokenizer"), ModelCache(), where=where)


def _slots(chosen: ChosenStep) -> list[Artifact]:
    return [chosen.state.get(slot) for slot in chosen.state.filled()]


def _check_pushable(artifact: Artifact, wanted: Wanted) -> None:
    if wanted.form == "adapter" and artifact.local:
        raise ExportError(
            f"the adapter's base is a folder of this machine, {artifact.path}",
            hint="push it merged: nobody else could load the adapter",
        )


def _notes(artifact: Artifact, wanted: Wanted) -> list[str]:
    notes = []
    if wanted.form == "adapter" and artifact.local:
        notes.append(f"it works only where its base is: {artifact.path}")
    if wanted.license is None:
        notes.append("the card states no licence; --license adds one")
    return notes


def _name(dtype: Any) -> str:
    return str(dtype).removeprefix("torch.")

"""Export a step's model: write and verify weights, tokenizer, settings and model card."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from aligner.data.encoding.tokenizers import load_tokenizer, save_tokenizer
from aligner.errors import error_location
from aligner.export.card import model_card
from aligner.export.gguf import add_gguf, find_converter
from aligner.export.hub import check_hub, push
from aligner.export.lineage import read_lineage
from aligner.export.options import ExportError, ExportOptions
from aligner.export.output_folder import check_output_folder, new_output_folder
from aligner.export.result import ExportResult
from aligner.export.weights import write_weights
from aligner.models.files import verify
from aligner.run.selection import SelectedStep
from aligner.state import Artifact, ModelCache


def export_step(
    step: SelectedStep,
    options: ExportOptions,
    *,
    on_progress: Callable[[str], None] = lambda text: None,
) -> ExportResult:
    """Write and verify the model of a step; an error leaves no partial folder.

    Args:
        step: The step.
        options: Output folder and form.
        on_progress: Called with a description of each phase when it starts.

    Raises:
        ExportError: The options are impossible for this model; nothing was written.
        ExportFailed: The export failed; nothing was written, unless only the upload failed.
        ModelError: The run's own files are damaged.
    """
    options.check()
    artifact = step.artifact(options.slot)
    where = str(step.run.link_of(step.number, step.name))
    check_output_folder(options.to, (artifact, *_artifacts(step)), force=options.force)
    converter = None if options.gguf is None else find_converter(options.gguf)
    if options.push_to is not None:
        check_hub(options.push_to)
        _check_pushable(artifact, options)
    on_progress("checking the run's files")
    with error_location(where):
        verify(artifact)
        tokenizer = _tokenizer(step, artifact, options)
        _check_form(artifact, options)
    name = options.push_to.split("/")[1] if options.push_to else options.to.absolute().name
    with new_output_folder(options.to) as folder:
        on_progress("writing the weights and loading them back")
        verification, dtype = write_weights(artifact, tokenizer, folder, options)
        save_tokenizer(tokenizer, folder)
        result = ExportResult(
            folder=options.to,
            form=options.form,
            dtype=str(dtype).removeprefix("torch."),
            verification=verification,
            base=artifact.path if options.form == "adapter" else None,
            notes=tuple(_notes(artifact, options)),
        )
        _write_card(step, options, result, folder, name=name, template=tokenizer.chat_template)
        if converter is not None and options.gguf is not None:
            on_progress("converting to GGUF")
            gguf = add_gguf(folder, converter, options.gguf, name=name)
            result = replace(result, gguf=options.to / gguf.name)
        num_bytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    result = replace(result, num_bytes=num_bytes)
    if options.push_to is None:
        return result
    on_progress(f"uploading to {options.push_to}")
    return replace(result, url=push(options.to, options.push_to, private=options.private))


def _write_card(
    step: SelectedStep,
    options: ExportOptions,
    result: ExportResult,
    folder: Path,
    *,
    name: str,
    template: str | None,
) -> None:
    text = model_card(
        read_lineage(step, options.slot),
        options,
        result.verification,
        name=name,
        dtype=result.dtype,
        base=result.base,
        template=bool(template),
    )
    (folder / "README.md").write_text(text, encoding="utf-8")


def _tokenizer(step: SelectedStep, artifact: Artifact, options: ExportOptions) -> Any:
    """Load the model's tokenizer: from the model's own folder, as reward models have, or the slot."""
    own = Path(artifact.adapters[-1] if artifact.adapters else artifact.path)
    if options.slot == "reward" and (own / "tokenizer.json").is_file():
        return load_tokenizer(Artifact(path=str(own)), ModelCache())
    return load_tokenizer(step.artifact("tokenizer"), ModelCache())


def _artifacts(step: SelectedStep) -> list[Artifact]:
    return [step.state.get(slot) for slot in step.state.filled()]


def _check_form(artifact: Artifact, options: ExportOptions) -> None:
    count = len(artifact.adapters)
    if options.form == "adapter" and count != 1:
        raise ExportError(
            f"--adapter exports a single adapter, but the policy has "
            f"{f'a stack of {count}' if count else 'none'}",
            hint="export it merged, which is the default",
        )


def _check_pushable(artifact: Artifact, options: ExportOptions) -> None:
    if options.form == "adapter" and artifact.local:
        raise ExportError(
            f"the adapter's base model is a local folder, {artifact.path}",
            hint="upload it merged: nobody else could load the adapter",
        )


def _notes(artifact: Artifact, options: ExportOptions) -> list[str]:
    notes = []
    if options.form == "adapter" and artifact.local:
        notes.append(f"the adapter needs its base model in this folder: {artifact.path}")
    if options.license is None:
        notes.append("the model card states no license; --license adds one")
    return notes

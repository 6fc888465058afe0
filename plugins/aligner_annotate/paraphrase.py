"""Ask for every paraphrase, take what may be one, and write the rows that are made of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from aligner.data.encoding.tokenizers import load_tokenizer
from aligner.data.reading.step_datasets import save_rows
from aligner.errors import StageError
from aligner.run.durable import write_lines
from aligner.stage import StepContext
from aligner.state import Artifact, ModelState
from aligner_annotate.answers import Share, candidates, gathered, write_answers
from aligner_annotate.paraphrase_stage import ParaphraseOptions
from aligner_annotate.reword import Requests, requests_of, rows_with, taken
from aligner_annotate.work import Work


def paraphrase(options: ParaphraseOptions, state: ModelState, context: StepContext) -> Artifact:
    """The whole work of a paraphrase step. Returns the rows it leaves.

    Raises:
        StageError: nothing that was written is a paraphrase.
    """
    tokenizer = load_tokenizer(state.get("tokenizer"), context.model_cache, where=context.where)
    found = requests_of(options, context, tokenizer)
    tokens = [one.input_ids for one in found.requests]
    share = Share(
        [len(ids) for ids in tokens],
        samples=options.versions,
        batch_size=options.batch_size,
        passes=1,
        context=context,
    )
    work = Work(context.folder, "written", rank=context.rank)
    write_answers(tokens, share, work, options, tokenizer, state, context)

    def make() -> Artifact:
        made = _made(found, work.done(), options, context)
        work.forget()
        return made

    return gathered(context, make)


def _made(
    found: Requests,
    written: Mapping[int, Mapping[str, Any]],
    options: ParaphraseOptions,
    context: StepContext,
) -> Artifact:
    dropped: Counter[str] = Counter()
    said = [candidates(written[number]) for number in range(len(found.requests))]
    texts = [
        taken(request, answers, options, dropped)
        for request, answers in zip(found.requests, said, strict=True)
    ]
    shown = [
        {"text": request.text, "answers": [one.text for one in answers], "taken": kept}
        for request, answers, kept in zip(found.requests, said, texts, strict=True)
    ]
    write_lines(context.folder / "answers.jsonl", shown)
    if not any(texts):
        reasons = ", ".join(f"{count} {why}" for why, count in dropped.items())
        raise StageError(
            f"not one of {sum(map(len, said))} answers is a paraphrase: {reasons}",
            where=context.where,
            hint=f"{context.folder / 'answers.jsonl'} has them all; a larger model may do better",
        )
    rows = rows_with(found, dict(enumerate(texts)), options.keep_originals)
    artifact = save_rows(rows, context.folder / "data", made_by=context.step)
    every: Sequence[Any] = [one for answers in said for one in answers]
    context.record(
        rows=len(rows),
        paraphrases=sum(map(len, texts)),
        without_paraphrase=sum(not one for one in texts),
        ended=fmean(one.ended for one in every),
        length_tokens=fmean(one.tokens for one in every),
        **{
            f"dropped_{why}": dropped[why]
            for why in ("unended", "empty", "unchanged", "identical", "length")
        },
    )
    # Written again when a step that was stopped here goes on.
    (context.folder / "samples.jsonl").unlink(missing_ok=True)
    context.samples(shown[: options.samples])
    return artifact

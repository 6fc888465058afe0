"""Generate paraphrases, accept those that may be some, and write rows made of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from aligner import Artifact, ModelState, StageError, StepContext
from aligner.kit.work import load_tokenizer, save_rows, write_after_shares, write_lines
from aligner_annotate.generation import (
    ProcessShare,
    candidates_of,
    generate_candidates,
)
from aligner_annotate.generation_log import GenerationLog
from aligner_annotate.options import ParaphraseOptions
from aligner_annotate.paraphrase_rows import (
    ParaphraseData,
    accept_paraphrases,
    read_requests,
    rows_with,
)


def paraphrase(options: ParaphraseOptions, state: ModelState, context: StepContext) -> Artifact:
    """Run a paraphrase step, and return its rows.

    Raises:
        StageError: no completion is a paraphrase.
    """
    tokenizer = load_tokenizer(state.get("tokenizer"), context.model_cache, where=context.where)
    data = read_requests(options, context, tokenizer)
    tokens = [request.input_ids for request in data.requests]
    share = ProcessShare(
        [len(ids) for ids in tokens],
        samples=options.versions,
        batch_size=options.batch_size,
        passes=1,
        context=context,
    )
    log = GenerationLog(context.folder, "written", rank=context.rank)
    generate_candidates(tokens, share, log, options, tokenizer, state, context)

    def make() -> Artifact:
        artifact = _write_rows(data, log.read(), options, context)
        log.delete()
        return artifact

    return write_after_shares(context.folder / "data", make)


def _write_rows(
    data: ParaphraseData,
    generated: Mapping[int, Mapping[str, Any]],
    options: ParaphraseOptions,
    context: StepContext,
) -> Artifact:
    dropped: Counter[str] = Counter()
    completions = [candidates_of(generated[index]) for index in range(len(data.requests))]
    texts = [
        accept_paraphrases(request, candidates, options, dropped)
        for request, candidates in zip(data.requests, completions, strict=True)
    ]
    samples = [
        {"text": request.text, "answers": [item.text for item in candidates], "taken": accepted}
        for request, candidates, accepted in zip(data.requests, completions, texts, strict=True)
    ]
    write_lines(context.folder / "answers.jsonl", samples)
    if not any(texts):
        reasons = ", ".join(f"{count} {reason}" for reason, count in dropped.items())
        raise StageError(
            f"none of {sum(map(len, completions))} completions is a paraphrase: {reasons}",
            hint=f"{context.folder / 'answers.jsonl'} lists all of them; a larger model may do better",
        )
    rows = rows_with(data, dict(enumerate(texts)), options.keep_originals)
    artifact = save_rows(rows, context.folder / "data", made_by=context.step)
    every: Sequence[Any] = [item for candidates in completions for item in candidates]
    context.record(
        rows=len(rows),
        paraphrases=sum(map(len, texts)),
        without_paraphrase=sum(not accepted for accepted in texts),
        ended=fmean(item.ended for item in every),
        length_tokens=fmean(item.tokens for item in every),
        **{
            f"dropped_{reason}": dropped[reason]
            for reason in ("unended", "empty", "unchanged", "identical", "length")
        },
    )
    # A step that was interrupted here writes the samples again.
    (context.folder / "samples.jsonl").unlink(missing_ok=True)
    context.samples(samples[: options.samples])
    return artifact

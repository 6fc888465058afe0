"""Show prompts as the policy will get them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aligner import Look
from aligner.data.chat import stop_tokens
from aligner.data.fitted import PromptTokens
from aligner.data.tokenizers import planned_tokenizer
from aligner.models.padding import left_padded
from aligner.preview import Asked, Section
from aligner.train.preview import Laid, Reader, answer_begins, section
from aligner_annotate.options import WritingOptions
from aligner_annotate.paraphrase_stage import ParaphraseConfig
from aligner_annotate.prompts import prompts_of
from aligner_annotate.reword import Request, requests_of
from aligner_annotate.stage import AnnotateConfig


def preview(config: AnnotateConfig, look: Look, asked: Asked) -> tuple[Section, ...]:
    """What an annotate step asks."""
    tokenizer = planned_tokenizer(look)
    prompts = prompts_of(config, look, tokenizer).train
    return _asked(prompts, config, config.samples_per_prompt, tokenizer, look, asked, "prompts")


def paraphrased(config: ParaphraseConfig, look: Look, asked: Asked) -> tuple[Section, ...]:
    """What a paraphrase step asks."""
    tokenizer = planned_tokenizer(look)
    requests = requests_of(config, look, tokenizer).requests
    return _asked(requests, config, config.versions, tokenizer, look, asked, "data")


def _asked(
    rows: Sequence[PromptTokens | Request],
    config: WritingOptions,
    samples: int,
    tokenizer: Any,
    look: Look,
    asked: Asked,
    option: str,
) -> tuple[Section, ...]:
    if asked.held_out:
        return ()
    reader = Reader(tokenizer)
    begins = answer_begins(reader, stop_tokens(tokenizer), config.max_new_tokens)

    def lay(part: Sequence[PromptTokens | Request]) -> list[Laid]:
        tokens_PT, mask_PT = left_padded([one.input_ids for one in part])
        return [
            Laid(lanes=(reader.lane(ids, [0] * len(ids), mask, notes=(begins,)),))
            for ids, mask in zip(tokens_PT.tolist(), mask_PT.tolist(), strict=True)
        ]

    times = "once" if samples == 1 else f"{samples} times"
    return (
        section(
            rows,
            asked,
            lay,
            look=look,
            size=max(config.batch_size // samples, 1),
            option=option,
            purpose="to answer",
            row_word="prompt",
            notes=(f"each is answered {times}, in batches of prompts of like length",),
        ),
    )

"""Show prompts as the policy will get them."""

from __future__ import annotations

from collections.abc import Sequence

from aligner import Look
from aligner.data.chat import stop_tokens
from aligner.data.fitted import PromptTokens
from aligner.data.tokenizers import planned_tokenizer
from aligner.models.padding import left_padded
from aligner.preview import Asked, Section
from aligner.train.preview import Laid, Reader, answer_begins, section
from aligner_annotate.prompts import prompts_of
from aligner_annotate.stage import AnnotateConfig


def preview(config: AnnotateConfig, look: Look, asked: Asked) -> tuple[Section, ...]:
    if asked.held_out:
        return ()
    tokenizer = planned_tokenizer(look)
    reader = Reader(tokenizer)
    begins = answer_begins(reader, stop_tokens(tokenizer), config.max_new_tokens)

    def lay(prompts: Sequence[PromptTokens]) -> list[Laid]:
        tokens_PT, mask_PT = left_padded([prompt.input_ids for prompt in prompts])
        return [
            Laid(lanes=(reader.lane(ids, [0] * len(ids), mask, notes=(begins,)),))
            for ids, mask in zip(tokens_PT.tolist(), mask_PT.tolist(), strict=True)
        ]

    each = (
        f"each is answered {config.samples_per_prompt} times, in batches of prompts of like length"
    )
    return (
        section(
            prompts_of(config, look, tokenizer).train,
            asked,
            lay,
            look=look,
            size=max(config.batch_size // config.samples_per_prompt, 1),
            option="prompts",
            purpose="to answer",
            row_word="prompt",
            notes=(each,),
        ),
    )

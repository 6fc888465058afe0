"""Score completions by a model's log-odds of yes to no.

Shapes: B completions, T columns, V vocabulary size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch

from aligner import Completion, ModelState, RewardFunction, StepContext
from aligner.kit.declare import ModelError, error_location
from aligner.kit.rows import Message
from aligner.kit.work import (
    ChatEncoder,
    load_model,
    load_tokenizer,
    map_longest_first,
    pad_with_lengths,
)
from aligner_annotate.options import ANSWER, JUDGE, PROMPT, AnnotateOptions, JudgeOptions


class JudgeEncoder:
    """Encoder of questions to a judge, in the judge's own tokens."""

    def __init__(self, options: JudgeOptions, tokenizer: Any) -> None:
        """Find the tokens at which the judge's yes and no differ.

        Raises:
            ModelError: they do not differ, or the tokenizer has no usable chat template.
        """
        self._question, self._chat = options.question, ChatEncoder(tokenizer)
        turns = self._turns((), "")
        bare, yes, no = self._chat.encode(
            [
                self._chat.prompt(turns),
                *(
                    self._chat.pair(turns, ({"role": "assistant", "content": word},))[0]
                    for word in (options.yes, options.no)
                ),
            ]
        )
        pairs = zip(yes.input_ids, no.input_ids, strict=False)
        first_difference = next((column for column, (a, b) in enumerate(pairs) if a != b), 0)
        reply_starts = len(bare.input_ids)
        if first_difference < reply_starts:
            raise ModelError(
                f"{options.yes!r} and {options.no!r} are the same tokens in the judge's template",
                hint="choose other words for `judge.yes` and `judge.no`",
            )
        self.yes, self.no = yes.input_ids[first_difference], no.input_ids[first_difference]
        # Tokens before either word, whatever the question: a space, or text of the template.
        self._reply_prefix = yes.input_ids[reply_starts:first_difference]

    def encode(self, completions: Sequence[tuple[Sequence[Message], str]]) -> list[list[int]]:
        """Tokenize questions about prompts with their completions, up to the judge's yes or no."""
        samples = [self._chat.prompt(self._turns(prompt, text)) for prompt, text in completions]
        return [[*row.input_ids, *self._reply_prefix] for row in self._chat.encode(samples)]

    def _turns(self, prompt: Sequence[Message], answer: str) -> tuple[Message, ...]:
        if len(prompt) == 1:
            text = str(prompt[0]["content"])
        else:
            text = "\n\n".join(f"{turn['role']}: {turn['content']}" for turn in prompt)
        # In one pass: text of a prompt must not be replaced as a placeholder.
        before, _, rest = self._question.partition(PROMPT)
        between, _, after = rest.partition(ANSWER)
        return ({"role": "user", "content": f"{before}{text}{between}{answer}{after}"},)


class Judge(RewardFunction):
    """log p(yes) - log p(no) of a model that is asked about a completion."""

    name: ClassVar[str] = JUDGE

    def __init__(self, model: Any, encoder: JudgeEncoder, *, batch_size: int) -> None:
        super().__init__()
        self._model, self._encoder, self._batch_size = model, encoder, batch_size

    def score(self, completions: Sequence[Completion]) -> list[float]:
        rows = self._encoder.encode([(item.prompt, item.text) for item in completions])
        return map_longest_first(rows, self._log_odds, batch_size=self._batch_size)

    @torch.no_grad()
    def _log_odds(self, rows: Sequence[Sequence[int]]) -> list[float]:
        tokens_BT, lengths_B = pad_with_lengths(rows)
        mask_BT = torch.arange(tokens_BT.shape[1]) < lengths_B[:, None]
        device = next(self._model.parameters()).device
        logits_BTV = self._model(
            input_ids=tokens_BT.to(device),
            attention_mask=mask_BT.long().to(device),
            use_cache=False,
        ).logits
        last_BV = logits_BTV[torch.arange(len(rows)), (lengths_B - 1).to(device)].float()
        log_odds: list[float] = (
            last_BV[:, self._encoder.yes] - last_BV[:, self._encoder.no]
        ).tolist()
        return log_odds


def load_judge(
    judge: JudgeOptions, options: AnnotateOptions, state: ModelState, context: StepContext
) -> Judge:
    """Load the judge: the policy itself, or the model that an earlier step made."""
    judged_state = state if judge.of is None else context.past[judge.of]
    policy = judged_state.get("policy")
    with error_location(context.at("judge")):
        model = load_model(
            policy,
            context.model_cache,
            precision=options.precision,
            quantize=options.quantize,
            attn_implementation=options.attn_implementation,
        )
        if policy.hash == state.get("policy").hash:
            context.model_cache.keep(policy, model)
        tokenizer = load_tokenizer(judged_state.get("tokenizer"), context.model_cache)
        return Judge(model, JudgeEncoder(judge, tokenizer), batch_size=options.batch_size)

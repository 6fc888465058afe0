"""Ask a model of the chain whether an answer is good: the odds of its yes against its no.

Shapes: B answers, T columns, V words.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch

from aligner.data.encoding.chat import ChatEncoder
from aligner.data.encoding.tokenizers import load_tokenizer
from aligner.errors import ModelError, error_location
from aligner.models.load import load_model
from aligner.models.padding import from_the_left, longest_first
from aligner.registry import Completion, Message, RewardFunction
from aligner.stage import StepContext
from aligner.state import ModelState
from aligner_annotate.stage import ANSWER, JUDGE, PROMPT, AnnotateOptions, JudgeSpec


class Questions:
    """How a judge is asked about an answer, in its own tokens."""

    def __init__(self, spec: JudgeSpec, tokenizer: Any, *, where: str = "") -> None:
        """Find out by which tokens it would begin its yes and its no.

        Raises:
            ModelError: they begin alike, or the tokenizer has no usable chat template.
        """
        self._spec, self._chat = spec, ChatEncoder(tokenizer, where=where)
        asked = self._turns((), "")
        bare, yes, no = self._chat.encode(
            [
                self._chat.prompt(asked),
                *(
                    self._chat.pair(asked, ({"role": "assistant", "content": word},))[0]
                    for word in (spec.yes, spec.no)
                ),
            ]
        )
        pairs = zip(yes.input_ids, no.input_ids, strict=False)
        apart = next((place for place, (a, b) in enumerate(pairs) if a != b), 0)
        begins = len(bare.input_ids)
        if apart < begins:
            raise ModelError(
                f"{spec.yes!r} and {spec.no!r} do not differ in what the judge's template shows",
                where=where,
                hint="choose other words for `judge.yes` and `judge.no`",
            )
        self.yes, self.no = yes.input_ids[apart], no.input_ids[apart]
        # What stands before either word whatever is asked: a space, or a template's own beginning.
        self._before = yes.input_ids[begins:apart]

    def encode(self, asked: Sequence[tuple[Sequence[Message], str]]) -> list[list[int]]:
        """Prompts with their answers, up to where the judge would say yes or no."""
        samples = [self._chat.prompt(self._turns(prompt, answer)) for prompt, answer in asked]
        return [[*one.input_ids, *self._before] for one in self._chat.encode(samples)]

    def _turns(self, prompt: Sequence[Message], answer: str) -> tuple[Message, ...]:
        if len(prompt) == 1:
            said = str(prompt[0]["content"])
        else:
            said = "\n\n".join(f"{turn['role']}: {turn['content']}" for turn in prompt)
        # In one pass: what a prompt says must not be taken for a place of ours.
        before, _, rest = self._spec.question.partition(PROMPT)
        between, _, after = rest.partition(ANSWER)
        return ({"role": "user", "content": f"{before}{said}{between}{answer}{after}"},)


class Judge(RewardFunction):
    """log p(yes) − log p(no) of a model that is asked about an answer."""

    name: ClassVar[str] = JUDGE

    def __init__(self, model: Any, questions: Questions, *, batch_size: int) -> None:
        super().__init__()
        self._model, self._questions, self._batch_size = model, questions, batch_size

    def score(self, completions: Sequence[Completion]) -> list[float]:
        encoded = self._questions.encode([(one.prompt, one.text) for one in completions])
        return longest_first(encoded, self._some, batch_size=self._batch_size)

    @torch.no_grad()
    def _some(self, encoded: Sequence[Sequence[int]]) -> list[float]:
        tokens_BT, lengths_B = from_the_left(encoded)
        mask_BT = torch.arange(tokens_BT.shape[1]) < lengths_B[:, None]
        device = next(self._model.parameters()).device
        logits_BTV = self._model(
            input_ids=tokens_BT.to(device),
            attention_mask=mask_BT.long().to(device),
            use_cache=False,
        ).logits
        last_BV = logits_BTV[torch.arange(len(encoded)), (lengths_B - 1).to(device)].float()
        odds: list[float] = (
            last_BV[:, self._questions.yes] - last_BV[:, self._questions.no]
        ).tolist()
        return odds


def judge_of(
    spec: JudgeSpec, options: AnnotateOptions, state: ModelState, context: StepContext
) -> Judge:
    """The judge: the policy itself, or the model that an earlier step left."""
    there = state if spec.of is None else context.past[spec.of]
    policy, where = there.get("policy"), context.at("judge")
    with error_location(where):
        model = load_model(
            policy,
            context.model_cache,
            precision=options.precision,
            quantize=options.quantize,
            attn_implementation=options.attn_implementation,
        )
    if policy.hash == state.get("policy").hash:
        context.model_cache.keep(policy, model)
    tokenizer = load_tokenizer(there.get("tokenizer"), context.model_cache, where=where)
    questions = Questions(spec, tokenizer, where=where)
    return Judge(model, questions, batch_size=options.batch_size)

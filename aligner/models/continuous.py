"""Let a model answer prompts by transformers' continuous batching: rows join as others leave."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from peft import PeftModel
from transformers import ContinuousBatchingConfig, GenerationConfig, PreTrainedModel

from aligner.errors import StageError
from aligner.models.clean import base_model
from aligner.models.generate import Answer, Sampling, at_rest
from aligner.models.load import quiet

_PAGE = 16
"""Tokens of one row that are cached side by side."""
_SECONDS = 1.0
"""How long to wait before looking whether the writing thread is still alive."""


def batches_continuously(kind: type[PreTrainedModel]) -> bool:
    """Whether models of this class can be asked so: their attention must be exchangeable."""
    return bool(kind._supports_attention_backend) and not kind._is_stateful


def generate_continuously(
    model: PreTrainedModel | PeftModel,
    prompts: Sequence[Sequence[int]],
    *,
    sampling: Sampling,
    seed: int = 0,
    samples: int = 1,
    batch_size: int = 32,
) -> list[Answer]:
    """Answer every prompt `samples` times, with the weights that `model` has now.

    Unlike `generate`, answers follow from `seed` and all that is asked together, `batch_size` among
    it: one random stream serves all rows. On the CPU the same call gives the same answers.

    Args:
        model: A causal language model of a kind that `batches_continuously`; left exactly as it was.
        prompts: Token ids, the generation prompt included; none may be empty.
        sampling: How tokens are chosen, with no least length and nothing cut.
        seed: What the random numbers follow from.
        samples: Answers a prompt, which is computed once for all of them.
        batch_size: Answers written at one time.

    Returns:
        Answers in the order of the prompts, each prompt's samples together.

    Raises:
        StageError: transformers does not answer all of them.
    """
    assert not sampling.min_new_tokens, "refused when the step was planned"
    assert (sampling.top_k, sampling.top_p) == (0, 1.0), "refused when the step was planned"
    whole: Any = base_model(model)
    devices = [whole.device] if whole.device.type == "cuda" else []
    # It seeds the random numbers of the whole process, and never puts them back.
    with at_rest(model), quiet(), torch.no_grad(), torch.random.fork_rng(devices=devices):
        manager = whole.init_continuous_batching(
            generation_config=_generation(sampling, samples),
            continuous_batching_config=_batching(prompts, sampling, seed, batch_size),
        )
        try:
            # All are there before it starts: what shares a batch then does not hang on the clock.
            names = manager.add_requests([list(prompt) for prompt in prompts])
            manager.start()
            found = _results(manager, len(prompts) * samples)
        finally:
            manager.stop(block=True)
            manager.destroy()
    wanted = [f"{name}{child}" for name in names for child in _children(samples)]
    failed = [one for one in wanted if one not in found or found[one].error]
    if failed:
        cause = manager.background_thread_status.fatal_error or (
            found[failed[0]].error if failed[0] in found else "no reason given"
        )
        raise StageError(
            f"transformers' continuous batching left {len(failed)} of {len(wanted)} prompts "
            f"unanswered: {cause}",
            hint="use `sampler: built_in`",
        )
    return [_answer(found[one], sampling) for one in wanted]


def _generation(sampling: Sampling, samples: int) -> GenerationConfig:
    how = {"temperature": sampling.temperature} if sampling.temperature else {}
    return GenerationConfig(  # type: ignore[no-untyped-call]
        max_new_tokens=sampling.max_new_tokens,
        do_sample=bool(sampling.temperature),
        eos_token_id=list(sampling.stop_tokens) or -1,
        pad_token_id=0,
        num_return_sequences=samples,
        top_k=0,
        top_p=1.0,
        **how,
    )


def _batching(
    prompts: Sequence[Sequence[int]], sampling: Sampling, seed: int, batch_size: int
) -> ContinuousBatchingConfig:
    longest = max(map(len, prompts))
    pages = -(-(longest + sampling.max_new_tokens) // _PAGE) + 1
    return ContinuousBatchingConfig(
        page_size=_PAGE,
        num_blocks=batch_size * pages,
        max_batch_tokens=max(batch_size, longest, 256),
        max_requests_per_batch=batch_size,
        return_logprobs=True,
        seed=seed % 2**63,
        # The kernel is the recipe's choice, and graphs would hold weights that have changed since.
        auto_switch_to_flash=False,
        use_cuda_graph=False,
        use_async_batching=False,
    )


def _results(manager: Any, number: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    while len(found) < number:
        result = manager.get_result(timeout=_SECONDS)
        if result is not None and result.is_finished():
            found[result.request_id] = result
        elif result is None and not manager.is_running():
            break
    return found


def _children(samples: int) -> list[str]:
    return ["", *(f"__child#{number}" for number in range(samples - 1))]


def _answer(result: Any, sampling: Sampling) -> Answer:
    tokens = tuple(result.generated_tokens)
    return Answer(
        tokens=tokens,
        ended=tokens[-1] in sampling.stop_tokens,
        logps=tuple(result.logprobs),
    )

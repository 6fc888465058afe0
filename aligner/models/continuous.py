"""Generate completions by transformers' continuous batching, which replaces finished rows at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from peft import PeftModel
from transformers import ContinuousBatchingConfig, GenerationConfig, PreTrainedModel

from aligner.errors import StageError
from aligner.models.generate import Answer, Sampling, eval_mode
from aligner.models.load import silence_transformers
from aligner.models.restore import base_model

_PAGE = 16
"""Tokens per page of the cache."""
_SECONDS = 1.0
"""Seconds between checks that the generation thread is alive."""


def batches_continuously(kind: type[PreTrainedModel]) -> bool:
    """Return True if models of this class support continuous batching."""
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
    """Generate `samples` completions of every prompt with the current weights of `model`.

    Unlike in `generate`, completions depend on all prompts and on `batch_size`: all rows share one random
    stream. On the CPU equal calls give equal completions.

    Args:
        model: Causal language model of a class that `batches_continuously`; not changed.
        prompts: Token ids, generation prompt included; none may be empty.
        sampling: Sampling of tokens, without `min_new_tokens`, `top_k` and `top_p`.
        seed: Seed of the random numbers.
        samples: Completions per prompt; the prompt is computed once for all.
        batch_size: Completions generated at once.

    Returns:
        Completions in the order of the prompts, those of a prompt together.

    Raises:
        StageError: transformers did not complete all prompts.
    """
    assert not sampling.min_new_tokens, "refused when the step was planned"
    assert (sampling.top_k, sampling.top_p) == (0, 1.0), "refused when the step was planned"
    whole: Any = base_model(model)
    devices = [whole.device] if whole.device.type == "cuda" else []
    # It seeds the random numbers of the process and does not restore them.
    with (
        eval_mode(model),
        silence_transformers(),
        torch.no_grad(),
        torch.random.fork_rng(devices=devices),
    ):
        manager = whole.init_continuous_batching(
            generation_config=_generation(sampling, samples),
            continuous_batching_config=_batching(prompts, sampling, seed, batch_size),
        )
        try:
            # All requests are added before it starts, so that batches do not depend on timing.
            names = manager.add_requests([list(prompt) for prompt in prompts])
            manager.start()
            found = _results(manager, len(prompts) * samples)
        finally:
            manager.stop(block=True)
            manager.destroy()
    expected = [f"{name}{child}" for name in names for child in _children(samples)]
    failed = [name for name in expected if name not in found or found[name].error]
    if failed:
        cause = manager.background_thread_status.fatal_error or (
            found[failed[0]].error if failed[0] in found else "no reason given"
        )
        raise StageError(
            f"transformers' continuous batching did not complete {len(failed)} of {len(expected)} "
            f"prompts: {cause}",
            hint="use `sampler: built_in`",
        )
    return [_answer(found[name], sampling) for name in expected]


def _generation(sampling: Sampling, samples: int) -> GenerationConfig:
    options = {"temperature": sampling.temperature} if sampling.temperature else {}
    return GenerationConfig(  # type: ignore[no-untyped-call]
        max_new_tokens=sampling.max_new_tokens,
        do_sample=bool(sampling.temperature),
        eos_token_id=list(sampling.stop_tokens) or -1,
        pad_token_id=0,
        num_return_sequences=samples,
        top_k=0,
        top_p=1.0,
        **options,
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
        # The recipe sets the kernel, and CUDA graphs would keep outdated weights.
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

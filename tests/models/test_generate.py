"""Answers against transformers' own `generate`, and the laws of the sampler."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, PromptTuningConfig, get_peft_model
from torch import nn
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
)

from aligner.models.decoding import supports_cache
from aligner.models.generate import Sampling, generate, sample_tokens, stream

pytestmark = [
    # peft asks transformers under an old name, and for positions it then leaves aside.
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning"),
    pytest.mark.filterwarnings("ignore:Position ids are not supported:UserWarning"),
]

WORDS = 40
STOPS = tuple(range(8))


def llama() -> nn.Module:
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=WORDS,
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            initializer_range=0.6,
        )
    )


def gpt2() -> nn.Module:
    return GPT2LMHeadModel(
        GPT2Config(vocab_size=WORDS, n_embd=16, n_layer=2, n_head=2, initializer_range=0.6)
    )


def sliding() -> nn.Module:
    return MistralForCausalLM(
        MistralConfig(
            vocab_size=WORDS,
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            sliding_window=6,
            initializer_range=0.6,
        )
    )


def bloom() -> nn.Module:
    return BloomForCausalLM(
        BloomConfig(vocab_size=WORDS, hidden_size=16, n_layer=2, n_head=2, initializer_range=0.6)
    )


def mamba() -> nn.Module:
    return MambaForCausalLM(
        MambaConfig(
            vocab_size=WORDS,
            hidden_size=16,
            state_size=4,
            num_hidden_layers=2,
            initializer_range=0.6,
        )
    )


def lora() -> nn.Module:
    return get_peft_model(llama(), LoraConfig(r=2, init_lora_weights=False, task_type="CAUSAL_LM"))


def prompt_tuned() -> nn.Module:
    return get_peft_model(llama(), PromptTuningConfig(num_virtual_tokens=3, task_type="CAUSAL_LM"))


def made(kind: object) -> nn.Module:
    torch.manual_seed(5)
    return kind().eval()  # type: ignore[operator]


def prompts(rows: int = 19) -> list[list[int]]:
    torch.manual_seed(1)
    return [torch.randint(8, WORDS, (1 + (5 * i) % 11,)).tolist() for i in range(rows)]


def by_transformers(model: nn.Module, prompt: list[int], steps: int) -> list[int]:
    out = model.generate(
        input_ids=torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        max_new_tokens=steps,
        do_sample=False,
        eos_token_id=list(STOPS),
        pad_token_id=0,
    )
    return out[0, len(prompt) :].tolist()


@pytest.mark.parametrize("kind", [llama, gpt2, sliding, bloom, lora, mamba, prompt_tuned])
def test_greedy_answers_are_those_of_transformers_token_for_token(kind: object) -> None:
    model = made(kind)
    asked = prompts()
    answers = generate(
        model, asked, sampling=Sampling(stop_tokens=STOPS, max_new_tokens=14), batch_size=6
    )
    expected = [by_transformers(model, prompt, 14) for prompt in asked]
    assert [list(answer.tokens) for answer in answers] == expected
    assert [answer.ended for answer in answers] == [tokens[-1] in STOPS for tokens in expected]
    # Both endings occur, or the comparison would show little.
    assert {answer.ended for answer in answers} == {True, False} or kind not in (llama, lora)


def test_only_recurrent_and_prompt_learning_models_do_without_a_cache() -> None:
    kinds = [llama, gpt2, sliding, bloom, lora, mamba, prompt_tuned]
    without = [kind.__name__ for kind in kinds if not supports_cache(made(kind))]
    assert without == ["mamba", "prompt_tuned"]


@pytest.mark.parametrize("kind", [llama, mamba])
def test_a_sampled_answer_does_not_depend_on_what_else_is_answered(kind: object) -> None:
    model, asked = made(kind), prompts()
    sampling = Sampling(stop_tokens=STOPS, max_new_tokens=12, temperature=1.0)
    alone = generate(model, asked, sampling=sampling, seed=4, batch_size=1)
    assert generate(model, asked, sampling=sampling, seed=4, batch_size=8) == alone
    assert generate(model, asked[:5], sampling=sampling, seed=4, batch_size=3) == alone[:5]
    assert generate(model, asked, sampling=sampling, seed=5, batch_size=8) != alone


@pytest.mark.parametrize("kind", [llama, gpt2, mamba])
def test_several_samples_of_a_prompt_are_as_if_it_had_been_asked_as_often(kind: object) -> None:
    model, asked = made(kind), prompts(5)
    sampling = Sampling(stop_tokens=STOPS, max_new_tokens=12, temperature=1.0)
    shared = generate(model, asked, sampling=sampling, seed=4, samples=3, batch_size=7)
    often = [prompt for prompt in asked for _ in range(3)]
    assert shared == generate(model, often, sampling=sampling, seed=4)
    assert len({answer.tokens for answer in shared}) > 10, "samples of a prompt differ"


def test_prompts_shared_out_over_processes_are_answered_as_by_one() -> None:
    model, asked = made(llama), prompts(7)
    sampling = Sampling(stop_tokens=STOPS, max_new_tokens=12, temperature=1.0)
    alone = generate(model, asked, sampling=sampling, seed=4, samples=2)
    for mine in ([0, 2, 4, 6], [1, 3, 5]):
        part = generate(
            model, [asked[i] for i in mine], sampling=sampling, seed=4, samples=2, numbers=mine
        )
        assert part == [alone[i * 2 + sample] for i in mine for sample in range(2)]


def test_prompts_are_computed_once_and_rows_that_have_ended_leave(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After the prompts, only unfinished rows go through the model, up to an eighth more."""
    model, asked = made(llama), prompts(4)
    forward, seen = model.forward, []

    def counting(*args: object, **kwargs: object) -> object:
        seen.append(kwargs["input_ids"].shape[0])  # type: ignore[attr-defined]
        return forward(*args, **kwargs)

    monkeypatch.setattr(model, "forward", counting)
    sampling = Sampling(stop_tokens=STOPS, max_new_tokens=12, temperature=1.0)
    answers = generate(model, asked, sampling=sampling, samples=16, batch_size=64)
    assert seen[0] == 4
    for column, rows in enumerate(seen[1:], start=1):
        still_open = sum(len(answer.tokens) > column for answer in answers)
        assert still_open <= rows <= max(still_open * 8 / 7, 1)
    assert seen[-1] < 64


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_log_probabilities_are_those_of_a_plain_pass_over_the_answer(temperature: float) -> None:
    """At the sampling temperature, and at 1 for likeliest tokens; cuts do not count."""
    model, asked = made(llama), prompts(4)
    sampling = Sampling(
        stop_tokens=STOPS, max_new_tokens=9, temperature=temperature, top_k=5, min_new_tokens=3
    )
    answers = generate(model, asked, sampling=sampling, samples=3)
    for number, answer in enumerate(answers):
        prompt = asked[number // 3]
        with torch.no_grad():
            logits_TV = model(input_ids=torch.tensor([[*prompt, *answer.tokens]])).logits[0]
        logps_CV = (logits_TV[len(prompt) - 1 : -1] / (temperature or 1.0)).log_softmax(-1)
        expected_C = logps_CV.gather(1, torch.tensor(answer.tokens)[:, None])[:, 0]
        assert list(answer.logps) == pytest.approx(expected_C.tolist(), abs=1e-4)


def test_a_streamed_answer_is_the_batched_one() -> None:
    model, asked = made(llama), prompts()
    sampling = Sampling(stop_tokens=STOPS, max_new_tokens=12, temperature=0.8, top_p=0.9)
    (answer,) = generate(model, asked[:1], sampling=sampling, seed=2)
    written = list(stream(model, asked[0], sampling=sampling, seed=2))
    assert tuple(item.token for item in written) == answer.tokens
    assert [item.ends for item in written] == [False] * (len(written) - 1) + [answer.ended]


def test_no_answer_stops_before_its_shortest_length() -> None:
    model, asked = made(llama), prompts()
    free = generate(model, asked, sampling=Sampling(stop_tokens=STOPS, max_new_tokens=14))
    held = generate(
        model, asked, sampling=Sampling(stop_tokens=STOPS, max_new_tokens=14, min_new_tokens=9)
    )
    assert min(len(answer.tokens) for answer in free) < 9
    assert min(len(answer.tokens) for answer in held) == 10
    assert not any(token in STOPS for answer in held for token in answer.tokens[:9])


def test_the_shares_of_sampled_tokens_are_those_of_the_cut_distribution() -> None:
    """Probabilities 0.4, 0.3, 0.2, 0.1 at temperature 1; at temperature 1/2 they go as the squares.

    top_k 3 leaves 4/9, 3/9, 2/9. top_p 0.65 keeps tokens until 0.65 is reached: 4/7, 3/7.
    top_k 3 then top_p 0.75: of 4/9, 3/9, 2/9 the first two reach 7/9, so 4/7, 3/7.
    Without token 0: 3/6, 2/6, 1/6. Squares 16, 9, 4, 1 of 30.
    """
    logits_BV = torch.tensor([0.4, 0.3, 0.2, 0.1]).log().expand(20000, 4)
    draws_B = (torch.arange(20000, dtype=torch.float64) + 0.5) / 20000

    def shares(forbidden: torch.Tensor | None = None, **cuts: float) -> list[float]:
        sampling = Sampling(
            stop_tokens=(),
            max_new_tokens=1,
            **{"temperature": 1.0, **cuts},  # type: ignore[arg-type]
        )
        tokens_B = sample_tokens(logits_BV, sampling, draws_B=draws_B, forbidden=forbidden)
        return (torch.bincount(tokens_B, minlength=4) / 20000).tolist()

    near = {"abs": 2e-4}
    assert shares() == pytest.approx([0.4, 0.3, 0.2, 0.1], **near)
    assert shares(top_k=3) == pytest.approx([4 / 9, 3 / 9, 2 / 9, 0], **near)
    assert shares(top_p=0.65) == pytest.approx([4 / 7, 3 / 7, 0, 0], **near)
    assert shares(top_k=3, top_p=0.75) == pytest.approx([4 / 7, 3 / 7, 0, 0], **near)
    assert shares(torch.tensor([0])) == pytest.approx([0, 3 / 6, 2 / 6, 1 / 6], **near)
    assert shares(temperature=0.5) == pytest.approx([16 / 30, 9 / 30, 4 / 30, 1 / 30], **near)
    assert shares(temperature=0) == [1, 0, 0, 0]


def test_the_first_tokens_of_many_rows_are_spread_as_the_model_says() -> None:
    """Rows with one prompt differ by their random numbers alone: 4000 rows, expected to 4 sigma."""
    model = made(llama)
    prompt = [9, 10, 11]
    sampling = Sampling(stop_tokens=(), max_new_tokens=1, temperature=1.0)
    answers = generate(model, [prompt] * 4000, sampling=sampling, seed=3, batch_size=1000)
    counts_V = torch.bincount(torch.tensor([a.tokens[0] for a in answers]), minlength=WORDS)
    with torch.no_grad():
        expected_V = model(input_ids=torch.tensor([prompt])).logits[0, -1].softmax(-1)
    allowed_V = 4 * (expected_V * (1 - expected_V) / 4000).sqrt() + 1e-3
    assert bool(((counts_V / 4000 - expected_V).abs() <= allowed_V).all())


def test_answering_leaves_the_model_and_the_random_state_as_they_were() -> None:
    model = made(lora)
    model.train()
    model.get_base_model().model.layers[0].eval()
    before = copy.deepcopy(model)
    asked = prompts()
    random_state = torch.get_rng_state()
    sampling = Sampling(stop_tokens=STOPS, max_new_tokens=5, temperature=1.0)
    generate(model, asked, sampling=sampling)
    assert [m.training for m in model.modules()] == [m.training for m in before.modules()]
    assert all(
        torch.equal(p, q) and p.requires_grad == q.requires_grad and p.grad is None
        for p, q in zip(model.parameters(), before.parameters(), strict=True)
    )
    assert model.config.to_dict() == before.config.to_dict()
    assert torch.equal(torch.get_rng_state(), random_state)
    assert torch.is_grad_enabled()


def test_after_each_batch_it_tells_how_many_answers_stand() -> None:
    heard: list[int] = []
    generate(
        made(llama),
        prompts(7),
        sampling=Sampling(stop_tokens=(), max_new_tokens=2),
        batch_size=3,
        finished=heard.append,
    )
    assert heard == [3, 6, 7]


@settings(deadline=None, max_examples=50)
@given(
    words=st.integers(2, 40),
    seed=st.integers(0, 10_000),
    number=st.sampled_from([0.0, 0.5, 1.0 - 2**-53]),
    top_k=st.sampled_from([0, 1, 3]),
    top_p=st.sampled_from([1.0, 0.6, 0.01]),
)
def test_an_impossible_token_is_never_chosen(
    words: int, seed: int, number: float, top_k: int, top_p: float
) -> None:
    logits_BV = torch.randn(4, words, generator=torch.Generator().manual_seed(seed)) * 5
    logits_BV[:, 0] = -torch.inf
    logits_BV[:, -1] = -torch.inf if words > 2 else 0.0
    forbidden = torch.tensor([1]) if words > 3 else None
    sampling = Sampling(stop_tokens=(), max_new_tokens=1, temperature=1.0, top_k=top_k, top_p=top_p)
    draws_B = torch.full((4,), number, dtype=torch.float64)
    tokens_B = sample_tokens(logits_BV, sampling, draws_B=draws_B, forbidden=forbidden)
    assert torch.isfinite(logits_BV.gather(1, tokens_B[:, None])).all()
    assert forbidden is None or not (tokens_B == 1).any()


def test_logits_that_are_no_numbers_still_give_a_token_of_the_vocabulary() -> None:
    sampling = Sampling(stop_tokens=(), max_new_tokens=1, temperature=1.0)
    draws_B = torch.full((2,), 0.5, dtype=torch.float64)
    tokens_B = sample_tokens(torch.full((2, 5), torch.nan), sampling, draws_B=draws_B)
    assert ((tokens_B >= 0) & (tokens_B < 5)).all()

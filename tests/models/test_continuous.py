"""Continuous batching against our own sampler and plain passes, and what it must leave alone."""

from __future__ import annotations

import copy

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import (
    BloomForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
)

from aligner.errors import StageError, error_location
from aligner.models.continuous import batches_continuously, generate_continuously
from aligner.models.generate import Sampling, generate

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

WORDS = 40
STOPS = tuple(range(8))
SHAPE = {
    "vocab_size": WORDS,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "initializer_range": 0.6,
}


def llama() -> nn.Module:
    return LlamaForCausalLM(LlamaConfig(**SHAPE))


def gpt2() -> nn.Module:
    return GPT2LMHeadModel(
        GPT2Config(vocab_size=WORDS, n_embd=16, n_layer=2, n_head=2, initializer_range=0.6)
    )


def sliding() -> nn.Module:
    return MistralForCausalLM(MistralConfig(**SHAPE, sliding_window=6))


def eager() -> nn.Module:
    model = llama()
    model.set_attn_implementation("eager")  # type: ignore[operator]
    return model


def lora() -> nn.Module:
    return get_peft_model(llama(), LoraConfig(r=2, init_lora_weights=False, task_type="CAUSAL_LM"))


def made(kind: object) -> nn.Module:
    torch.manual_seed(5)
    return kind().eval()  # type: ignore[operator]


def prompts(rows: int = 11) -> list[list[int]]:
    torch.manual_seed(1)
    return [torch.randint(8, WORDS, (1 + (5 * i) % 11,)).tolist() for i in range(rows)]


@pytest.mark.parametrize("kind", [llama, gpt2, sliding, eager, lora])
def test_greedy_answers_are_those_of_our_own_sampler(kind: object) -> None:
    model, sampling = made(kind), Sampling(stop_tokens=STOPS, max_new_tokens=14)
    found = generate_continuously(model, prompts(), sampling=sampling, batch_size=4)
    assert found == generate(model, prompts(), sampling=sampling)
    assert {answer.ended for answer in found} == {True, False} or kind is not llama


def test_only_kinds_whose_attention_can_be_exchanged_are_offered_it() -> None:
    kinds = (LlamaForCausalLM, GPT2LMHeadModel, BloomForCausalLM, MambaForCausalLM)
    assert [batches_continuously(kind) for kind in kinds] == [True, True, False, False]


def test_one_seed_gives_one_set_of_answers_and_another_seed_others() -> None:
    model = made(llama)
    sampling = Sampling(stop_tokens=STOPS, max_new_tokens=12, temperature=1.0)
    first, again, other = (
        generate_continuously(
            model, prompts(), sampling=sampling, seed=seed, samples=3, batch_size=7
        )
        for seed in (2**62, 2**62, 5)
    )
    assert first == again
    assert [answer.logps for answer in first] == [answer.logps for answer in again]
    assert first != other
    assert len({answer.tokens for answer in first}) > 25, "samples of a prompt differ"


def test_log_probabilities_are_those_of_a_plain_pass_at_the_sampling_temperature() -> None:
    model, asked = made(lora), prompts(5)
    sampling = Sampling(stop_tokens=STOPS, max_new_tokens=9, temperature=0.8)
    answers = generate_continuously(model, asked, sampling=sampling, samples=3)
    for number, answer in enumerate(answers):
        prompt = asked[number // 3]
        with torch.no_grad():
            logits_TV = model(input_ids=torch.tensor([[*prompt, *answer.tokens]])).logits[0]
        logps_CV = (logits_TV[len(prompt) - 1 : -1] / 0.8).log_softmax(-1)
        expected_C = logps_CV.gather(1, torch.tensor(answer.tokens)[:, None])[:, 0]
        assert list(answer.logps) == pytest.approx(expected_C.tolist(), abs=1e-4)
        assert answer.ended == (answer.tokens[-1] in STOPS)
        assert answer.ended or len(answer.tokens) == 9


def test_first_tokens_are_spread_as_the_model_says() -> None:
    """Many samples of one prompt: 1000, expected to 4 sigma."""
    model, prompt = made(llama), [9, 10, 11]
    sampling = Sampling(stop_tokens=(), max_new_tokens=1, temperature=1.0)
    answers = generate_continuously(
        model, [prompt] * 1000, sampling=sampling, seed=3, batch_size=500
    )
    counts_V = torch.bincount(torch.tensor([a.tokens[0] for a in answers]), minlength=WORDS)
    with torch.no_grad():
        expected_V = model(input_ids=torch.tensor([prompt])).logits[0, -1].softmax(-1)
    allowed_V = 4 * (expected_V * (1 - expected_V) / 1000).sqrt() + 2e-3
    assert bool(((counts_V / 1000 - expected_V).abs() <= allowed_V).all())


@pytest.mark.parametrize("kind", [eager, lora])
def test_the_model_the_random_state_and_the_weights_of_the_moment(kind: object) -> None:
    """The model is left unchanged, and the second call uses weights that changed after the first."""
    model = made(kind).train()
    asked = prompts()
    before, random_state = copy.deepcopy(model), torch.get_rng_state()
    sampling = Sampling(stop_tokens=STOPS, max_new_tokens=6)
    first = generate_continuously(model, asked, sampling=sampling)
    assert [m.training for m in model.modules()] == [m.training for m in before.modules()]
    assert all(
        torch.equal(p, q) and p.requires_grad == q.requires_grad
        for p, q in zip(model.parameters(), before.parameters(), strict=True)
    )
    assert model.config._attn_implementation == before.config._attn_implementation
    assert [m.__dict__.keys() for m in model.modules()] == [
        m.__dict__.keys() for m in before.modules()
    ]
    assert torch.equal(torch.get_rng_state(), random_state)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(-1)
    assert generate_continuously(model, asked, sampling=sampling) != first


def test_answers_that_do_not_come_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    model = made(llama)

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("no memory left")

    monkeypatch.setattr(model, "forward", broken)
    sampling = Sampling(stop_tokens=STOPS, max_new_tokens=6)
    with pytest.raises(StageError) as caught, error_location("recipe.yaml:7"):
        generate_continuously(model, prompts(3), sampling=sampling)
    assert str(caught.value) == (
        "recipe.yaml:7: transformers' continuous batching did not complete 3 of 3 prompts: "
        "no memory left\n"
        "  hint: use `sampler: built_in`"
    )

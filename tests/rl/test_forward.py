"""The training forward: head on response positions only, equal to the model's own logits."""

from __future__ import annotations

import pytest
import torch

from aligner.errors import ModelError
from aligner.models import logps as module
from aligner.models.generate import Sampling, generate
from aligner.models.language_model import split_language_model
from aligner.models.logps import token_logps
from aligner.rl.forward import response_batch
from aligner.testing.rl import tiny_llama

PROMPTS = [[1, 5, 6], [7], [2, 2, 9, 10, 11]]
RESPONSES = [[8, 2], [12, 13, 14, 2, 2], [2]]
CPU = torch.device("cpu")


def plain_logps(model, prompt, response, temperature):
    """Log-probabilities of one response from the model's own logits, with no padding at all."""
    logits = model(torch.tensor([prompt + response])).logits[0, len(prompt) - 1 : -1] / temperature
    distribution = torch.distributions.Categorical(logits=logits)
    return distribution.log_prob(torch.tensor(response)), distribution.entropy()


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("at_once", [module.LOGITS_AT_ONCE, 64])
def test_log_probabilities_equal_those_of_each_row_alone(monkeypatch, temperature, at_once) -> None:
    """Stop and padding token are both 2 here, and 2 occurs in prompts and inside responses."""
    monkeypatch.setattr(module, "LOGITS_AT_ONCE", at_once)
    model = tiny_llama()
    parts = split_language_model(model)
    rows = response_batch(PROMPTS, RESPONSES, device=CPU)
    hidden = rows.states(parts.hidden(rows.tokens_BT))
    logps, entropies = token_logps(
        parts, hidden[rows.sampled_K], rows.targets_M, temperature=temperature, entropy=True
    )
    plain = [plain_logps(model, p, r, temperature) for p, r in zip(PROMPTS, RESPONSES, strict=True)]
    torch.testing.assert_close(logps, torch.cat([p for p, _ in plain]))
    torch.testing.assert_close(entropies, torch.cat([e for _, e in plain]))


def test_the_states_of_a_row_are_those_before_each_token_and_the_one_after_the_last() -> None:
    """Prompt of 3, response of 2: columns 2 and 3 choose its tokens, column 4 is the state after them."""
    rows = response_batch(PROMPTS[:1], RESPONSES[:1], device=CPU)
    assert rows.columns_K.tolist() == [2, 3, 4]
    assert rows.sampled_K.tolist() == [True, True, False]
    assert rows.targets_M.tolist() == [8, 2]


def test_the_gradient_in_chunks_is_the_gradient_at_once(monkeypatch) -> None:
    gradients = []
    for at_once in (module.LOGITS_AT_ONCE, 64):
        monkeypatch.setattr(module, "LOGITS_AT_ONCE", at_once)
        model = tiny_llama()
        parts = split_language_model(model)
        rows = response_batch(PROMPTS, RESPONSES, device=CPU)
        hidden = rows.states(parts.hidden(rows.tokens_BT))
        logps, entropies = token_logps(
            parts, hidden[rows.sampled_K], rows.targets_M, temperature=1.0, entropy=True
        )
        (logps.sum() + entropies.sum()).backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    torch.testing.assert_close(gradients[0], gradients[1])


def test_soft_capped_logits_are_those_of_the_model() -> None:
    from transformers import Gemma2Config, Gemma2ForCausalLM

    torch.manual_seed(0)
    config = Gemma2Config(
        vocab_size=32,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        final_logit_softcapping=0.5,
        initializer_range=1.0,
    )
    model = Gemma2ForCausalLM(config).eval()
    parts = split_language_model(model)
    assert parts.softcap == 0.5
    tokens = torch.tensor([[4, 5, 6]])
    torch.testing.assert_close(parts.logits(parts.hidden(tokens)), model(tokens).logits)


def test_a_model_whose_trunk_and_head_give_other_logits_is_refused() -> None:
    model = tiny_llama()
    plain = model.forward

    def shifted(*args, **kwargs):
        output = plain(*args, **kwargs)
        output.logits = output.logits + torch.arange(32.0)
        return output

    model.forward = shifted
    with pytest.raises(ModelError) as refused:
        split_language_model(model)
    assert str(refused.value) == (
        "the logits of LlamaForCausalLM are not those of its trunk and head\n"
        "  hint: prompt-learning adapters cannot be trained here; use LoRA or full weights"
    )


def test_the_sampler_and_the_training_forward_agree_on_the_log_probabilities() -> None:
    model = tiny_llama()
    how = Sampling(stop_tokens=(2, 3, 4), max_new_tokens=12, min_new_tokens=3, temperature=0.8)
    found = generate(model, PROMPTS, sampling=how, samples=3, seed=5)
    parts = split_language_model(model)
    prompts = [prompt for prompt in PROMPTS for _ in range(3)]
    rows = response_batch(prompts, [answer.tokens for answer in found], device=CPU)
    hidden = rows.states(parts.hidden(rows.tokens_BT))[rows.sampled_K]
    logps, _ = token_logps(parts, hidden, rows.targets_M, temperature=0.8)
    sampled = torch.tensor([logp for answer in found for logp in answer.logps])
    torch.testing.assert_close(sampled, logps.detach(), atol=1e-5, rtol=1e-4)

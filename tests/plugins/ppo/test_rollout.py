"""Sampling: the same text in any batch, the right distribution, and an end where it should be."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aligner_ppo.forward import language_model, rows_of, token_logps
from aligner_ppo.rollout import Sampling, draw, rollout, uniforms

CPU = torch.device("cpu")
PROMPTS = [[1, 5, 6], [7], [2, 2, 9, 10, 11], [3, 4, 5, 6, 7, 8, 9]]


def sampling(**more) -> Sampling:
    return Sampling(**({"stop_tokens": (2, 3, 4), "max_new_tokens": 12} | more))


def answers(model, prompts, how, *, samples=3, batch=64, draws=None):
    if draws is None:
        draws = uniforms(5, rows=len(prompts) * samples, columns=how.max_new_tokens)
    parts = language_model(model)
    return rollout(
        parts, prompts, samples=samples, sampling=how, draws_NC=draws, batch=batch, device=CPU
    )


def plain_answer(model, prompt, draws, how):
    """One response, one token at a time, without cache, batch or padding."""
    tokens = []
    for column in range(how.max_new_tokens):
        logits = model(torch.tensor([prompt + tokens])).logits[0, -1] / how.temperature
        masses = logits.softmax(-1).double()
        if column < how.min_new_tokens:
            masses[list(how.stop_tokens)] = 0.0
        heights = (masses / masses.sum()).cumsum(0)
        tokens.append(int((heights <= draws[column]).sum()))
        if tokens[-1] in how.stop_tokens:
            return tokens, True
    return tokens, False


def test_a_batch_answers_as_each_prompt_alone_without_cache_would(tiny) -> None:
    model, how = tiny(), sampling(min_new_tokens=2, temperature=0.9)
    draws = uniforms(5, rows=12, columns=12)
    found = answers(model, PROMPTS, how, draws=draws)
    plain = [plain_answer(model, PROMPTS[i // 3], draws[i].tolist(), how) for i in range(12)]
    assert [(list(r.tokens), r.ended) for r in found] == plain
    assert 0 < sum(r.ended for r in found) < 12, "some must end and some must not"


def test_positions_count_real_tokens_where_the_model_has_learnt_them() -> None:
    """GPT-2 knows positions by heart: a prompt padded on the left must still begin at position 0."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    shape = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
    model = GPT2LMHeadModel(GPT2Config(vocab_size=32, initializer_range=0.4, **shape)).eval()
    draws = uniforms(5, rows=4, columns=12)
    found = answers(model, PROMPTS, sampling(), samples=1, draws=draws)
    plain = [plain_answer(model, PROMPTS[i], draws[i].tolist(), sampling()) for i in range(4)]
    assert [(list(r.tokens), r.ended) for r in found] == plain


@pytest.mark.parametrize("batch", [1, 3, 6])
def test_the_size_of_the_batch_changes_no_response(tiny, batch) -> None:
    model = tiny()
    tokens = [r.tokens for r in answers(model, PROMPTS, sampling())]
    assert [r.tokens for r in answers(model, PROMPTS, sampling(), batch=batch)] == tokens


def test_several_samples_of_a_prompt_are_as_if_it_had_been_given_as_often(tiny) -> None:
    model = tiny()
    repeated = [prompt for prompt in PROMPTS for _ in range(3)]
    shared = answers(model, PROMPTS, sampling(), samples=3)
    assert [r.tokens for r in shared] == [
        r.tokens for r in answers(model, repeated, sampling(), samples=1)
    ]


def test_the_sampler_and_the_training_forward_agree_on_the_log_probabilities(tiny) -> None:
    model, how = tiny(), sampling(temperature=0.8, min_new_tokens=3)
    found = answers(model, PROMPTS, how)
    parts = language_model(model)
    prompts = [PROMPTS[i // 3] for i in range(12)]
    rows = rows_of(prompts, [r.tokens for r in found], device=CPU)
    hidden = rows.states(parts.hidden(rows.tokens_BT))[rows.chosen_K]
    logps, _ = token_logps(parts, hidden, rows.targets_M, temperature=0.8)
    torch.testing.assert_close(
        torch.tensor([p for r in found for p in r.logps]), logps.detach(), atol=1e-5, rtol=1e-4
    )


def test_a_response_ends_at_any_stop_token_and_keeps_it(tiny) -> None:
    found = answers(tiny(), PROMPTS, sampling(), samples=16)
    assert {r.tokens[-1] for r in found if r.ended} == {2, 3, 4}
    for response in found:
        assert not {2, 3, 4} & set(response.tokens[:-1])
        assert response.ended == (response.tokens[-1] in {2, 3, 4})
        assert response.ended or len(response.tokens) == 12
        assert len(response.logps) == len(response.tokens)


def test_no_response_is_shorter_than_the_minimum(tiny) -> None:
    found = answers(tiny(), PROMPTS, sampling(min_new_tokens=6), samples=16)
    # A response of six tokens that stand before any stop token, and then that token.
    assert min(len(r.tokens) for r in found) == 7


def test_rows_that_have_ended_leave_the_batch(tiny, monkeypatch) -> None:
    """What goes through the trunk after the prompts is the open rows, give or take an eighth."""
    model = tiny()
    trunk, seen = model.base_model.forward, []

    def counting(*args, **kwargs):
        seen.append(kwargs["input_ids"].shape[0])
        return trunk(*args, **kwargs)

    monkeypatch.setattr(model.base_model, "forward", counting)
    draws = uniforms(5, rows=64, columns=12)
    parts = language_model(model)
    seen.clear()
    found = rollout(
        parts, PROMPTS, samples=16, sampling=sampling(), draws_NC=draws, batch=64, device=CPU
    )
    assert seen[0] == len(PROMPTS), "the prompt is computed once for all its samples"
    for column, rows in enumerate(seen[1:], start=1):
        still_open = sum(len(r.tokens) > column for r in found)
        assert still_open <= rows <= max(still_open * 8 / 7, 1)
    assert seen[-1] < 64


def test_responses_do_not_depend_on_the_global_random_state(tiny) -> None:
    model = tiny()
    first = answers(model, PROMPTS, sampling())
    torch.manual_seed(99)
    before = torch.get_rng_state()
    assert answers(model, PROMPTS, sampling()) == first
    assert torch.equal(torch.get_rng_state(), before)


def drawn(logits: list[float], number: int = 20_000, **more) -> torch.Tensor:
    """Frequencies of the tokens drawn at evenly spread numbers."""
    logits_BV = torch.tensor(logits).expand(number, -1)
    spread = (torch.arange(number, dtype=torch.float64) + 0.5) / number
    tokens, _ = draw(logits_BV, spread, sampling(**more))
    return torch.bincount(tokens, minlength=len(logits)) / number


def test_tokens_are_drawn_as_often_as_they_are_likely() -> None:
    """Softmax of log (1, 2, 5) is (1, 2, 5)/8; at temperature ½ it is (1, 4, 25)/30."""
    logits = torch.tensor([1.0, 2.0, 5.0]).log().tolist()
    torch.testing.assert_close(drawn(logits), torch.tensor([1, 2, 5]) / 8, atol=2e-4, rtol=0)
    torch.testing.assert_close(
        drawn(logits, temperature=0.5), torch.tensor([1, 4, 25]) / 30, atol=2e-4, rtol=0
    )


def test_top_k_and_top_p_keep_what_they_say() -> None:
    """Masses (0.1, 0.4, 0.2, 0.3). Top 2: 0.4 and 0.3 of 0.7. Top-p 0.6 keeps 0.4 and the 0.3
    that crosses 0.6; 0.39 keeps the first alone. Top 3, then top-p 0.75 of its 0.9 (0.675): 0.4, 0.3.
    """
    logits = torch.tensor([0.1, 0.4, 0.2, 0.3]).log().tolist()
    two = torch.tensor([0.0, 4 / 7, 0.0, 3 / 7])
    for more in ({"top_k": 2}, {"top_p": 0.6}, {"top_k": 3, "top_p": 0.75}):
        torch.testing.assert_close(drawn(logits, **more), two, atol=2e-4, rtol=0)
    assert drawn(logits, top_p=0.39).tolist() == [0.0, 1.0, 0.0, 0.0]
    assert drawn(logits, top_k=99).tolist() == drawn(logits).tolist()


@settings(deadline=None, max_examples=50)
@given(
    words=st.integers(2, 40),
    seed=st.integers(0, 10_000),
    number=st.sampled_from([0.0, 0.5, 1.0 - 2**-53]),
    top_k=st.sampled_from([0, 1, 3]),
    top_p=st.sampled_from([1.0, 0.6, 0.01]),
)
def test_an_impossible_token_is_never_drawn(words, seed, number, top_k, top_p) -> None:
    logits = torch.randn(4, words, generator=torch.Generator().manual_seed(seed)) * 5
    logits[:, 0] = -torch.inf
    logits[:, -1] = -torch.inf if words > 2 else 0.0
    forbidden = torch.tensor([1]) if words > 3 else None
    how = sampling(top_k=top_k, top_p=top_p)
    tokens, logps = draw(logits, torch.full((4,), number, dtype=torch.float64), how, forbidden)
    assert torch.isfinite(logps).all()
    assert not (tokens == 0).any()
    assert forbidden is None or not (tokens == 1).any()

"""Rewards: read from text as the reward model was trained, weighted, scaled, clipped, penalized."""

from __future__ import annotations

import pytest
import torch

from aligner.data.encoding.chat import encode_preference
from aligner.data.rows import Preference
from aligner.errors import StageError
from aligner.models.reward import split_reward_model
from aligner.registry import Completion, RewardFunction
from aligner.rl.experience import Scores
from aligner.rl.normalization import RunningScale
from aligner.rl.options import ScoreOptions
from aligner.rl.processes import ProcessGroup
from aligner.rl.rewards import final_scores, score
from aligner.testing import tiny_tokenizer
from aligner.testing.rl import tiny_llama
from aligner.train.scoring import RewardEncoder, RewardModel, RewardSource, sources_of
from aligner_rewards.length import LengthReward

CPU = torch.device("cpu")
ALONE = ProcessGroup(rank=0, world_size=1, device=CPU)
QUESTION = ({"role": "user", "content": "3 the cat sees"},)


def completion(text: str, *, ended: bool = True) -> Completion:
    return Completion(prompt=QUESTION, text=text, ended=ended)


def answer(text: str) -> tuple[dict[str, str], ...]:
    return ({"role": "assistant", "content": text},)


@pytest.mark.parametrize("text", ["yes big red", " happy", "x", "a <|end|> b", "dog dog dog\n\nok"])
def test_a_response_is_encoded_as_the_reward_model_was_trained_on_it(text) -> None:
    """To the token what preparing preference pairs makes of prompt and answer, stop token included."""
    tokenizer = tiny_tokenizer()
    pair = encode_preference(
        Preference(prompt=QUESTION, chosen=answer(text), rejected=answer("no")), tokenizer
    )
    encoder = RewardEncoder(tokenizer)
    [found, cut_off, empty] = encoder(
        [completion(text), completion(text, ended=False), completion("")]
    )
    assert found == [*pair.prompt_ids, *pair.chosen_ids]
    assert cut_off == found[:-1], "what did not end has no end"
    assert empty == [*pair.prompt_ids, found[-1]]


def test_the_score_is_read_at_the_last_token_though_padding_is_the_stop_token() -> None:
    """Each row alone, by the model's own forward, where no token is padding."""
    from transformers import LlamaForSequenceClassification

    tokenizer = tiny_tokenizer()
    config = tiny_llama(vocab=len(tokenizer)).config
    config.num_labels, config.pad_token_id = 1, None
    torch.manual_seed(1)
    model = LlamaForSequenceClassification(config).eval()
    encoder = RewardEncoder(tokenizer)
    completions = [
        completion("yes"),
        completion("the big red dog sleeps"),
        completion("", ended=False),
    ]
    reward = RewardModel(split_reward_model(model), encoder, batch_size=2, device=CPU, half=False)
    with torch.no_grad():
        alone = [float(model(torch.tensor([ids])).logits) for ids in encoder(completions)]
    assert reward.score(completions) == pytest.approx(alone, abs=1e-5)
    assert len({round(score, 4) for score in alone}) == 3


class Fixed(RewardFunction):
    name = "fixed"

    def __init__(self, numbers):
        super().__init__()
        self.numbers = numbers

    def score(self, completions):
        return self.numbers


def test_sources_are_weighted_added_and_kept_apart() -> None:
    """2·(1, 3) + (−0.5)·(4, 0) = (0, 6)."""
    sources = [
        RewardSource(name="first", weight=2.0, scorer=Fixed([1.0, 3.0])),
        RewardSource(name="second", weight=-0.5, scorer=Fixed([4.0, 0.0])),
    ]
    completions = {0: completion("a"), 1: completion("b")}
    found = score(sources, completions, number=2, processes=ALONE)
    assert found.raw_N.tolist() == [0.0, 6.0]
    assert {name: score.tolist() for name, score in found.by_source.items()} == {
        "first": [1.0, 3.0],
        "second": [4.0, 0.0],
    }


def test_a_function_that_gives_another_count_is_named() -> None:
    with pytest.raises(StageError) as stopped:
        score(
            [RewardSource(name="fixed", weight=1.0, scorer=Fixed([1.0]))],
            {0: completion("a"), 1: completion("b")},
            number=2,
            processes=ALONE,
        )
    assert str(stopped.value) == ("reward function 'fixed' returned 1 scores for 2 completions")


def options(**more) -> ScoreOptions:
    return ScoreOptions(**more)


def scored(*numbers: float) -> Scores:
    return Scores(by_source={}, raw_N=torch.tensor(numbers, dtype=torch.float64))


def test_scores_are_scaled_then_clipped_then_penalized() -> None:
    """Scores (1, 4, −9) doubled are (2, 8, −18), clipped to ±5 (2, 5, −5); the second did not end and
    loses 1.
    """
    ended = torch.tensor([True, False, True])
    how = options(reward_scale=2.0, reward_clip=5.0, missing_eos_penalty=1.0)
    final, scale = final_scores(scored(1.0, 4.0, -9.0), ended, how, RunningScale())
    assert final.tolist() == [2.0, 4.0, -5.0]
    assert scale == RunningScale()


def test_running_scale_divides_by_the_deviation_of_all_seen() -> None:
    """(0, 2) has deviation √2: (0, √2). Then (4, 4) too: all four deviate by √(11/3)."""
    both = torch.tensor([True, True])
    how = options(reward_scale="running")
    first, scale = final_scores(scored(0.0, 2.0), both, how, RunningScale())
    assert first.tolist() == pytest.approx([0.0, 2**0.5])
    second, scale = final_scores(scored(4.0, 4.0), both, how, scale)
    assert second.tolist() == pytest.approx([4 / (11 / 3) ** 0.5] * 2)
    assert scale.count == 4


def test_functions_are_made_with_their_options() -> None:
    how = options(rewards=[{"name": "length", "weight": 0.1, "options": {"maximum": 9}}])
    [source] = sources_of(how.rewards, {"length": LengthReward}, None)
    assert (source.name, source.weight) == ("length", 0.1)
    assert isinstance(source.scorer, RewardFunction)
    assert source.scorer.options.maximum == 9

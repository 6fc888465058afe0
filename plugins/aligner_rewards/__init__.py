"""Reward functions that need no model: length, format, exact match and regular expression."""

from collections.abc import Iterable

import aligner
from aligner_rewards.exact_match import ExactMatchReward
from aligner_rewards.format import FormatReward
from aligner_rewards.length import LengthReward
from aligner_rewards.regex import RegexReward


@aligner.hookimpl
def aligner_reward_functions() -> Iterable[type[aligner.RewardFunction]]:
    return (LengthReward, FormatReward, ExactMatchReward, RegexReward)

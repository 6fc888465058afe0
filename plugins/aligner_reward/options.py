"""Options of the reward stage."""

from __future__ import annotations

from pydantic import Field

from aligner.kit.declare import OfflineOptions


class RewardModelOptions(OfflineOptions):
    """Options of reward model training."""

    base: str | None = None
    """Model to start from, a folder or hub id, with a tokenizer and chat template of its own; by
    default the weights of the chain's policy, which is not changed."""
    revision: str | None = None
    """Commit, tag or branch of `base` on the hub."""
    margin: bool = True
    """Use the margins of the pairs, where the data has any (Touvron 2023, section 3.2.2)."""
    center_rewards_coefficient: float | None = Field(None, gt=0)
    """Weight of the squared sum of a pair's rewards, which keeps rewards around zero
    (Eisenstein 2023)."""
    disable_dropout: bool = True
    """Set the model's dropout to 0."""

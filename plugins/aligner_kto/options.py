"""Options of the kto stage, named as in TRL's `KTOConfig`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from aligner.kit.declare import PreferenceOptions

KTOLossType = Literal["kto", "apo_zero_unpaired"]


class KTOOptions(PreferenceOptions):
    """Options of Kahneman-Tversky optimization."""

    loss_type: KTOLossType = "kto"
    """Loss: `kto` compares rewards with an estimate of the KL divergence to the reference
    (Ethayarajh 2024); `apo_zero_unpaired` compares them with 0 (D'Oosterlinck 2024)."""
    desirable_weight: float = Field(1.0, gt=0)
    """Weight of the losses of desirable completions. With unequal numbers of completions, choose it
    so that desirable_weight × desirable is 1 to 4/3 times undesirable_weight × undesirable
    (Ethayarajh 2024, eq. 8)."""
    undesirable_weight: float = Field(1.0, gt=0)
    """Weight of the losses of undesirable completions."""
    shuffle: bool = True
    """Shuffle the rows once, with the recipe's seed: the two completions of a preference pair are
    neighbors otherwise, and the KL estimate needs completions of other prompts."""
    train_sampling_strategy: Literal["group_by_length", "random", "sequential"] = "sequential"
    """Order of rows in training. `kto` needs `sequential`: its KL estimate pairs each prompt with
    the completion of a neighbor in the same batch, whose reference is computed before training."""

    @model_validator(mode="after")
    def _kl_estimate_has_neighbors(self) -> KTOOptions:
        if self.loss_type != "kto":
            return self
        if self.train_sampling_strategy != "sequential":
            raise ValueError(
                f"loss_type kto needs train_sampling_strategy sequential, not "
                f"{self.train_sampling_strategy}: its KL estimate pairs neighbors of a batch"
            )
        if self.per_device_train_batch_size < 2:
            raise ValueError(
                "loss_type kto needs per_device_train_batch_size of 2 or more: its KL estimate pairs "
                "each prompt with the completion of another row of the batch"
            )
        return self

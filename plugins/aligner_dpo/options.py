"""Options of the dpo stage, named as in TRL's `DPOConfig`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from aligner.kit.declare import PreferenceOptions

LossType = Literal[
    "sigmoid", "hinge", "ipo", "exo_pair", "nca_pair", "robust", "bco_pair", "sppo_hard", "aot",
    "aot_unpaired", "apo_zero", "apo_down", "discopop", "sft", "sigmoid_norm",
]  # fmt: skip
DivergenceType = Literal["reverse_kl", "forward_kl", "js_divergence", "alpha_divergence"]
_OF_MARGIN = frozenset(
    {"sigmoid", "sigmoid_norm", "hinge", "ipo", "exo_pair", "robust", "discopop", "sft"}
)
_SMOOTHED = frozenset({"aot", "aot_unpaired", "exo_pair", "robust"})


def _as_tuple(value: Any) -> Any:
    return value if isinstance(value, list | tuple) else (value,)


class DPOOptions(PreferenceOptions):
    """Options of direct preference optimization."""

    loss_type: Annotated[tuple[LossType, ...], BeforeValidator(_as_tuple), Field(min_length=1)] = (
        "sigmoid",
    )
    """Loss, or several that are added up: `sigmoid` is DPO's own; `ipo` Azar 2023, `robust`
    Chowdhury 2024, `apo_zero` and `apo_down` D'Oosterlinck 2024, `sigmoid_norm` divides by length."""
    loss_weights: tuple[float, ...] | None = None
    """Weight of each loss, in the order of `loss_type`; by default all 1."""
    label_smoothing: float = Field(0.0, ge=0, lt=0.5)
    """Assumed share of pairs whose labels are swapped, for losses that take it into account."""
    f_divergence_type: DivergenceType = "reverse_kl"
    """Divergence between policy and reference that is penalized (Wang 2023)."""
    f_alpha_divergence_coef: float = 0.5
    """Order α of `alpha_divergence`."""
    ld_alpha: float | None = Field(None, ge=0, le=1)
    """Weight of tokens beyond the length of the shorter completion (LD-DPO, Liu 2024); by default 1."""
    use_weighting: bool = False
    """Weight pairs by their likelihood under the policy (WPO, Zhou 2024)."""
    discopop_tau: float = Field(0.05, gt=0)
    """Temperature of the `discopop` loss."""

    @model_validator(mode="after")
    def _losses_accept_the_options(self) -> DPOOptions:
        losses = self.loss_type
        if self.loss_weights is not None and len(self.loss_weights) != len(losses):
            raise ValueError(
                f"loss_weights has {len(self.loss_weights)} entries for {len(losses)} losses"
            )
        others = sorted(set(losses) - _OF_MARGIN)
        if self.f_divergence_type != "reverse_kl" and others:
            raise ValueError(
                f"f_divergence_type {self.f_divergence_type} is not defined for {others[0]}"
            )
        if "exo_pair" in losses and not self.label_smoothing:
            raise ValueError(
                "loss_type exo_pair needs label_smoothing above 0; its paper uses 0.001"
            )
        if self.label_smoothing and not _SMOOTHED & set(losses):
            raise ValueError(
                f"label_smoothing has no effect on loss_type {losses[0]}; the losses that use it "
                f"are {', '.join(sorted(_SMOOTHED))}"
            )
        if self.use_weighting and {"aot", "aot_unpaired"} & set(losses):
            raise ValueError("use_weighting cannot be combined with aot, which sorts pairs apart")
        return self

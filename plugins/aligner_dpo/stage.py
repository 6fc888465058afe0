"""What the dpo stage takes, reads and writes."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from aligner import ModelState, Plan, PlanContext, Stage, StepContext
from aligner.data.options import DataOptions
from aligner.models.options import ModelOptions
from aligner.preview import PreviewRequest, PreviewSection
from aligner.train.options import TrainOptions

Loss = Literal[
    "sigmoid",
    "hinge",
    "ipo",
    "exo_pair",
    "nca_pair",
    "robust",
    "bco_pair",
    "sppo_hard",
    "aot",
    "aot_unpaired",
    "apo_zero",
    "apo_down",
    "discopop",
    "sft",
    "sigmoid_norm",
]
_PAIRWISE = frozenset(
    {"sigmoid", "sigmoid_norm", "hinge", "ipo", "exo_pair", "robust", "discopop", "sft"}
)


_SMOOTHED = frozenset({"aot", "aot_unpaired", "exo_pair", "robust"})


def _as_tuple(value: Any) -> Any:
    return value if isinstance(value, list | tuple) else (value,)


class DPOOptions(DataOptions, ModelOptions, TrainOptions):
    learning_rate: float = Field(1e-6, gt=0)
    """Peak learning rate; adapters usually want ten times that of full weights or more."""
    beta: float = Field(0.1, gt=0)
    """How tightly the policy is held to the reference; larger is tighter (Rafailov 2023, eq. 7)."""
    loss_type: Annotated[tuple[Loss, ...], BeforeValidator(_as_tuple), Field(min_length=1)] = (
        "sigmoid",
    )
    """The loss, or several that are added up: `sigmoid` is DPO's own; `ipo` Azar 2023, `robust`
    Chowdhury 2024, `apo_zero` and `apo_down` D'Oosterlinck 2024, `sigmoid_norm` divides by length."""
    loss_weights: tuple[float, ...] | None = None
    """Weight of each loss, in the order of `loss_type`; all 1 where not given."""
    label_smoothing: float = Field(0.0, ge=0, lt=0.5)
    """Share of pairs taken to be labelled the wrong way round, for losses that know it."""
    f_divergence_type: Literal["reverse_kl", "forward_kl", "js_divergence", "alpha_divergence"] = (
        "reverse_kl"
    )
    """Which divergence holds the policy to the reference (Wang 2023)."""
    f_alpha_divergence_coef: float = 0.5
    """Order of `alpha_divergence`."""
    ld_alpha: float | None = Field(None, ge=0, le=1)
    """Weight of the tokens of the longer answer beyond the shorter one's length (LD-DPO, Liu 2024)."""
    use_weighting: bool = False
    """Weigh pairs by how likely the policy is to write them (WPO, Zhou 2024)."""
    discopop_tau: float = Field(0.05, gt=0)
    """Temperature of the `discopop` loss."""
    disable_dropout: bool = True
    """Switch the model's dropout off, so that policy and reference are compared without noise."""

    @model_validator(mode="after")
    def _fit_together(self) -> DPOOptions:
        if self.loss_weights is not None and len(self.loss_weights) != len(self.loss_type):
            raise ValueError(
                f"loss_weights has {len(self.loss_weights)} entries for {len(self.loss_type)} losses"
            )
        unpaired = sorted(set(self.loss_type) - _PAIRWISE)
        if self.f_divergence_type != "reverse_kl" and unpaired:
            raise ValueError(
                f"f_divergence_type {self.f_divergence_type} is not defined for {unpaired[0]}"
            )
        if "exo_pair" in self.loss_type and not self.label_smoothing:
            raise ValueError(
                "loss_type exo_pair needs label_smoothing above 0; its paper uses 0.001"
            )
        if self.label_smoothing and not _SMOOTHED & set(self.loss_type):
            raise ValueError(
                f"label_smoothing has no effect on loss_type {self.loss_type[0]}; it is used by "
                f"{', '.join(sorted(_SMOOTHED))}"
            )
        if self.use_weighting and {"aot", "aot_unpaired"} & set(self.loss_type):
            raise ValueError("use_weighting cannot go with aot: its loss sorts the pairs apart")
        return self


class DPO(Stage[DPOOptions]):
    """Train the policy on preference pairs directly, with no reward model."""

    name = "dpo"
    requires = frozenset({"policy", "tokenizer"})
    provides = frozenset({"policy"})
    uses = frozenset({"reference"})

    def plan(self, context: PlanContext) -> Plan:
        from aligner_dpo.plan import plan  # the tokenizer waits until a recipe is looked at

        return plan(self.options, context)

    def preview(self, context: PlanContext, request: PreviewRequest) -> tuple[PreviewSection, ...]:
        from aligner_dpo.preview import preview  # the collator waits until a recipe is looked at

        return preview(self.options, context, request)

    def run(self, state: ModelState, context: StepContext) -> ModelState:
        from aligner_dpo.train import train  # torch and trl wait until a step really runs

        return state.put(context.step, policy=train(self.options, state, context))

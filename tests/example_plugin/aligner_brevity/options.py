"""Options of the rdpo stage."""

from __future__ import annotations

from pydantic import Field

from aligner.kit.declare import PreferenceOptions


class RDPOOptions(PreferenceOptions):
    """Options of preference training that does not reward length."""

    alpha: float = Field(0.01, ge=0)
    """Reward that is attributed to each token by which the chosen completion is longer (Park 2024,
    section 3); 0 is plain DPO."""

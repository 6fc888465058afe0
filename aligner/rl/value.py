"""Interface of a value function, for algorithms that have one.

Shapes as in `forward`: K = M + B states of B rows, H hidden width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from aligner.rl.forward import ResponseBatch


class ValueFunction(ABC, nn.Module):
    """Estimate of the reward to come, from the state before each token and after the last."""

    learning_rate: float
    """Peak learning rate of its parameters."""
    shares_trunk: bool = False
    """True if its gradient flows into the policy's own weights."""

    @abstractmethod
    def forward(self, batch: ResponseBatch, hidden_KH: Tensor) -> Tensor:
        """Compute values (K,) in fp32.

        Args:
            batch: Prompts and responses.
            hidden_KH: Hidden states of the policy, for a function that reads these.
        """

    @abstractmethod
    def trained(self) -> dict[str, nn.Parameter]:
        """Return the parameters that are trained for values alone, by name."""

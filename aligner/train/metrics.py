"""Metrics of batches, averaged for each entry of the log."""

from __future__ import annotations

from collections import defaultdict

from torch import Tensor


class MetricMeans:
    """Mean over batches of what each batch reports, for training and held-out rows apart."""

    def __init__(self) -> None:
        self._values: dict[bool, defaultdict[str, list[float]]] = {
            True: defaultdict(list),
            False: defaultdict(list),
        }

    def add(self, name: str, values: Tensor, *, training: bool) -> None:
        """Add the mean of a batch's values; nothing if there is none. NaN marks a missing value."""
        values = values[~values.isnan()]
        if values.numel():
            self._values[training][name].append(values.mean().item())

    def set(self, name: str, value: float, *, training: bool) -> None:
        """Set a metric that is no mean: a count so far."""
        self._values[training][name] = [value]

    def take(self, *, training: bool) -> dict[str, float]:
        """Return the means since the last call, with `eval_` before the names of held-out rows."""
        prefix = "" if training else "eval_"
        means = {f"{prefix}{name}": sum(x) / len(x) for name, x in self._values[training].items()}
        self._values[training].clear()
        return means

"""Take the rows of several data entries as often, and in the order, that a mixture asks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy
from numpy.typing import NDArray

from aligner.data.curation.mixture import order, shares
from aligner.data.kept import Kept, Ordered
from aligner.data.ledger import Ledger, spread
from aligner.data.options import DataOptions


def mixed(
    rows: Kept[Any], ledger: Ledger, counts: Sequence[int], options: DataOptions, seed: int
) -> tuple[Sequence[Any], Ledger]:
    """The rows as often and in the order that the mixture asks for, and the account of that."""
    chosen = order(counts, options.data, options, seed=seed)
    if chosen is None:
        return rows, ledger
    mixture: tuple[dict[str, Any], ...] = ()
    if shares(counts, options.data, options) is not None:
        mixture = _taken(chosen, counts, options)
    return Ordered(rows, chosen), replace(
        ledger,
        mixture=mixture,
        used=len(chosen),
        lengths=spread(rows.sizes("length")[chosen]),
        tokens=int(rows.sizes("tokens")[chosen].sum(dtype=numpy.int64)),
        trained=int(rows.sizes("trained_tokens")[chosen].sum(dtype=numpy.int64)),
    )


def _taken(
    chosen: NDArray[numpy.int64], counts: Sequence[int], options: DataOptions
) -> tuple[dict[str, Any], ...]:
    """Of each entry its name, its rows, and how many are taken."""
    ends = numpy.cumsum(counts)
    taken = numpy.bincount(numpy.searchsorted(ends, chosen, side="right"), minlength=len(counts))
    return tuple(
        {"entry": spec.named, "rows": count, "taken": int(number)}
        for spec, count, number in zip(options.data, counts, taken, strict=True)
    )

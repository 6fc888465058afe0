"""Mix the rows of several data entries: how often each is used, and in which order.

A mixture selects indices of stored rows, so that another weight or seed tokenizes nothing again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy
from numpy.typing import NDArray

from aligner.data.ledger import Ledger, summarize_lengths
from aligner.data.options import DataOptions, DataSpec
from aligner.data.store.lazy_rows import ReorderedRows
from aligner.data.store.row_store import RowStore


def apply_mixture(
    rows: RowStore[Any], ledger: Ledger, counts: Sequence[int], options: DataOptions, seed: int
) -> tuple[Sequence[Any], Ledger]:
    """Return the rows as often and in the order that the mixture asks for, and the ledger of that."""
    chosen = mixture_order(counts, options.data, options, seed=seed)
    if chosen is None:
        return rows, ledger
    mixture: tuple[dict[str, Any], ...] = ()
    if mixture_shares(counts, options.data, options) is not None:
        mixture = _count_taken(chosen, counts, options)
    return ReorderedRows(rows, chosen), replace(
        ledger,
        mixture=mixture,
        used=len(chosen),
        lengths=summarize_lengths(rows.sizes("length")[chosen]),
        tokens=int(rows.sizes("tokens")[chosen].sum(dtype=numpy.int64)),
        trained=int(rows.sizes("trained_tokens")[chosen].sum(dtype=numpy.int64)),
    )


def _count_taken(
    chosen: NDArray[numpy.int64], counts: Sequence[int], options: DataOptions
) -> tuple[dict[str, Any], ...]:
    """Return the name of each entry, the number of its rows, and how many are taken."""
    ends = numpy.cumsum(counts)
    taken = numpy.bincount(numpy.searchsorted(ends, chosen, side="right"), minlength=len(counts))
    return tuple(
        {"entry": spec.named, "rows": count, "taken": int(number)}
        for spec, count, number in zip(options.data, counts, taken, strict=True)
    )


def mixture_order(
    counts: Sequence[int], specs: Sequence[DataSpec], options: DataOptions, *, seed: int
) -> NDArray[numpy.int64] | None:
    """Return indices of the rows to take, into the rows of all entries one after the other.

    An entry that is to give more rows than it has gives all of them, as often as they fit, and a
    random selection of what is still lacking; so does one that is to give fewer.

    Args:
        counts: Rows of each entry, (E,).
        specs: The entries, (E,).
        options: The step's: its `mixture` and `shuffle`.
        seed: The recipe's.

    Returns:
        Indices, int64 (rows taken,); None for all rows as they are.
    """
    wanted = _rows_per_entry(counts, specs, options)
    if wanted is None and not options.shuffle:
        return None
    taken = numpy.arange(sum(counts), dtype=numpy.int64)
    if wanted is not None:
        starts = numpy.concatenate(([0], numpy.cumsum(counts)[:-1])).astype(numpy.int64)
        taken = numpy.concatenate(
            [
                start + _draw(have, want, numpy.random.default_rng((seed, entry, 1)))
                for entry, (start, have, want) in enumerate(
                    zip(starts, counts, wanted, strict=True)
                )
            ]
        )
    if options.shuffle:
        taken = numpy.random.default_rng((seed, 2)).permutation(taken)
    return taken


def mixture_shares(
    counts: Sequence[int], specs: Sequence[DataSpec], options: DataOptions
) -> list[float] | None:
    """Return the share of each entry in the mixture, summing to 1; None without a mixture."""
    temperature = options.mixture.temperature if options.mixture else None
    if any(spec.weight is not None for spec in specs):
        weights = [
            float(spec.weight or 1) if n else 0.0 for n, spec in zip(counts, specs, strict=True)
        ]
    elif options.mixture:
        weights = [n ** (1 / (temperature or 1)) if n else 0.0 for n in counts]
    else:
        return None
    whole = sum(weights)
    return [weight / whole for weight in weights] if whole else None


def _rows_per_entry(
    counts: Sequence[int], specs: Sequence[DataSpec], options: DataOptions
) -> list[int] | None:
    """Return the number of rows to take of each entry."""
    parts = mixture_shares(counts, specs, options)
    if parts is None:
        return None
    there = [(n, share) for n, share in zip(counts, parts, strict=True) if n]
    mixture = options.mixture
    if mixture and mixture.rows:
        total = mixture.rows
    elif mixture and mixture.meet == "under":
        total = int(min(n / share for n, share in there) + 1e-9)
    elif mixture and mixture.meet == "over":
        total = round(max(n / share for n, share in there))
    else:
        total = sum(counts)
    return _apportion(total, parts)


def _apportion(total: int, parts: Sequence[float]) -> list[int]:
    """Split `total` into whole numbers by these shares, rounding up the largest remainders.

    >>> _apportion(10, [0.25, 0.25, 0.5])
    [3, 2, 5]
    """
    exact = [total * share for share in parts]
    whole = [int(number + 1e-9) for number in exact]
    largest = sorted(range(len(parts)), key=lambda i: (whole[i] - exact[i], i))
    for index in largest[: total - sum(whole)]:
        whole[index] += 1
    return whole


def _draw(have: int, want: int, random: numpy.random.Generator) -> NDArray[numpy.int64]:
    """Return `want` indices of `have` rows: whole passes, then a random selection in ascending order."""
    passes, rest = divmod(want, have) if have else (0, 0)
    some = numpy.sort(random.permutation(have)[:rest])
    return numpy.concatenate([*[numpy.arange(have)] * passes, some]).astype(numpy.int64)

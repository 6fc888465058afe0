"""Apply the row operations that a recipe names, and state everything that decides their result."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, TypeVar

from aligner.data.context import DataContext
from aligner.data.ledger import Tally
from aligner.data.options import DataOptions, DataSpec
from aligner.data.rows import Row
from aligner.errors import PluginError
from aligner.options.row_operations import with_operations
from aligner.options.validation import check_options
from aligner.registry import OperationContext, OperationScope, RowOperation
from aligner.stage import StageOptions

S = TypeVar("S", bound=StageOptions)


class NamedOperation(NamedTuple):
    """A row operation with the options that a recipe gives it."""

    name: str
    operation: RowOperation
    plugin: str
    """Plugin and version that provide the operation."""

    def determinants(self, context: OperationContext) -> str:
        """Return everything that decides which rows the operation makes of given rows."""
        options = self.operation.options.model_dump_json(serialize_as_any=True)
        return f"{self.name} {self.plugin} {options} {self.operation.determinants(context)}"


def operations_of(options: StageOptions, *scopes: OperationScope) -> list[NamedOperation]:
    """Return the operations of these scopes that `options` name, in the order of their application."""
    return [
        NamedOperation(name, installed.operation(given), installed.plugin)
        for name, installed in options.operations.items()
        if installed.operation.scope in scopes and (given := getattr(options, name)) is not None
    ]


def with_named_operations(options: S, context: DataContext) -> S:
    """Return `options` with the options of row operations validated, however `options` were made.

    Options that were made without a recipe keep what they do not declare; here the installed plugins are
    known that do.

    Raises:
        ChainError: no plugin provides an operation of that name, or one of its options is wrong.
    """
    specs = (*options.data, *(options.eval_data or ())) if isinstance(options, DataOptions) else ()
    if not options.model_extra and not any(spec.model_extra for spec in specs):
        return options
    model = with_operations(type(options), context.registry.row_operations)
    given = options.model_dump(exclude_unset=True, serialize_as_any=True)
    return check_options(given, model, what="data", where=context.at)


def apply_operation(
    rows: Iterator[Row],
    named: NamedOperation,
    tally: Tally,
    *,
    context: DataContext,
    where: str,
    index: Any = None,
) -> Iterator[Row]:
    """Return the rows that the operation makes of `rows`; `tally` counts what it does to them."""
    return named.operation.apply(rows, operation_context(named, tally, context, where, index))


def apply_entry_operations(
    rows: Iterator[Row],
    spec: DataSpec,
    scope: OperationScope,
    tally: Tally,
    *,
    context: DataContext,
    option: str,
) -> Iterator[Row]:
    """Return the rows that the operations of one data entry make of `rows`.

    Raises:
        DataError: an operation cannot be applied, for example because a library is not installed.
    """
    for named in operations_of(spec, scope):
        rows = apply_operation(rows, named, tally, context=context, where=context.at(option))
    return rows


def operation_context(
    named: NamedOperation, tally: Tally, context: DataContext, where: str, index: Any = None
) -> OperationContext:
    return OperationContext(
        where=where,
        recipe_folder=context.recipe_folder,
        seed=context.seed,
        memo=context.memo,
        ledger=_OperationLedger(named, tally),
        index=index,
    )


def entry_determinants(spec: DataSpec, context: DataContext, option: str) -> str:
    """Return everything besides the data that decides which rows of an entry are used; empty for nothing.

    Raises:
        DataError: a file that an operation needs cannot be read.
    """
    parts = [f"sample {context.seed}"] if spec.sample is not None else []
    for named in operations_of(spec, "entry", "training entry"):
        surroundings = operation_context(named, Tally(), context, context.at(option))
        parts.append(named.determinants(surroundings))
    return " ".join(parts)


class _OperationLedger:
    """The part of a tally that an operation may use."""

    def __init__(self, named: NamedOperation, tally: Tally) -> None:
        self._name, self._findings, self._tally = named.name, named.operation.findings, tally

    def leave_out(self, reason: str, origin: str) -> None:
        self._tally.leave_out(reason, origin)

    def find(self, finding: str, origin: str) -> None:
        if finding not in self._findings:
            what = f"row operation {self._name!r} counts {finding!r}, which its `findings` lack"
            raise PluginError(what)
        self._tally.find_described(finding, self._findings[finding], origin)

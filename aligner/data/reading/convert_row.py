"""Turn one row as it is written into rows of the kind wanted, or say at which place it is malformed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from aligner.data.describe import describe_value, printable_name
from aligner.data.reading.kinds import convert_kind
from aligner.data.reading.messages import MalformedRowError
from aligner.data.reading.row_conversion import DifferentPromptsError
from aligner.data.rows import Row
from aligner.errors import DataError
from aligner.registry import DataFormat, RowKind


def convert_row(one: Any, origin: str, chosen: DataFormat, want: RowKind) -> list[Row]:
    """The rows that `one` becomes, written at `origin`.

    Raises:
        Different: it is a pair whose sides do not share their prompt.
        DataError: it is malformed, or was no row in the first place.
    """
    if isinstance(one, DataError):
        raise one
    if not isinstance(one, Mapping):
        raise DataError(f"a row should be an object, not {describe_value(one)}", where=origin)
    try:
        made = chosen.convert(one)
        rows = [made] if isinstance(made, Row) else list(made)
        return [
            replace(ready, origin=origin)
            for row in rows
            for ready in convert_kind(row, chosen.kind, want)
        ]
    except DifferentPromptsError:
        raise
    except MalformedRowError as error:
        raise DataError(error.what, where=origin, hint=error.hint) from None
    except KeyError as error:
        hint = f"{chosen.name} rows need it; the row has {', '.join(map(printable_name, one))}"
        raise DataError(f"field {error} is missing", where=origin, hint=hint) from None
    except (ValueError, TypeError, RecursionError) as error:
        raise DataError(str(error).split("\n")[0][:300], where=origin) from None

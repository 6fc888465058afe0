"""Convert a raw row to rows of the wanted kind, with its file and line in errors."""

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


def convert_row(raw: Any, origin: str, chosen: DataFormat, want: RowKind) -> list[Row]:
    """Return the rows that `raw` becomes; it was read at `origin`.

    Raises:
        DifferentPromptsError: it is a pair whose answers do not share a prompt.
        DataError: it is malformed, or could not be read.
    """
    if isinstance(raw, DataError):
        raise raw
    if not isinstance(raw, Mapping):
        raise DataError(f"a row should be an object, not {describe_value(raw)}", where=origin)
    try:
        made = chosen.convert(raw)
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
        hint = f"{chosen.name} rows need it; the row has {', '.join(map(printable_name, raw))}"
        raise DataError(f"field {error} is missing", where=origin, hint=hint) from None
    except (ValueError, TypeError, RecursionError) as error:
        raise DataError(str(error).split("\n")[0][:300], where=origin) from None

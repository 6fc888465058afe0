"""Rows of unlike length in one tensor: where they stand, what counts, and what fills them up."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from aligner.errors import ModelError
from aligner.models.padding import pad_id, pad_left, pad_right


def test_prompts_end_in_the_last_column() -> None:
    tokens_BT, mask_BT = pad_left([[5, 6, 7], [8]])
    assert tokens_BT.tolist() == [[5, 6, 7], [0, 0, 8]]
    assert mask_BT.tolist() == [[1, 1, 1], [0, 0, 1]]


def test_measured_rows_begin_in_the_first_column_which_never_counts() -> None:
    tokens_BT, counted_BT = pad_right([[5], [6, 7, 8]], [[True], [True, False, True]])
    assert tokens_BT.tolist() == [[5, 0, 0], [6, 7, 8]]
    assert counted_BT.tolist() == [[False, False, False], [False, False, True]]


def test_rows_are_filled_up_with_pad_or_where_there_is_none_with_eos() -> None:
    assert pad_id(SimpleNamespace(pad_token_id=0, eos_token_id=2)) == 0
    assert pad_id(SimpleNamespace(pad_token_id=None, eos_token_id=2)) == 2


def test_a_tokenizer_with_neither_is_refused() -> None:
    with pytest.raises(ModelError) as caught:
        pad_id(SimpleNamespace(pad_token_id=None, eos_token_id=None))
    assert str(caught.value) == (
        "the tokenizer has neither a pad token nor an eos token\n"
        "  hint: add a `chat` step before this one, which sets both"
    )

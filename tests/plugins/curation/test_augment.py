"""Changed copies are added beside their originals; answers, code and other rows' copies stay as they are."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from aligner.data.ledger import Tally
from aligner.data.options import DataOptions, DataSpec
from aligner.data.reading.operations import (
    apply_entry_operations,
    entry_determinants,
    with_named_operations,
)
from aligner.data.rows import ClassifiedText, Row
from aligner.errors import ChainError
from tests.data.small_rows import output, pair, plain, talk, talks, text

THESAURUS = "# words\nquick\tfast,swift\nbig\tlarge\n\nQuick\trapid\n"


def augment(rows: list[Row], place: Any, **options: Any) -> tuple[list[Row], Tally]:
    tally = Tally()
    spec = with_named_operations(DataSpec(path="a.jsonl", augment=options), place)  # type: ignore[call-arg]
    scope: Any = "training entry"
    made = apply_entry_operations(iter(rows), spec, scope, tally, context=place, option="data")
    return list(made), tally


def write(place: Any, content: str) -> str:
    (place.recipe_folder / "words.tsv").write_text(content)
    return "words.tsv"


def test_words_are_replaced_by_their_synonyms_with_their_capitals(place: Any) -> None:
    rows: list[Row] = [talk("A BIG dog. Big? Quick!", "A big dog.", origin="a.jsonl:1")]
    made, tally = augment(rows, place, synonyms=write(place, THESAURUS), replace=1.0, copies=1)
    assert made[0] is rows[0]
    assert output(made[1:])[0][0] in {
        f"A LARGE dog. Large? {w}!" for w in ("Fast", "Swift", "Rapid")
    }
    assert output(made[1:])[0][1] == "A big dog."
    assert made[1].origin == "a.jsonl:1 (copy 1)"
    assert plain(tally.found) == {"augmented": ("a.jsonl:1 (copy 1)",)}


def test_copies_that_come_out_alike_are_not_added(place: Any) -> None:
    rows: list[Row] = [talk("A big dog", "ok"), talk("nothing here", "ok")]
    made, _ = augment(rows, place, synonyms=write(place, THESAURUS), copies=5)
    assert output(made) == [["A big dog", "ok"], ["A large dog", "ok"], ["nothing here", "ok"]]


def test_sentences_change_places_within_their_lines(place: Any) -> None:
    asked = "One is one. Two is two! Is three three?\nFour. Five."
    made, _ = augment([text(asked)], place, shuffle_sentences=True, copies=10)
    assert len(made) > 5
    for row in made:
        first, second = row.text.split("\n")  # type: ignore[attr-defined]
        assert Counter(first.split()) == Counter(asked.split("\n")[0].split())
        assert Counter(second.split()) == Counter(["Four.", "Five."])


def test_words_are_exchanged_or_left_out_by_their_share(place: Any) -> None:
    asked = " ".join(f"w{i}" for i in range(50))
    swapped, _ = augment([text(asked)], place, swap=0.1)
    deleted, _ = augment([text(asked)], place, delete=0.1)
    new = swapped[1].text.split()  # type: ignore[attr-defined]
    assert sorted(new) == sorted(asked.split())
    assert 2 <= sum(a != b for a, b in zip(new, asked.split(), strict=True)) <= 10
    left = deleted[1].text.split()  # type: ignore[attr-defined]
    assert (len(left), "  " in deleted[1].text) == (45, False)  # type: ignore[attr-defined]
    assert [word for word in asked.split() if word in left] == left


def test_not_every_word_is_left_out(place: Any) -> None:
    made, _ = augment([text("all of it")], place, delete=1.0)
    assert [row.text for row in made] == ["all of it"]  # type: ignore[attr-defined]


def test_code_and_answers_are_left_as_they_are_unless_asked_for(place: Any) -> None:
    asked = "swap these words please\n```\ncode stays here\n```"
    row = pair(asked, "the chosen answer here", "the rejected answer here")
    (_, made), _ = augment([row], place, swap=0.5)
    assert made.prompt[0]["content"].endswith("\n```\ncode stays here\n```")  # type: ignore[attr-defined]
    assert made.prompt != row.prompt  # type: ignore[attr-defined]
    assert (made.chosen, made.rejected) == (row.chosen, row.rejected)  # type: ignore[attr-defined]
    (_, made), _ = augment([row], place, swap=0.5, answers=True)
    assert made.chosen != row.chosen  # type: ignore[attr-defined]


def test_texts_to_be_classified_keep_their_label(place: Any) -> None:
    made, _ = augment(
        [ClassifiedText(text="a big dog", label="dog")], place, synonyms=write(place, THESAURUS)
    )
    assert made[1] == ClassifiedText(text="a large dog", label="dog", origin=" (copy 1)")


def test_a_rows_copies_depend_on_itself_and_the_seed_alone(place: Any) -> None:
    rows = talks(*((f"{i} one two three four five six", "ok") for i in range(5)))
    few, _ = augment(rows[2:3], place, swap=0.3, copies=2)
    more, _ = augment(rows, place, swap=0.3, copies=2)
    assert [row for row in more if row.origin.startswith("a.jsonl:3")] == few
    place.seed = 1
    assert augment(rows[2:3], place, swap=0.3, copies=2)[0] != few


def test_nothing_is_added_where_nothing_is_asked_for(place: Any) -> None:
    spec = DataSpec(path="a.jsonl")
    assert list(
        apply_entry_operations(
            iter(talks(("a", "b"))), spec, "training entry", Tally(), context=place, option="data"
        )
    ) == talks(("a", "b"))


def test_lines_of_a_thesaurus_that_are_none_are_refused_together(place: Any) -> None:
    with pytest.raises(Exception) as refused:  # noqa: PT011  # its whole text is below
        augment([], place, synonyms=write(place, "big\tlarge\nbig large\nsmall\t ,\n"))
    assert str(refused.value) == (
        "words.tsv:2: a thesaurus line should be a word, a tab and its synonyms, not 'big large'\n"
        "words.tsv:3: a thesaurus line should be a word, a tab and its synonyms, not 'small\\\\t ,'"
    )


def test_a_thesaurus_that_is_not_there_is_refused(place: Any) -> None:
    with pytest.raises(Exception) as refused:  # noqa: PT011  # its whole text is below
        augment([], place, synonyms="none.tsv")
    assert str(refused.value) == (
        "recipe.yaml:data: cannot read the thesaurus 'none.tsv': No such file or directory"
    )


def test_a_thesaurus_counts_by_its_content(place: Any) -> None:
    def report(content: str) -> str:
        spec = DataSpec(path="a", augment={"synonyms": write(place, content)})  # type: ignore[call-arg]
        return entry_determinants(with_named_operations(spec, place), place, "data")

    assert report("a\tb\n") == report("# more\na\tb\n") != report("a\tc\n")
    assert entry_determinants(DataSpec(path="a", first=3), place, "data") == ""


def test_evaluation_data_is_not_augmented(place: Any) -> None:
    options = DataOptions(data="a", eval_data={"path": "a", "augment": {"swap": 0.1}})  # type: ignore[arg-type]
    with pytest.raises(ChainError) as refused:
        with_named_operations(options, place)
    assert refused.value.what == ("data: augment applies to training data only, not to eval_data")

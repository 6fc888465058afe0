"""Selection, mixing and shuffling of rows affect as many rows as in the other tools."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import datasets
import pytest
from trl import DatasetMixtureConfig, get_dataset

from aligner.cli import main
from aligner.data.encoding.mixture import mixture_order
from aligner.data.options import DataOptions
from aligner.data.reading.selection import part_of
from aligner.data.rows import Text
from aligner_import.slices import part_options

ImportText = Callable[[str], tuple[list[dict[str, Any]], str]]

FACTORY = "model_name_or_path: m/n\nfinetuning_type: full\ntemplate: qwen\ndataset: a/a,b/b,c/c\n"
ONLINE = FACTORY + "dataset_dir: ONLINE\n"
AXOLOTL = "base_model: m/n\ndatasets:\n  - path: d/e\n    type: chat_template\n"
TRL = "model_name_or_path: m/n\nassistant_only_loss: true\n"


def notes_of(out: str, key: str) -> list[str]:
    """Return the notes about a setting, each after its kind."""
    kind, lines = "", []
    for line in out.splitlines():
        if line.endswith(":") and not line.startswith(" "):
            kind = line
        elif f": {key}: " in line:
            lines.append(f"{kind} {line.strip()}")
    return lines


def count_used_rows(step: dict[str, Any], counts: list[int]) -> list[int]:
    """Return how many rows a step uses of each of its data sets, which have `counts` rows."""
    options = DataOptions.model_validate({k: step[k] for k in ("data", "mixture") if k in step})
    chosen = mixture_order(counts, options.data, options, seed=1)
    if chosen is None:
        return counts
    ends = [sum(counts[: n + 1]) for n in range(len(counts))]
    each = Counter(next(n for n, end in enumerate(ends) if row < end) for row in chosen.tolist())
    return [each[n] for n in range(len(counts))]


def make_datasets(counts: list[int]) -> list[datasets.Dataset]:
    return [datasets.Dataset.from_dict({"of": [n] * count}) for n, count in enumerate(counts)]


@pytest.mark.parametrize("counts", [[7, 3, 5], [4, 4, 4], [1, 90, 10]])
@pytest.mark.parametrize(
    ("strategy", "stops"),
    [
        ("interleave_under", "first_exhausted"),
        ("interleave_over", "all_exhausted"),
        ("interleave_once", "all_exhausted_without_replacement"),
    ],
)
def test_as_many_rows_are_interleaved_as_by_llama_factory(
    strategy: str, stops: Any, counts: list[int], import_text: ImportText
) -> None:
    steps, _ = import_text(ONLINE + f"mix_strategy: {strategy}\n")
    theirs = Counter(
        datasets.interleave_datasets(make_datasets(counts), stopping_strategy=stops)["of"]
    )
    assert count_used_rows(steps[1], counts) == [theirs[n] for n in range(3)]


def test_interleaved_data_sets_have_the_same_shares_as_in_llama_factory(
    import_text: ImportText,
) -> None:
    steps, out = import_text(
        ONLINE + "mix_strategy: interleave_under\ninterleave_probs: 0.5,0.3,0.2\n"
        "eval_dataset: f/f,g/g\n"
    )
    assert steps[1]["data"] == [
        {"hub": "a/a", "weight": 0.5},
        {"hub": "b/b", "weight": 0.3},
        {"hub": "c/c", "weight": 0.2},
    ]
    assert steps[1]["mixture"] == {"meet": "under"}
    counts = [5000, 6000, 9000]
    theirs = Counter(
        datasets.interleave_datasets(make_datasets(counts), probabilities=[0.5, 0.3, 0.2], seed=1)[
            "of"
        ]
    )
    assert count_used_rows(steps[1], counts) == pytest.approx(
        [theirs[n] for n in range(3)], rel=0.05
    )
    assert notes_of(out, "mix_strategy") == [
        "other meaning: f.yaml:6: mix_strategy: mixture.meet: "
        "rows are sampled, not taken in order from each data set"
    ]
    assert notes_of(out, "interleave_probs") == [
        "other meaning: f.yaml:7: interleave_probs: weight: the shares are met exactly, not sampled"
    ]
    assert notes_of(out, "eval_dataset") == [
        "other meaning: f.yaml:8: eval_dataset: evaluation data sets are evaluated whole, not mixed"
    ]


def test_held_out_rows_are_not_mixed(import_text: ImportText) -> None:
    _, out = import_text(ONLINE + "mix_strategy: interleave_over\nval_size: 0.1\n")
    assert notes_of(out, "mix_strategy") == [
        "other meaning: f.yaml:6: mix_strategy: mixture.meet: "
        "rows are sampled, not taken in order from each data set; the evaluation split is not mixed"
    ]


def test_interleave_once_needs_no_mixture(import_text: ImportText) -> None:
    steps, out = import_text(
        ONLINE + "mix_strategy: interleave_once\ninterleave_probs: 0.5,0.3,0.2\n"
    )
    assert "mixture" not in steps[1]
    assert steps[1]["data"] == [{"hub": "a/a"}, {"hub": "b/b"}, {"hub": "c/c"}]
    assert notes_of(out, "mix_strategy") == [
        "other meaning: f.yaml:6: mix_strategy: every row is used once and shuffled in every epoch"
    ]
    assert notes_of(out, "interleave_probs") == [
        "not needed: f.yaml:7: interleave_probs: if every row is used once, it changes only their order"
    ]


def test_concatenation_is_the_default_and_a_single_data_set_is_not_mixed(
    import_text: ImportText,
) -> None:
    steps, out = import_text(ONLINE + "mix_strategy: concat\n")
    assert "mixture" not in steps[1]
    assert notes_of(out, "mix_strategy") == [
        "default: f.yaml:6: mix_strategy: data sets are concatenated by default"
    ]
    alone = ONLINE.replace("a/a,b/b,c/c", "a/a") + "mix_strategy: interleave_over\n"
    steps, out = import_text(alone)
    assert steps[1]["data"] == {"hub": "a/a"}
    assert notes_of(out, "mix_strategy") == [
        "not needed: f.yaml:6: mix_strategy: it has no effect in this file"
    ]


@pytest.mark.parametrize(
    ("info", "most", "data"),
    [
        ('"num_samples": 50', "", {"sample": 50}),
        ('"num_samples": 50', "max_samples: 7\n", {"sample": 7}),
        ('"num_samples": 50', "max_samples: 70\n", {"sample": 50}),
        ('"split": "train[:30]"', "max_samples: 7\n", {"first": 7}),
        ('"split": "train[:30]"', "max_samples: 70\n", {"first": 30}),
        ('"split": "train[:30]", "num_samples": 5', "", {"first": 30, "sample": 5}),
        (
            '"split": "test[50%:]"',
            "max_samples: 7\n",
            {
                "split": "test",
                "parts": {"before": 0.5, "slice": 0.5},
                "part": "slice",
                "sample": 7,
            },
        ),
    ],
)
def test_rows_are_sampled_as_in_llama_factory(
    info: str, most: str, data: dict[str, Any], import_text: ImportText, tmp_path: Path
) -> None:
    (tmp_path / "data").mkdir()
    text = f'{{"a": {{"hf_hub_url": "d/e", {info}}}}}'
    (tmp_path / "data" / "dataset_info.json").write_text(text)
    steps, out = import_text(FACTORY.replace("a/a,b/b,c/c", "a") + most)
    assert steps[1]["data"] == {"hub": "d/e", **data}
    if number := re.search(r'num_samples": (\d+)', info):
        assert notes_of(out, "dataset") == [
            "other meaning: f.yaml:4: dataset: a: sample: no row is used twice if there are "
            f"fewer than {number[1]}"
        ]


def test_axolotls_deduplication_and_shuffling_are_imported(import_text: ImportText) -> None:
    steps, out = import_text(
        AXOLOTL + "dataset_exact_deduplication: true\nshuffle_merged_datasets: true\n"
    )
    assert (steps[1]["deduplicate"], steps[1]["shuffle"]) == ("exact", True)
    assert notes_of(out, "dataset_exact_deduplication") == [
        "other meaning: f.yaml:5: dataset_exact_deduplication: deduplicate: "
        "rows are compared as text, not as tokens; eval_data is not deduplicated"
    ]
    assert notes_of(out, "shuffle_merged_datasets") == []
    steps, out = import_text(
        AXOLOTL + "dataset_exact_deduplication: false\nshuffle_merged_datasets: false\n"
    )
    assert not {"deduplicate", "shuffle"} & steps[1].keys()
    assert notes_of(out, "dataset_exact_deduplication") == [
        "default: f.yaml:5: dataset_exact_deduplication: false sets nothing"
    ]
    assert notes_of(out, "shuffle_merged_datasets") == [
        "default: f.yaml:6: shuffle_merged_datasets: shuffle is false by default"
    ]


@pytest.mark.parametrize(
    ("text", "shuffled"),
    [
        (AXOLOTL, False),
        (AXOLOTL + "sample_packing: true\n", True),
        (AXOLOTL + "sample_packing: true\nshuffle_merged_datasets: false\n", False),
        ("base_model: m/n\npretraining_dataset: d/e\nsample_packing: true\n", True),
    ],
)
def test_shuffling_is_set_where_axolotl_shuffles_and_order_matters(
    text: str, shuffled: bool, import_text: ImportText
) -> None:
    """Order decides which rows are packed together; without packing, each epoch has its own order."""
    steps, out = import_text(text)
    assert steps[-1].get("shuffle", False) is shuffled
    added = "added: f.yaml: shuffle_merged_datasets: shuffle: true, Axolotl's default"
    assert (added in notes_of(out, "shuffle_merged_datasets")) is shuffled


@pytest.mark.parametrize(
    ("settings", "data", "text"),
    [
        ("shards: 4", {"sample": 0.25}, "sample: about one row in 4, selected by a hash"),
        ("shards: 1", {}, ""),
        (
            "{shards: 4, shards_idx: 0}",
            {"parts": {"slice": 0.25, "tail": 0.75}, "part": "slice"},
            "parts: about one row in 4, by a hash of the prompt",
        ),
        (
            "{shards: 4, shards_idx: 2}",
            {"parts": {"before": 0.5, "slice": 0.25, "tail": 0.25}, "part": "slice"},
            "parts: about one row in 4, by a hash of the prompt",
        ),
    ],
)
def test_axolotls_shards_are_shares_of_the_rows(
    settings: str, data: dict[str, Any], text: str, import_text: ImportText
) -> None:
    lines = "".join(f"    {line}\n" for line in settings.strip("{}").split(", "))
    steps, out = import_text(AXOLOTL + lines)
    assert steps[1]["data"] == {"hub": "d/e", **data}
    line = f"other meaning: f.yaml:5: datasets.0.shards: {text}"
    assert notes_of(out, "datasets.0.shards") == ([line] if text else [])


def test_shards_of_pairs_are_ignored_as_in_axolotl(import_text: ImportText) -> None:
    steps, out = import_text(AXOLOTL + "    shards: 4\nrl: dpo\n")
    assert "sample" not in steps[1]["data"]
    assert notes_of(out, "datasets.0.shards") == [
        "not needed: f.yaml:5: datasets.0.shards: Axolotl reads such a data set without a split"
    ]


def test_preprocess_shards_is_ignored(import_text: ImportText) -> None:
    steps, out = import_text(AXOLOTL + "    preprocess_shards: 4\n")
    assert steps[1]["data"] == {"hub": "d/e"}
    assert notes_of(out, "datasets.0.preprocess_shards") == [
        "not needed: f.yaml:5: datasets.0.preprocess_shards: it does not change the result"
    ]


def test_axolotls_default_evaluation_split_is_test(import_text: ImportText) -> None:
    steps, _ = import_text(AXOLOTL + "test_datasets:\n  - path: d/e\n    type: chat_template\n")
    assert steps[1]["eval_data"] == {"hub": "d/e", "split": "test"}


@pytest.mark.parametrize(
    ("split", "data"),
    [
        ("train[:]", {}),
        ("train[0%:100%]", {}),
        ("test[:1_000]", {"split": "test", "first": 1000}),
        ("train[0:20]", {"first": 20}),
        ("train[:90%]", {"parts": {"slice": 0.9, "tail": 0.1}, "part": "slice"}),
        ("train[90%:]", {"parts": {"before": 0.9, "slice": 0.1}, "part": "slice"}),
        ("train[-10%:]", {"parts": {"before": 0.9, "slice": 0.1}, "part": "slice"}),
        (
            "train[10%:40%]",
            {"parts": {"before": 0.1, "slice": 0.3, "tail": 0.6}, "part": "slice"},
        ),
    ],
)
def test_slices_of_a_split_are_first_rows_or_parts(
    split: str, data: dict[str, Any], import_text: ImportText
) -> None:
    axolotl, out = import_text(AXOLOTL + f"    split: {split}\n")
    assert axolotl[1]["data"] == {"hub": "d/e", **data}
    if "parts" in data:
        percent = round(100 * data["parts"]["slice"])
        assert notes_of(out, "datasets.0.split") == [
            f"other meaning: f.yaml:5: datasets.0.split: parts: about {percent} % of the rows, by a hash "
            "of their prompt, not by their index"
        ]
    trl, _ = import_text(TRL + f"dataset_name: d/e\ndataset_train_split: {split}\n")
    assert trl[1]["data"] == axolotl[1]["data"]


def test_disjoint_slices_stay_disjoint() -> None:
    rows = [Text(origin=f"t:{n}", text=f"row {n}") for n in range(2000)]
    cuts = [0.0, 0.1, 0.25, 0.5, 0.9, 1.0]
    found = [
        sum(part_of(row, options["parts"]) == "slice" for row in rows)
        for options in (part_options(begin, end) for begin, end in pairwise(cuts))
    ]
    assert sum(found) == len(rows)
    assert found == pytest.approx([200, 300, 500, 800, 200], rel=0.25)


@pytest.mark.parametrize("counts", [[70, 30, 50], [9, 9, 9], [200, 3, 11]])
def test_fractions_use_as_many_rows_as_trl(
    counts: list[int], import_text: ImportText, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rounding to whole rows may differ by a row."""
    fractions = [0.2, 0.5, 0.1]
    sets = [{"path": f"d/{n}", "fraction": share} for n, share in enumerate(fractions)]
    steps, out = import_text(TRL + f"datasets: {sets}\n")
    loaded = make_datasets(counts)
    monkeypatch.setattr(datasets, "load_dataset", lambda path, **_: loaded[int(path[-1])])
    theirs = Counter(get_dataset(DatasetMixtureConfig(datasets=list(sets)))["train"]["of"])
    assert count_used_rows(steps[1], counts) == pytest.approx([theirs[n] for n in range(3)], abs=1)
    assert steps[1]["data"][0] == {"hub": "d/0", "weight": 0.2}
    assert steps[1]["mixture"] == {"meet": "under"}
    assert notes_of(out, "datasets.0.fraction") == [
        "other meaning: f.yaml:3: datasets.0.fraction: mixture.meet: "
        "the rows of each data set are sampled, not the first ones"
    ]


def test_fraction_0_drops_a_data_set_and_a_single_data_set_is_read_whole(
    import_text: ImportText,
) -> None:
    sets = "datasets:\n- {path: d/a, fraction: 1}\n- {path: d/b, fraction: 0}\n"
    steps, out = import_text(TRL + sets)
    assert steps[1]["data"] == {"hub": "d/a", "weight": 1.0}
    assert notes_of(out, "datasets.1") == [
        "not needed: f.yaml:5: datasets.1: its fraction is 0, so no rows are used"
    ]
    steps, out = import_text(TRL + "datasets:\n- {path: d/a, fraction: 0.3}\n")
    assert steps[1]["data"] == {"hub": "d/a"}
    assert "mixture" not in steps[1]
    assert notes_of(out, "datasets.0.fraction") == [
        "not needed: f.yaml:4: datasets.0.fraction: a single data set is always used whole"
    ]


def test_trls_shuffling_and_text_column_are_imported(import_text: ImportText) -> None:
    text = "model_name_or_path: m/n\nuse_peft: false\ndataset_text_field: body\nshuffle_dataset: true\n"
    steps, _ = import_text(text + "datasets: [{path: d/a}, {path: d/b}]\n")
    assert steps[0]["stage"] == "pretrain"
    assert steps[0]["shuffle"] is True
    assert [entry["columns"] for entry in steps[0]["data"]] == [{"body": "text"}] * 2


REFUSED = {
    AXOLOTL + "    split: train+test\n": (
        "f.yaml:5: the split 'train+test' is not a split or a slice of a split\n"
        "  hint: list each split as its own data set\n"
    ),
    AXOLOTL + "    split: train[500:]\n": (
        "f.yaml:5: the split 'train[500:]' selects rows by index\n"
        "  hint: use the first rows ([:500]) or percentages ([10%:20%])\n"
    ),
    AXOLOTL + "    split: train[50%:20%]\n": "f.yaml:5: the split 'train[50%:20%]' has no rows\n",
    AXOLOTL + "    shards: 4\n    shards_idx: 4\n": (
        "f.yaml:6: there is no shard 4 of 4, counted from 0\n"
    ),
    AXOLOTL + "    split: train[:50%]\n    shards: 4\n    shards_idx: 1\n": (
        "f.yaml:7: a shard of a slice is not supported\n  hint: use the slice or the shard\n"
    ),
    AXOLOTL + "dataset_shard_num: 4\n": (
        "f.yaml:5: dataset_shard_num: shards are supported for each data set only: see datasets\n"
    ),
    ONLINE + "interleave_probs: 0.5,0.3,0.2\n": (
        "f.yaml:6: interleave_probs needs a mix_strategy that interleaves\n"
        "  hint: remove it or set mix_strategy\n"
    ),
    ONLINE + "mix_strategy: interleave_under\ninterleave_probs: 0.5,0.5,0\n": (
        "f.yaml:7: interleave_probs: 3 data sets need as many probabilities, each above 0\n"
        "  hint: remove data sets with a share of 0\n"
    ),
    ONLINE + "mix_strategy: interleave\n": (
        "f.yaml:6: mix_strategy: 'interleave' is not supported\n"
        "  hint: there are concat, interleave_once, interleave_under, interleave_over\n"
    ),
    TRL + "dataset_name: d/e\ndatasets:\n- {path: d/a}\n- {path: d/b, fraction: 0.5}\n": (
        "f.yaml:6: fraction is set for some data sets, not for all\n"
        "  hint: set it for all data sets or for none\n"
    ),
}


@pytest.mark.parametrize("text", REFUSED)
def test_unsupported_data_settings_are_refused(
    text: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "f.yaml").write_text(text, encoding="utf-8")
    assert main(["import", "f.yaml"]) == 2
    assert capsys.readouterr().err == REFUSED[text]

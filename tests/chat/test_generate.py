"""`aligner generate`: answers to files of prompts."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aligner.chat.model import ChatModel
from aligner.data.encoding.chat import encode_prompt
from aligner.models.generate import Sampling, generate

Aligner = Callable[..., tuple[int, str, str]]
ASKED = ["the small dog sees a big cat", "a", "red cat"]


def _rows(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def _prompts(folder: Path) -> Path:
    path = folder / "prompts.jsonl"
    rows = [{"prompt": ask, "answer": str(n)} for n, ask in enumerate(ASKED)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_every_prompt_is_answered_in_order_and_independently_of_its_batch(
    aligner: Aligner, model: ChatModel, tmp_path: Path
) -> None:
    words = ("generate", "small", str(_prompts(tmp_path)), "--max-new-tokens", "4")
    code, out, err = aligner(*words, "--batch-size", "2")
    sampling = Sampling(stop_tokens=model.stop_tokens, max_new_tokens=4)
    expected = []
    for number, ask in enumerate(ASKED):
        turn = {"role": "user", "content": ask}
        ids = encode_prompt((turn,), model.tokenizer)
        (answer,) = generate(model.model, [ids], sampling=sampling)
        expected.append({
            "prompt": [turn], "answer": answer.text(model.tokenizer), "ended": answer.ended,
            "tokens": len(answer.tokens), "row": {"answer": str(number)},
        })  # fmt: skip
    assert (code, _rows(out)) == (0, expected)
    assert list(_rows(out)[0]) == ["prompt", "answer", "ended", "tokens", "row"]
    assert re.fullmatch(r"3 answers in [\d.]+ s, 3 truncated at 4 tokens\n", err)


def test_a_table_and_a_plain_list_of_the_same_prompts_get_the_same_answers(
    aligner: Aligner, tmp_path: Path
) -> None:
    (tmp_path / "table.csv").write_text("prompt\n" + "".join(f"{ask}\n" for ask in ASKED))
    (tmp_path / "list.json").write_text(json.dumps([{"prompt": ask} for ask in ASKED]))
    short = ("--max-new-tokens", "4")
    answers = [
        [row["answer"] for row in _rows(aligner("generate", "small", str(path), *short)[1])]
        for path in (tmp_path / "table.csv", tmp_path / "list.json", _prompts(tmp_path))
    ]
    assert answers[0] == answers[1] == answers[2]
    assert len(answers[0]) == 3


def test_several_samples_share_a_line_and_the_same_seed_gives_the_same(
    aligner: Aligner, tmp_path: Path
) -> None:
    words = ("generate", "small", str(_prompts(tmp_path)), "--max-new-tokens", "4")
    hot = ("--temperature", "2", "--samples", "3", "--seed", "5", "--out")
    code, out, _ = aligner(*words, *hot, str(tmp_path / "one.jsonl"))
    aligner(*words, *hot, str(tmp_path / "again.jsonl"))
    text = (tmp_path / "one.jsonl").read_text()
    assert (code, out) == (0, "")
    assert text == (tmp_path / "again.jsonl").read_text()
    for row in _rows(text):
        assert len({answer["answer"] for answer in row["answers"]}) == 3
        assert "answer" not in row


def test_all_prompts_that_are_too_long_are_reported_at_once(
    aligner: Aligner, tmp_path: Path
) -> None:
    path = _prompts(tmp_path)
    code, out, err = aligner("generate", "small", str(path), "--max-new-tokens", "95")
    found = re.findall(
        r"jsonl:(\d): the prompt has (\d+) tokens; with an answer of up to (\d+)", err
    )
    assert (code, out) == (2, "")
    assert [line for line, _, most in found if most == "95"] == ["1", "2", "3"]
    hint = "  hint: use a lower --max-new-tokens, or shorter prompts"
    first, second, *_ = err.splitlines()
    assert first.endswith("it exceeds the model's context of 96")
    assert second == hint
    code, out, err = aligner("generate", "small", str(path), "--samples", "2")
    message = (
        "at temperature 0, all 2 answers to a prompt would be the same\n"
        "  hint: add --temperature 1\n"
    )
    assert (code, out, err) == (2, "", message)


def test_an_output_that_cannot_be_written_is_refused_before_anything_loads(
    aligner: Aligner, tmp_path: Path
) -> None:
    out = tmp_path / "none" / "out.jsonl"
    message = f"{out}: the output cannot be written\n  hint: name a file in an existing folder\n"
    got = aligner("generate", "small", str(_prompts(tmp_path)), "--out", str(out))
    assert got == (2, "", message)

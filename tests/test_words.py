"""The words of the code base: standard terms, US spelling, one name for one thing."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
CODE = sorted([*ROOT.glob("aligner/**/*.py"), *ROOT.glob("plugins/**/*.py")])
TESTS = sorted([*ROOT.glob("tests/**/*.py"), *ROOT.glob("benchmarks/**/*.py")])
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("recipes/*.yaml")])

CLAUSE = re.compile(r"(what|whether|where|how|which|that|who|when|why)\b", re.IGNORECASE)
"""Words that begin a clause; a first line is an imperative or a noun phrase."""

RETIRED = frozenset(
    [
        "Look",
        "Outlook",
        "Offers",
        "OfferConfig",
        "Aside",
        "Faults",
        "Collected",
        "Foreign",
        "Translated",
        "Translation",
        "Remark",
        "Outline",
        "Material",
        "LookedAt",
        "Link",
        "Sheet",
        "Kept",
        "Ordered",
        "Viewed",
        "Work",
        "Side",
        "Line",
        "Facts",
        "Setting",
        "Together",
        "Learner",
        "Measured",
        "Targets",
        "Voice",
        "Said",
        "Peer",
        "Draft",
        "StageConfig",
        "ChatStage",
        "PPOConfig",
        "EvaluateConfig",
        "AnnotateConfig",
        "Lane",
        "Shown",
        "Asked",
        "Laid",
        "figures",
        "figure",
        "faults",
        "fault",
        "maker",
        "scratch",
        "whole_model",
        "reward_beside",
        "drive",
        "on_disk",
        "refuse_unmoved",
        "treatment",
        "remember",
        "seams",
        "lanes",
        "one",
        "said",
        "told",
        "laid",
        "accumulate",
        "centre",
        "length_desensitised",
    ]
)
"""Names of earlier versions that no reader from TRL or PyTorch would guess."""

BRITISH = {
    "behaviour": "behavior",
    "colour": "color",
    "favour": "favor",
    "neighbour": "neighbor",
    "honour": "honor",
    "labour": "labor",
    "centre": "center",
    "labelled": "labeled",
    "labelling": "labeling",
    "modelled": "modeled",
    "modelling": "modeling",
    "cancelled": "canceled",
    "travelled": "traveled",
    "learnt": "learned",
    "unlearnt": "unlearned",
    "spelt": "spelled",
    "optimis": "optimiz",
    "normalis": "normaliz",
    "initialis": "initializ",
    "regularis": "regulariz",
    "generalis": "generaliz",
    "tokenis": "tokeniz",
    "quantis": "quantiz",
    "recognis": "recogniz",
    "serialis": "serializ",
    "summaris": "summariz",
    "minimis": "minimiz",
    "maximis": "maximiz",
    "organis": "organiz",
    "penalis": "penaliz",
    "synchronis": "synchroniz",
    "visualis": "visualiz",
    "specialis": "specializ",
    "utilis": "utiliz",
    "capitalis": "capitaliz",
    "analyse": "analyze",
    "catalogue": "catalog",
    "grey": "gray",
    "artefact": "artifact",
    "defence": "defense",
    "judgement": "judgment",
}
SPELLING = re.compile(rf"(?<![A-Za-z])(\w*?)({'|'.join(BRITISH)})", re.IGNORECASE)


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def at(path: Path, line: int) -> str:
    return f"{path.relative_to(ROOT)}:{line}"


def documented(path: Path) -> Iterator[tuple[int, str]]:
    """The first line of each docstring, with the line number of what it documents."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text:
                yield getattr(node, "lineno", 1), text.splitlines()[0]


def test_every_docstring_begins_with_an_imperative_or_a_noun() -> None:
    clauses = [
        f"{at(path, line)}: {text!r}"
        for path in [*CODE, *TESTS]
        for line, text in documented(path)
        if CLAUSE.match(text)
    ]
    assert clauses == []


def test_every_module_has_a_docstring() -> None:
    assert [str(path) for path in CODE if not ast.get_docstring(parsed(path))] == []


def test_every_class_name_is_defined_once() -> None:
    places = defaultdict(list)
    for path in CODE:
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(at(path, node.lineno))
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


def test_no_name_is_a_retired_word() -> None:
    found = []
    for path in [*CODE, *TESTS]:
        if path == Path(__file__):
            continue
        for token in tokenize.generate_tokens(io.StringIO(path.read_text("utf-8")).readline):
            if token.type == tokenize.NAME and token.string in RETIRED:
                found.append(f"{at(path, token.start[0])}: {token.string}")
    assert found == []


def test_spelling_is_american() -> None:
    found = []
    for path in [*CODE, *TESTS, *PAGES]:
        if path == Path(__file__) or "toy_tasks" in str(path):  # their rows ask for a "colour"
            continue
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
            for match in SPELLING.finditer(line):
                found.append(f"{at(path, number)}: {match[0]} ({BRITISH[match[2].lower()]})")
    assert found == []


def test_a_british_spelling_and_a_clause_would_be_found() -> None:
    assert SPELLING.search("unoptimised")
    assert not SPELLING.search("disk, promise, advise, exercise, metric")
    assert CLAUSE.match("Where runs lie.")
    assert not CLAUSE.match("Whole weights of a model.")

"""Load, train, save and tell apart tokenizers; a tokenizer here includes its chat template."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from aligner.errors import ModelError
from aligner.models.files import TOKENIZER_FILES, hash_folder
from aligner.run.processes import write_once
from aligner.stage import PlanContext
from aligner.state import Artifact, ModelCache

_ORIGIN = ("is_local", "local_files_only", "name_or_path")
SPECIAL = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}


def load_tokenizer(
    artifact: Artifact, model_cache: ModelCache, *, where: str = ""
) -> PreTrainedTokenizerBase:
    """The tokenizer behind `artifact`: the live one where there is one, else from its folder or the hub.

    Raises:
        ModelError: there is none, it needs code of its own, or it has no fast implementation.
    """
    kept = model_cache.take(artifact)
    if kept is not None:
        model_cache.keep(artifact, kept)  # a step uses a tokenizer and does not change it
        if isinstance(kept, PreTrainedTokenizerBase):
            return kept
    try:
        loaded = AutoTokenizer.from_pretrained(
            artifact.path, revision=artifact.revision, trust_remote_code=False
        )
    except Exception as error:  # the libraries beneath raise anything, bare Exception included
        said = str(error).strip().split("\n")[0][:200]
        what = f"no tokenizer can be loaded from {artifact.path!r}: {said}"
        hint = "it needs tokenizer.json and tokenizer_config.json; code of its own is never run"
        raise ModelError(what, where=where, hint=hint) from None
    if not isinstance(loaded, PreTrainedTokenizerBase) or not loaded.is_fast:
        what = f"the tokenizer of {artifact.path!r} has no fast implementation"
        hint = "save it once with AutoTokenizer, so that it has a tokenizer.json"
        raise ModelError(what, where=where, hint=hint)
    return loaded


def planned_tokenizer(context: PlanContext) -> PreTrainedTokenizerBase:
    """The tokenizer that will be in its slot when the step of `context` starts.

    Raises:
        ModelError: no step before says which one that will be.
    """
    outlook = context.slots.get("tokenizer")
    facts = outlook.facts if outlook is not None else {}
    tokenizer = facts.get("tokenizer")
    if isinstance(tokenizer, PreTrainedTokenizerBase):
        return tokenizer
    artifact = facts.get("artifact")
    if not isinstance(artifact, Artifact):
        made_by = (
            f"step {outlook.made_by!r} does not say which tokenizer it will leave"
            if (outlook is not None)
            else "no step before fills the slot 'tokenizer'"
        )
        raise ModelError(made_by, where=context.where)
    key = f"tokenizer {artifact.path} {artifact.revision}"
    if key not in context.memo:
        context.memo[key] = load_tokenizer(artifact, ModelCache(), where=context.where)
    loaded: PreTrainedTokenizerBase = context.memo[key]
    return loaded


def save_tokenizer(tokenizer: PreTrainedTokenizerBase, folder: Path) -> Artifact:
    """Write the tokenizer, chat template included, and say what its content is.

    The hash is the one that `aligner.models.resolve` gives a tokenizer's folder.
    """
    reset_batching(tokenizer)

    def write() -> Artifact:
        tokenizer.save_pretrained(folder)
        _forget_origin(folder / "tokenizer_config.json")
        return Artifact(path=str(folder), hash=hash_folder(folder, only=TOKENIZER_FILES))

    return write_once(folder, write, name="tokenizer")


def _forget_origin(settings: Path) -> None:
    """Leave out of the saved settings how the tokenizer was once loaded: equal ones are equal files."""
    raw = json.loads(settings.read_text(encoding="utf-8"))
    kept = {name: value for name, value in raw.items() if name not in _ORIGIN}
    text = json.dumps(kept, indent=2, ensure_ascii=False, sort_keys=True)
    settings.write_text(text + "\n", encoding="utf-8")


def tokenizer_hash(tokenizer: PreTrainedTokenizerBase) -> str:
    """SHA-256 of all that decides which ids a text or a conversation becomes."""
    reset_batching(tokenizer)
    backend: Tokenizer = tokenizer.backend_tokenizer
    parts = [
        backend.to_str(),
        str(tokenizer.chat_template),
        str(sorted(tokenizer.special_tokens_map.items())),
    ]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def reset_batching(tokenizer: PreTrainedTokenizerBase) -> None:
    """Take off the padding and truncation that the last call left on the tokenizer."""
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.backend_tokenizer.no_truncation()


def train_tokenizer(
    texts: Iterable[str],
    vocab_size: int,
    *,
    special: Sequence[str] = (),
    max_length: int | None = None,
) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer on `texts`; the same texts give the same tokenizer.

    It knows every byte, so nothing is unknown to it; it begins texts with `<s>`, and its pad token is
    no other token's.

    Args:
        texts: What it is to be short on.
        vocab_size: All tokens, the 256 bytes and the special ones included.
        special: Further tokens that stand for themselves, such as a chat template's.
        max_length: Longest text in tokens that the model will take.

    Raises:
        ModelError: `vocab_size` has no room for the bytes and the special tokens.
    """
    always = [*SPECIAL.values(), *special]
    if vocab_size < 256 + len(always):
        what = f"a vocabulary of {vocab_size} has no room for 256 bytes and {len(always)} special tokens"
        raise ModelError(what, hint=f"set it to {256 + len(always)} or more")
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=always,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    bos = SPECIAL["bos_token"]
    backend.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=False),
        processors.TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A {bos} $B",
            special_tokens=[(bos, backend.token_to_id(bos))],
        ),
    ])  # fmt: skip
    extra: dict[str, Any] = {"model_max_length": max_length} if max_length else {}
    made: PreTrainedTokenizerFast = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]  # upstream
        tokenizer_object=backend,
        extra_special_tokens=list(special),
        clean_up_tokenization_spaces=False,
        **SPECIAL,
        **extra,
    )
    return made

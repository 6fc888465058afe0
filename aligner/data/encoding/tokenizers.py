"""Load, train, save and hash tokenizers, chat template included."""

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


def load_tokenizer(artifact: Artifact, model_cache: ModelCache) -> PreTrainedTokenizerBase:
    """Return the tokenizer of `artifact`: from the model cache, its folder or the hub.

    Raises:
        ModelError: there is none, it needs remote code, or it has no fast implementation.
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
        reason = str(error).strip().split("\n")[0][:200]
        what = f"no tokenizer can be loaded from {artifact.path!r}: {reason}"
        hint = "it needs tokenizer.json and tokenizer_config.json; code of its own is never run"
        raise ModelError(what, hint=hint) from None
    if not isinstance(loaded, PreTrainedTokenizerBase) or not loaded.is_fast:
        what = f"the tokenizer of {artifact.path!r} has no fast implementation"
        hint = "save it once with AutoTokenizer, so that it has a tokenizer.json"
        raise ModelError(what, hint=hint)
    return loaded


def planned_tokenizer(context: PlanContext) -> PreTrainedTokenizerBase:
    """Return the tokenizer that will be in its slot when the step starts.

    Raises:
        ModelError: no earlier step states which one that will be.
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
        context.memo[key] = load_tokenizer(artifact, ModelCache())
    loaded: PreTrainedTokenizerBase = context.memo[key]
    return loaded


def save_tokenizer(tokenizer: PreTrainedTokenizerBase, folder: Path) -> Artifact:
    """Save the tokenizer, chat template included, and return its artifact.

    The hash is the one that `aligner.models.resolve` gives a tokenizer's folder.
    """
    reset_batching(tokenizer)

    def write() -> Artifact:
        tokenizer.save_pretrained(folder)
        _forget_origin(folder / "tokenizer_config.json")
        return Artifact(path=str(folder), hash=hash_folder(folder, only=TOKENIZER_FILES))

    return write_once(folder, write, name="tokenizer")


def _forget_origin(settings: Path) -> None:
    """Remove from the saved settings how the tokenizer was loaded, for equal files."""
    raw = json.loads(settings.read_text(encoding="utf-8"))
    kept = {name: value for name, value in raw.items() if name not in _ORIGIN}
    text = json.dumps(kept, indent=2, ensure_ascii=False, sort_keys=True)
    settings.write_text(text + "\n", encoding="utf-8")


def tokenizer_hash(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return the SHA-256 of everything that decides the ids of a text or a conversation."""
    reset_batching(tokenizer)
    backend: Tokenizer = tokenizer.backend_tokenizer
    parts = [
        backend.to_str(),
        str(tokenizer.chat_template),
        str(sorted(tokenizer.special_tokens_map.items())),
    ]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def reset_batching(tokenizer: PreTrainedTokenizerBase) -> None:
    """Remove padding and truncation that an earlier call set on the tokenizer."""
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

    It contains every byte, so that no text is unknown; it adds `<s>` before texts, and has a pad token
    of its own.

    Args:
        texts: Texts to train on.
        vocab_size: Number of tokens, the 256 bytes and the special tokens included.
        special: Further special tokens, for example those of a chat template.
        max_length: Maximum length of a text in tokens.

    Raises:
        ModelError: `vocab_size` is too small for the bytes and the special tokens.
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

"""What curated rows are determined by besides the data itself, for fingerprints and caches."""

from __future__ import annotations

import json
from hashlib import sha256

from aligner.data.context import DataContext
from aligner.data.curation import VERSION
from aligner.data.curation.augment import thesaurus
from aligner.data.curation.contamination import measured
from aligner.data.curation.spec import EntryCuration, StepCuration
from aligner.data.options import DataOptions, DataSpec


def by_entry(spec: DataSpec, context: DataContext, option: str) -> str:
    """All that decides what `curated` and `augmented` make of an entry's rows; empty for nothing.

    Raises:
        DataError: the thesaurus cannot be read.
    """
    asked = spec.model_dump_json(include=set(EntryCuration.model_fields), exclude_none=True)
    if asked == "{}":
        return ""
    seed = context.seed if spec.sample is not None or spec.augment is not None else None
    synonyms = ""
    if spec.augment is not None and spec.augment.synonyms:
        known = sorted(thesaurus(spec.augment, context, option).items())
        synonyms = sha256(json.dumps(known).encode()).hexdigest()
    return f"{VERSION} {asked} {seed} {synonyms}"


def by_step(options: DataOptions, context: DataContext) -> str:
    """All that decides what `curated_together` and `order` make of a step's rows; empty for nothing.

    The data sets that rows are held against count by their content.

    Raises:
        DataError: data to compare with cannot be read.
    """
    asked = {
        name: value.model_dump(mode="json", exclude={"against"}) if value is not True else True
        for name in (*StepCuration.model_fields, "decontaminate")
        if (value := getattr(options, name))
    }
    weights = [spec.weight for spec in options.data]
    if not asked and not any(weights):
        return ""
    held = measured(options, options.decontaminate, context).hash if options.decontaminate else ""
    drawn = options.mixture is not None or options.shuffle or any(weights)
    seed = context.seed if drawn else None
    return f"{VERSION} {json.dumps(asked, sort_keys=True)} {weights} {seed} {held}"

"""The settings of TRL's command line, and what they are called here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aligner.errors import ChainError
from aligner.registry import ExternalConfig
from aligner_import.common import (
    TRAINER,
    adapter,
    betas,
    cut_longer,
    measuring,
    precision,
    put_data,
    put_mixture,
    quantized,
    saved_modules,
    spec,
    weighed,
)
from aligner_import.draft import StepDraft
from aligner_import.peer import Importer
from aligner_import.rules import (
    ATTENTION,
    Rule,
    ignored,
    number,
    part,
    same,
    share,
    switch,
    targets,
    unsupported,
    word,
)
from aligner_import.slices import rows_of

METHODS = ("sft", "dpo", "reward")
ONLY: Mapping[str, frozenset[str]] = {
    "dpo": frozenset({
        "beta", "loss_weights", "label_smoothing", "f_divergence_type", "precompute_ref_log_probs",
        "ld_alpha", "use_weighting", "discopop_tau", "sync_ref_model",
    }),
    "reward": frozenset({"center_rewards_coefficient"}),
    "sft": frozenset({
        "packing", "assistant_only_loss", "completion_only_loss", "dataset_text_field", "padding_free",
        "eval_packing", "packing_strategy", "max_seq_length", "shuffle_dataset",
    }),
}  # fmt: skip
"""Settings that only one of TRL's commands has."""
RATES = {"sft": 2e-5, "dpo": 1e-6, "reward": 1e-4, "pretrain": 2e-5}

OWN: tuple[Rule, ...] = (
    part("model_name_or_path", "`model`"),
    part("model_revision", "`model.revision`"),
    part("dataset_name", "`data`"),
    part("dataset_config", "`data.subset`"),
    part("dataset_train_split", "`data.split`"),
    part("dataset_test_split", "`eval_data`, where eval_strategy asks for measuring"),
    part("datasets", "`data`, several read one after the other, or by `fraction` as their `weight`"),
    same("shuffle_dataset", "shuffle", convert=switch, only="sft pretrain"),
    same("test_split_size", "hold_out", convert=share,
         differs="rows are held out by a hash of their prompt, so that no prompt is on both sides"),
    part("dataset_text_field", "the pretrain stage, with `data.columns`"),
    part("chat_template_path", "`chat.template`"),
    same("eos_token", "chat.end_of_turn", only="sft reward"),
    part("max_length", "`max_length`"),
    part("max_seq_length", "`max_length`"),
    same("packing", convert=switch, only="sft"),
    same("packing", "stream", convert=switch, only="pretrain"),
    part("assistant_only_loss", "`train_on`"),
    part("completion_only_loss", "`train_on`"),
    part("use_peft", "`adapter`"),
    part("lora_r", "`adapter.r`"),
    part("lora_alpha", "`adapter.lora_alpha`"),
    part("lora_dropout", "`adapter.lora_dropout`"),
    part("lora_target_modules", "`adapter.target_modules`"),
    part("lora_modules_to_save", "`adapter.modules_to_save`"),
    part("use_dora", "`adapter.method: dora`"),
    part("use_rslora", "`adapter.method: rslora`"),
    part("load_in_4bit", "`quantize: nf4`"),
    part("load_in_8bit", "`quantize: int8`"),
    same("attn_implementation", convert=word(ATTENTION, "attention kernel")),
    part("gradient_checkpointing", "`activation_checkpointing`; TRL's is on where nothing is said"),
    same("beta", convert=number, only="dpo"),
    same("loss_type", only="dpo"),
    same("loss_type", only="sft"),
    same("loss_weights", only="dpo"),
    same("label_smoothing", convert=number, only="dpo"),
    same("f_divergence_type", only="dpo"),
    same("f_alpha_divergence_coef", only="dpo"),
    same("ld_alpha", convert=number, only="dpo"),
    same("use_weighting", convert=switch, only="dpo"),
    same("discopop_tau", convert=number, only="dpo"),
    same("disable_dropout", convert=switch, only="dpo reward"),
    same("center_rewards_coefficient", only="reward"),
    *unsupported("the reference is always the policy that comes in, frozen", "sync_ref_model", decides=True),
    *unsupported("no loss is added to the reward's", "router_aux_loss_coef"),
    *unsupported("the start of a row is kept, or its newest turns: see overflow", "truncation_mode",
             harmless=("keep_start",)),
    *unsupported("data is read whole", "dataset_streaming", "streaming"),
    *unsupported("weights are computed as precision says", "dtype", "torch_dtype",
             harmless=("auto", "float32", "bfloat16")),
    *unsupported("parameters that are no module get no adapter", "lora_target_parameters"),
    *unsupported("a model is loaded with nothing but what the recipe says", "model_init_kwargs"),
    *unsupported("only nf4 is there", "bnb_4bit_quant_type", harmless=("nf4",)),
    *unsupported("activations are not moved to other memory", "activation_offloading"),
    *ignored("rows that do not see one another are laid out so by packing", "padding_free",
              "packing_strategy", "eval_packing", "pad_to_multiple_of"),
    *ignored("log-probabilities of the reference are computed once, or with adapters off",
              "precompute_ref_log_probs", "precompute_ref_batch_size"),
    *ignored("it is about the machine", "use_bnb_nested_quant", "bnb_4bit_quant_storage",
              "ignore_bias_buffers", "env", "lora_task_type", "dataset_kwargs"),
    *ignored("padding takes a token of its own", "pad_token"),
)  # fmt: skip


def stage(foreign: ExternalConfig) -> str:
    """The command the file is for, which it does not say itself."""
    asked = foreign.method
    if asked is None:
        found = [name for name, only in ONLY.items() if only & foreign.settings.keys()]
        if len(found) != 1:
            raise ChainError(
                "this file of TRL's does not show which command it is for",
                where=foreign.where,
                hint=f"say it with --method: {', '.join(METHODS)}",
            )
        asked = found[0]
    if asked not in METHODS:
        raise ChainError(
            f"there is no stage that trains as `trl {asked}` does",
            where=foreign.where,
            hint=f"there are {', '.join(METHODS)}",
        )
    return "pretrain" if asked == "sft" and foreign.settings.get("dataset_text_field") else asked


def model(draft: StepDraft) -> None:
    if draft.has("model_name_or_path"):
        name = str(draft.get("model_name_or_path"))
        draft.model(name, "model_name_or_path", draft.get("model_revision"))
    else:
        draft.refuse("model_name_or_path", "model_name_or_path is missing")
    if not draft.has("learning_rate"):
        draft.add("learning_rate", RATES[draft.stage], "learning_rate")


def weights(draft: StepDraft) -> None:
    if switch(draft.get("use_peft")):
        adapter(draft, rank=("lora_r", 16), alpha=("lora_alpha", 32), dropout=("lora_dropout", 0.05),
                dora="use_dora", rslora="use_rslora")  # fmt: skip
        if draft.has("lora_target_modules"):
            draft.put(
                "adapter.target_modules",
                targets(draft.get("lora_target_modules")),
                "lora_target_modules",
            )
        else:
            draft.add("adapter.target_modules", ["q_proj", "v_proj"], "lora_target_modules",
                      "as PEFT takes for models like Llama where nothing is said")  # fmt: skip
        saved_modules(draft)
    else:
        for key in ("lora_r", "lora_alpha", "lora_dropout", "lora_target_modules"):
            if draft.has(key):
                draft.say("not needed", key, "use_peft is off, so all weights are trained")
    quantized(draft, "load_in_4bit", "load_in_8bit")
    said = draft.get("gradient_checkpointing")
    if said is None:
        draft.add("activation_checkpointing", True, "gradient_checkpointing")
    else:
        draft.put("activation_checkpointing", switch(said), "gradient_checkpointing")


def data(draft: StepDraft) -> None:
    columns = {}
    text = draft.get("dataset_text_field", "text")
    if draft.stage == "pretrain" and text != "text":
        columns = {str(text): "text"}
    mixture = draft.get("datasets")
    if mixture:
        put_data(draft, "data", _mixed(draft, mixture, columns), "datasets")
    elif draft.has("dataset_name"):
        origin = draft.origin(str(draft.get("dataset_name")))
        subset = draft.get("dataset_config")
        put_data(
            draft, "data",
            [spec(origin, columns, subset=subset,
                  **rows_of(draft, "dataset_train_split", draft.get("dataset_train_split")))],
            "dataset_name",
        )  # fmt: skip
        if draft.get("eval_strategy", "no") != "no" and "hub" in origin:
            split = draft.get("dataset_test_split", "test")
            key = "dataset_test_split" if draft.has("dataset_test_split") else "eval_strategy"
            read = rows_of(draft, key, split)
            draft.put("eval_data", spec(origin, columns, subset=subset, **read), key)
    else:
        draft.refuse("dataset_name", "neither dataset_name nor datasets says what to train on")


def _mixed(draft: StepDraft, mixture: list[Any], columns: Mapping[str, str]) -> list[Any]:
    """The data sets of a mixture, with the weights by which they are mixed where they are."""
    said = [one if isinstance(one, Mapping) else {"path": str(one)} for one in mixture]
    specs = [_one(draft, n, one, columns) for n, one in enumerate(said)]
    fractions = [one.get("fraction") for one in said]
    given = [n for n, fraction in enumerate(fractions) if fraction is not None]
    if not given:
        return specs
    if len(specs) == 1:
        draft.say("not needed", "datasets.0.fraction", "all rows of a single data set are taken")
        return specs
    key = f"datasets.{given[0]}.fraction"
    if len(given) < len(specs):
        draft.refuse(key, "fraction is given for some data sets, not for all",
                     "TRL takes it of all of them or of none")  # fmt: skip
        return specs
    put_mixture(draft, "under", key, "rows of each data set are drawn, not taken from its start")
    weights = [float(fraction or 0) for fraction in fractions]
    for n, weight in enumerate(weights):
        if not weight:
            text = "none of its rows are taken, as its fraction is 0"
            draft.say("not needed", f"datasets.{n}", text)
    return [weighed(one, weight) for one, weight in zip(specs, weights, strict=True) if weight]


def _one(draft: StepDraft, number: int, said: Mapping[str, Any], columns: Mapping[str, str]) -> Any:
    for key, why in (
        ("columns", "all columns are read; those that no format knows do no harm"),
        ("data_dir", "name the folder itself as path"),
    ):
        if said.get(key):
            draft.say("no counterpart", f"datasets.{number}.{key}", why)
    if said.get("data_files"):
        draft.refuse(f"datasets.{number}.data_files", "files within a data set are read one by one",
                     "name the file itself as path")  # fmt: skip
    return spec(draft.origin(str(said.get("path"))), columns, subset=said.get("name"),
                **rows_of(draft, f"datasets.{number}.split", said.get("split")))  # fmt: skip


def speech(draft: StepDraft) -> None:
    """The template, whose tokens are learnt, and how long rows may be."""
    key = "max_length" if draft.has("max_length") else "max_seq_length"
    if draft.has(key):
        draft.put("max_length", draft.get(key), key)
    elif "max_length" not in draft.foreign.settings:
        draft.add("max_length", 1024, "max_length")
    if draft.stage == "pretrain":
        if not switch(draft.get("packing")):
            draft.add("stream", False, "packing", "each text is a row of its own, as in TRL")
        return
    path = draft.get("chat_template_path")
    draft.chat["template"] = "own" if path is None else draft.path(str(path))
    if path is not None and not str(path).endswith((".jinja", ".j2")):
        draft.chat["template"] = "own"
        text = "chat.template: the tokenizer's own; another model's must be saved as a file"
        draft.say("other meaning", "chat_template_path", text)
    if (
        not (draft.stage == "sft" and switch(draft.get("packing")))
        and "max_length" in draft.options
    ):
        cut_longer(draft, key if draft.has(key) else "max_length")
    if draft.stage == "sft":
        _learnt(draft)


def _learnt(draft: StepDraft) -> None:
    if switch(draft.get("assistant_only_loss")) or switch(draft.get("completion_only_loss")):
        return
    draft.add("train_on", "everything", "assistant_only_loss",
              "as TRL learns conversations; with rows of prompt and completion it learns only the "
              "completion: take the line out")  # fmt: skip


TRL = Importer(
    name="trl",
    title="TRL",
    signs=frozenset({
        "dataset_name", "dataset_train_split", "use_peft", "dataset_config", "assistant_only_loss",
        "lora_target_parameters", "center_rewards_coefficient", "precompute_ref_log_probs",
    }),
    method=stage,
    rules=(*OWN, *TRAINER),
    composers=(model, weights, data, speech, precision, betas, measuring),
    begins=("model_name_or_path",),
)  # fmt: skip

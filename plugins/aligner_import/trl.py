"""Table of the settings of TRL's command line and their equivalents in a recipe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aligner import ExternalConfig
from aligner.kit.declare import ChainError
from aligner_import.common import (
    TRAINER,
    data_entry,
    put_data,
    put_mixture,
    set_adapter,
    set_eval_options,
    set_precision,
    set_quantization,
    set_saved_modules,
    set_truncation,
    with_weight,
)
from aligner_import.importer import Importer
from aligner_import.rules import (
    ATTENTION,
    Rule,
    composed,
    ignored,
    lookup,
    parse_bool,
    parse_fraction,
    parse_number,
    parse_targets,
    same,
    unsupported,
)
from aligner_import.slices import split_options
from aligner_import.step_draft import StepDraft

METHODS = ("sft", "dpo", "kto", "reward")
COMMAND_SETTINGS: Mapping[str, frozenset[str]] = {
    "dpo": frozenset({
        "beta", "loss_weights", "label_smoothing", "f_divergence_type", "precompute_ref_log_probs",
        "ld_alpha", "use_weighting", "discopop_tau", "sync_ref_model",
    }),
    "kto": frozenset({"desirable_weight", "undesirable_weight"}),
    "reward": frozenset({"center_rewards_coefficient"}),
    "sft": frozenset({
        "packing", "assistant_only_loss", "completion_only_loss", "dataset_text_field", "padding_free",
        "eval_packing", "packing_strategy", "max_seq_length", "shuffle_dataset",
    }),
}  # fmt: skip
"""Settings of one TRL command only."""
LEARNING_RATES = {"sft": 2e-5, "dpo": 1e-6, "kto": 1e-6, "reward": 1e-4, "pretrain": 2e-5}

TOOL_RULES: tuple[Rule, ...] = (
    composed("model_name_or_path", "`model`"),
    composed("model_revision", "`model.revision`"),
    composed("dataset_name", "`data`"),
    composed("dataset_config", "`data.subset`"),
    composed("dataset_train_split", "`data.split`"),
    composed("dataset_test_split", "`eval_data`, if eval_strategy is set"),
    composed("datasets", "`data`: concatenated, or mixed with `fraction` as `weight`"),
    same("shuffle_dataset", "shuffle", convert=parse_bool, only="sft pretrain"),
    same("test_split_size", "hold_out", convert=parse_fraction,
         differs="rows are split by a hash of their prompt, so that no prompt is in both splits"),
    composed("dataset_text_field", "the pretrain stage, with `data.columns`"),
    composed("chat_template_path", "`chat.template`"),
    same("eos_token", "chat.end_of_turn", only="sft reward"),
    composed("max_length", "`max_length`"),
    composed("max_seq_length", "`max_length`"),
    same("packing", convert=parse_bool, only="sft"),
    same("packing", "stream", convert=parse_bool, only="pretrain"),
    composed("assistant_only_loss", "`train_on`"),
    composed("completion_only_loss", "`train_on`"),
    composed("use_peft", "`adapter`"),
    composed("lora_r", "`adapter.r`"),
    composed("lora_alpha", "`adapter.lora_alpha`"),
    composed("lora_dropout", "`adapter.lora_dropout`"),
    composed("lora_target_modules", "`adapter.target_modules`"),
    composed("lora_modules_to_save", "`adapter.modules_to_save`"),
    composed("use_dora", "`adapter.method: dora`"),
    composed("use_rslora", "`adapter.method: rslora`"),
    composed("load_in_4bit", "`quantize: nf4`"),
    composed("load_in_8bit", "`quantize: int8`"),
    same("attn_implementation", convert=lookup(ATTENTION, "attention kernel")),
    composed("gradient_checkpointing", "`activation_checkpointing`, which is on by default in TRL"),
    same("beta", convert=parse_number, only="dpo kto"),
    same("loss_type", only="dpo kto"),
    same("loss_type", only="sft"),
    same("loss_weights", only="dpo"),
    same("label_smoothing", convert=parse_number, only="dpo"),
    same("f_divergence_type", only="dpo"),
    same("f_alpha_divergence_coef", only="dpo"),
    same("ld_alpha", convert=parse_number, only="dpo"),
    same("use_weighting", convert=parse_bool, only="dpo"),
    same("discopop_tau", convert=parse_number, only="dpo"),
    same("desirable_weight", convert=parse_number, only="kto"),
    same("undesirable_weight", convert=parse_number, only="kto"),
    same("disable_dropout", convert=parse_bool, only="dpo kto reward"),
    same("center_rewards_coefficient", only="reward"),
    *unsupported("the reference is always the incoming policy, frozen", "sync_ref_model", decides=True),
    *unsupported("the router's auxiliary loss is not supported here", "router_aux_loss_coef"),
    *unsupported("rows keep their start or their newest turns: see overflow", "truncation_mode",
             harmless=("keep_start",)),
    *unsupported("streaming data sets are not supported", "dataset_streaming", "streaming"),
    *unsupported("`precision` sets the data type", "dtype", "torch_dtype",
             harmless=("auto", "float32", "bfloat16")),
    *unsupported("adapters on parameters are not supported", "lora_target_parameters"),
    *unsupported("further model arguments are not supported", "model_init_kwargs"),
    *unsupported("only nf4 is supported", "bnb_4bit_quant_type", harmless=("nf4",)),
    *unsupported("activation offloading is not supported", "activation_offloading"),
    *ignored("`packing` separates the rows of a bin", "padding_free",
              "packing_strategy", "eval_packing", "pad_to_multiple_of"),
    *ignored("reference log-probabilities are always computed once",
              "precompute_ref_log_probs", "precompute_ref_batch_size"),
    *ignored("it concerns the machine, not the result", "use_bnb_nested_quant", "bnb_4bit_quant_storage",
              "ignore_bias_buffers", "env", "lora_task_type", "dataset_kwargs"),
    *ignored("a separate padding token is used", "pad_token"),
)  # fmt: skip


def find_stage(config: ExternalConfig) -> str:
    """Return the TRL command of the file, which the file itself does not name."""
    command = config.method
    if command is None:
        found = [name for name, only in COMMAND_SETTINGS.items() if only & config.settings.keys()]
        if "kto" in found:  # some settings of DPO are settings of KTO too
            found = ["kto"]
        if len(found) != 1:
            raise ChainError(
                "the TRL command of this file is unclear",
                where=config.where,
                hint=f"set it with --method: {', '.join(METHODS)}",
            )
        command = found[0]
    if command not in METHODS:
        raise ChainError(
            f"importing `trl {command}` is not supported",
            where=config.where,
            hint=f"there are {', '.join(METHODS)}",
        )
    return "pretrain" if command == "sft" and config.settings.get("dataset_text_field") else command


def set_model(draft: StepDraft) -> None:
    """Set the base model and the default learning rate."""
    if draft.has("model_name_or_path"):
        name = str(draft.get("model_name_or_path"))
        draft.set_model(name, "model_name_or_path", draft.get("model_revision"))
    else:
        draft.add_error("model_name_or_path", "model_name_or_path is missing")
    if not draft.has("learning_rate"):
        draft.add("learning_rate", LEARNING_RATES[draft.stage], "learning_rate")


def set_trained_weights(draft: StepDraft) -> None:
    """Set the options of the adapter, quantization and checkpointing."""
    if parse_bool(draft.get("use_peft")):
        set_adapter(draft, rank=("lora_r", 16), alpha=("lora_alpha", 32), dropout=("lora_dropout", 0.05),
                dora="use_dora", rslora="use_rslora")  # fmt: skip
        if draft.has("lora_target_modules"):
            draft.put(
                "adapter.target_modules",
                parse_targets(draft.get("lora_target_modules")),
                "lora_target_modules",
            )
        else:
            draft.add("adapter.target_modules", ["q_proj", "v_proj"], "lora_target_modules",
                      "PEFT's default for Llama-like models")  # fmt: skip
        set_saved_modules(draft)
    else:
        for key in ("lora_r", "lora_alpha", "lora_dropout", "lora_target_modules"):
            if draft.has(key):
                draft.add_note("not needed", key, "use_peft is off, so full weights are trained")
    set_quantization(draft, "load_in_4bit", "load_in_8bit")
    value = draft.get("gradient_checkpointing")
    if value is None:
        draft.add("activation_checkpointing", True, "gradient_checkpointing")
    else:
        draft.put("activation_checkpointing", parse_bool(value), "gradient_checkpointing")


def set_data(draft: StepDraft) -> None:
    """Set the training and evaluation data."""
    columns = {}
    text = draft.get("dataset_text_field", "text")
    if draft.stage == "pretrain" and text != "text":
        columns = {str(text): "text"}
    mixture = draft.get("datasets")
    if mixture:
        put_data(draft, "data", _mixture_entries(draft, mixture, columns), "datasets")
    elif draft.has("dataset_name"):
        origin = draft.origin(str(draft.get("dataset_name")))
        subset = draft.get("dataset_config")
        put_data(
            draft, "data",
            [data_entry(origin, columns, subset=subset,
                  **split_options(draft, "dataset_train_split", draft.get("dataset_train_split")))],
            "dataset_name",
        )  # fmt: skip
        if draft.get("eval_strategy", "no") != "no" and "hub" in origin:
            split = draft.get("dataset_test_split", "test")
            key = "dataset_test_split" if draft.has("dataset_test_split") else "eval_strategy"
            read = split_options(draft, key, split)
            draft.put("eval_data", data_entry(origin, columns, subset=subset, **read), key)
    else:
        draft.add_error("dataset_name", "neither dataset_name nor datasets is set")


def _mixture_entries(draft: StepDraft, mixture: list[Any], columns: Mapping[str, str]) -> list[Any]:
    """Return the data entries of a mixture, with weights if it has fractions."""
    entries = [entry if isinstance(entry, Mapping) else {"path": str(entry)} for entry in mixture]
    specs = [_mixture_entry(draft, n, entry, columns) for n, entry in enumerate(entries)]
    fractions = [entry.get("fraction") for entry in entries]
    with_fraction = [n for n, fraction in enumerate(fractions) if fraction is not None]
    if not with_fraction:
        return specs
    if len(specs) == 1:
        draft.add_note(
            "not needed", "datasets.0.fraction", "a single data set is always used whole"
        )
        return specs
    key = f"datasets.{with_fraction[0]}.fraction"
    if len(with_fraction) < len(specs):
        draft.add_error(key, "fraction is set for some data sets, not for all",
                     "set it for all data sets or for none")  # fmt: skip
        return specs
    put_mixture(draft, "under", key, "the rows of each data set are sampled, not the first ones")
    weights = [float(fraction or 0) for fraction in fractions]
    for n, weight in enumerate(weights):
        if not weight:
            text = "its fraction is 0, so no rows are used"
            draft.add_note("not needed", f"datasets.{n}", text)
    return [
        with_weight(entry, weight) for entry, weight in zip(specs, weights, strict=True) if weight
    ]


def _mixture_entry(
    draft: StepDraft, number: int, value: Mapping[str, Any], columns: Mapping[str, str]
) -> Any:
    for key, why in (
        ("columns", "all columns are read; unknown ones are ignored"),
        ("data_dir", "give the folder as path"),
    ):
        if value.get(key):
            draft.add_note("no counterpart", f"datasets.{number}.{key}", why)
    if value.get("data_files"):
        draft.add_error(f"datasets.{number}.data_files", "files inside a data set cannot be selected",
                     "give the file as path")  # fmt: skip
    return data_entry(draft.origin(str(value.get("path"))), columns, subset=value.get("name"),
                **split_options(draft, f"datasets.{number}.split", value.get("split")))  # fmt: skip


def set_chat_options(draft: StepDraft) -> None:
    """Set the chat template, the trained tokens and the maximum length."""
    key = "max_length" if draft.has("max_length") else "max_seq_length"
    if draft.has(key):
        draft.put("max_length", draft.get(key), key)
    elif "max_length" not in draft.config.settings:
        draft.add("max_length", 1024, "max_length")
    if draft.stage == "pretrain":
        if not parse_bool(draft.get("packing")):
            draft.add("stream", False, "packing", "each text is its own row, as in TRL")
        return
    path = draft.get("chat_template_path")
    draft.chat["template"] = "own" if path is None else draft.path(str(path))
    if path is not None and not str(path).endswith((".jinja", ".j2")):
        draft.chat["template"] = "own"
        text = "chat.template: the tokenizer's own; save another model's template in a file"
        draft.add_note("other meaning", "chat_template_path", text)
    if (
        not (draft.stage == "sft" and parse_bool(draft.get("packing")))
        and "max_length" in draft.options
    ):
        set_truncation(draft, key if draft.has(key) else "max_length")
    if draft.stage == "sft":
        _trained_tokens(draft)


def _trained_tokens(draft: StepDraft) -> None:
    if parse_bool(draft.get("assistant_only_loss")) or parse_bool(
        draft.get("completion_only_loss")
    ):
        return
    draft.add("train_on", "everything", "assistant_only_loss",
              "as TRL trains on conversations; for rows with prompt and completion it trains on the "
              "completion only: remove the line")  # fmt: skip


TRL = Importer(
    name="trl",
    title="TRL",
    identifying=frozenset({
        "dataset_name", "dataset_train_split", "use_peft", "dataset_config", "assistant_only_loss",
        "lora_target_parameters", "center_rewards_coefficient", "precompute_ref_log_probs",
    }),
    method=find_stage,
    rules=(*TOOL_RULES, *TRAINER),
    composers=(set_model, set_trained_weights, set_data, set_chat_options, set_precision, set_eval_options),
    policy_settings=("model_name_or_path",),
)  # fmt: skip

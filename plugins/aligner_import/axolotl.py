"""Table of Axolotl's settings and their equivalents in a recipe."""

from __future__ import annotations

from aligner import ExternalConfig
from aligner.kit.declare import ChainError
from aligner_import.axolotl_data import row_kind_of, set_data, set_template
from aligner_import.common import (
    OFFLINE_STAGES,
    TRAINER,
    set_adapter,
    set_precision,
    set_quantization,
    set_saved_modules,
)
from aligner_import.importer import Importer
from aligner_import.rules import (
    Rule,
    composed,
    ignored,
    parse_bool,
    parse_fraction,
    parse_number,
    parse_optimizer,
    parse_sampling_strategy,
    parse_schedule,
    parse_targets,
    same,
    unsupported,
)
from aligner_import.step_draft import StepDraft

METHODS = {"dpo": "dpo", "ipo": "dpo"}
_OVERRIDDEN = frozenset({
    "num_train_epochs", "per_device_train_batch_size", "lr_scheduler_type", "optim", "fp16",
    "gradient_accumulation_steps", "group_by_length",
})  # fmt: skip
"""Settings of transformers' Trainer that have another name or default in Axolotl."""

TOOL_RULES: tuple[Rule, ...] = (
    composed("base_model", "`model`"),
    composed("revision_of_model", "`model.revision`"),
    composed("rl", "the stage: dpo, or dpo with `loss_type: ipo`"),
    composed("reward_model", "the reward stage"),
    composed("adapter", "`adapter`, and `quantize: nf4` for qlora"),
    composed("lora_r", "`adapter.r`"),
    composed("lora_alpha", "`adapter.lora_alpha`"),
    composed("lora_dropout", "`adapter.lora_dropout`"),
    composed("lora_target_linear", "`adapter.target_modules: all-linear`"),
    composed("lora_target_modules", "`adapter.target_modules`"),
    composed("lora_modules_to_save", "`adapter.modules_to_save`"),
    composed("lora_model_dir", "`incoming: continue`, after the file that trains the adapter"),
    composed("peft_use_dora", "`adapter.method: dora`"),
    composed("peft_use_rslora", "`adapter.method: rslora`"),
    composed("load_in_4bit", "`quantize: nf4`"),
    composed("load_in_8bit", "`quantize: int8`"),
    composed("datasets", "`data`, and for some types `chat.template`"),
    composed("test_datasets", "`eval_data`"),
    composed("pretraining_dataset", "`data` of the pretrain stage"),
    composed("chat_template", "`chat.template`; the rendered text may differ in details"),
    composed("chat_template_jinja", "`chat.template`, if it is a file"),
    same("default_system_message", "chat.system"),
    composed("special_tokens", "`chat.end_of_turn`, from its eos_token"),
    composed("eot_tokens", "`chat.end_of_turn`"),
    same("tokens", "chat.special_tokens"),
    same("sequence_len", "max_length", default=512, only="pretrain"),
    same("sequence_len", "max_length", default=512,
         differs="longer rows are dropped too, but the check fails if they are more than 5 %"),
    same("val_set_size", "hold_out", convert=parse_fraction, only=OFFLINE_STAGES,
         differs="rows are split by a hash of their prompt, so that no prompt is in both splits"),
    same("dataset_exact_deduplication", "deduplicate", convert=lambda on: "exact" if parse_bool(on) else None,
         differs="rows are compared as text, not as tokens; eval_data is not deduplicated"),
    same("shuffle_merged_datasets", "shuffle", convert=parse_bool),
    same("sample_packing", "packing", convert=parse_bool, only="sft"),
    same("sample_packing", "stream", convert=parse_bool, only="pretrain",
         differs="documents are joined and split into rows; documents in a row attend to each other"),
    same("micro_batch_size", "per_device_train_batch_size", default=1),
    same("gradient_accumulation_steps"),
    same("num_epochs", "num_train_epochs", default=1.0),
    same("optimizer", "optim", convert=parse_optimizer),
    same("lr_scheduler", "lr_scheduler_type", convert=parse_schedule, default="cosine"),
    same("group_by_length", "train_sampling_strategy", convert=parse_sampling_strategy, default=False),
    same("rl_beta", "beta", convert=parse_number, only="dpo"),
    same("dpo_beta", "beta", convert=parse_number, only="dpo"),
    same("dpo_label_smoothing", "label_smoothing", convert=parse_number, only="dpo"),
    same("dpo_use_weighting", "use_weighting", convert=parse_bool, only="dpo"),
    same("center_rewards_coefficient", only="reward"),
    composed("train_on_inputs", "`train_on: everything`"),
    composed("gradient_checkpointing", "`activation_checkpointing`"),
    composed("flash_attention", "`attn_implementation: flash_attention_2`"),
    composed("sdp_attention", "`attn_implementation: sdpa`"),
    composed("eager_attention", "`attn_implementation: eager`"),
    composed("flex_attention", "`attn_implementation: flex_attention`"),
    composed("attn_implementation", "`attn_implementation`"),
    composed("bfloat16", "`precision: pure_bf16`"),
    composed("fp16", "`precision`"),
    composed("evals_per_epoch", "`eval_steps`", differs="evaluated at the end only; set eval_steps for more"),
    composed("early_stopping_patience", "`early_stopping_patience`, if eval_steps is a number of steps"),
    *unsupported("there is no limit for the prompt alone, only max_length for the pair", "max_prompt_len",
             harmless=(512,)),
    *unsupported("this attention implementation is not supported", "xformers_attention", "s2_attention"),
    *unsupported("this kernel is not supported", "lora_mlp_kernel", "lora_qkv_kernel", "lora_o_kernel",
             "flash_attn_cross_entropy", "flash_attn_rms_norm", "flash_attn_fuse_qkv",
             "flash_attn_fuse_mlp", "unsloth_cross_entropy_loss", "unsloth_lora_mlp", "unsloth_lora_qkv",
             "unsloth_lora_o", "liger_rope", "liger_rms_norm", "liger_glu_activation",
             "liger_layer_norm", "liger_fused_linear_cross_entropy", "liger_cross_entropy",
             "cut_cross_entropy"),
    *unsupported("code of Axolotl plugins is never run", "plugins"),
    *unsupported("rows are shuffled in every epoch", "curriculum_sampling"),
    *unsupported("the rows of all data sets are shuffled together", "shuffle_before_merging_datasets"),
    *unsupported("shards are supported for each data set only: see datasets",
             "dataset_shard_num", "dataset_shard_idx",
             harmless=(0, 1), decides=True),
    *unsupported("conversations are not truncated at their end",
             "excess_length_strategy", harmless=("drop",)),
    *unsupported("this training method is not supported", "relora", "unfrozen_parameters",
             "loraplus_lr_ratio", "lisa_n_layers", "peft_layers_to_transform", "loftq_config", "gptq",
             "qat", "fp8", decides=True),
    *unsupported("the model's own position encoding is used",
             "use_pose", "overrides_of_model_config", "rope_theta"),
    *unsupported("this loss term is not supported", "rpo_alpha", decides=True),
    *unsupported("sequence and tensor parallelism are not supported", "sequence_parallel_degree",
             "context_parallel_size", "tensor_parallel_size", harmless=(1,)),
    *unsupported("a minimum learning rate is not supported",
             "cosine_min_lr_ratio", "cosine_constant_lr_ratio"),
    *unsupported("learning rates for groups of weights are not supported",
             "embedding_lr", "embedding_lr_scale", "lr_groups"),
    *unsupported("the global batch size follows from the per-device batch size and gradient accumulation",
             "batch_size"),
    *ignored("padding and packing need no further settings", "pad_to_sequence_len", "sample_packing_bin_size",
              "sample_packing_group_size", "eval_sample_packing", "sample_packing_sequentially",
              "pad_to_multiple_of", "multipack_real_batches"),
    *ignored("the model's own files define it", "model_type", "tokenizer_type", "is_llama_derived_model",
              "is_mistral_derived_model", "is_falcon_derived_model", "tokenizer_use_fast",
              "tokenizer_legacy", "base_model_config", "tokenizer_config", "strict",
              "lora_fan_in_fan_out", "lora_on_cpu", "merge_lora", "peft_autocast_adapter_dtype"),
    *ignored("use an evaluate step to generate and score answers", "eval_table_size", "eval_max_new_tokens",
              "do_bench_eval", "do_causal_lm_eval", "eval_causal_lm_metrics"),
    *ignored("the best weights are kept only if early_stopping_patience is set",
              "load_best_model_at_end", "metric_for_best_model", "greater_is_better"),
    *ignored("a loss of NaN or infinity always stops the step",
              "loss_watchdog_threshold", "loss_watchdog_patience"),
    *ignored("it concerns the machine, not the result",
              "gpu_memory_limit", "max_memory", "gc_steps", "profiler_steps",
              "auto_resume_from_checkpoints", "use_ray", "ray_num_workers", "accelerator_config",
              "resize_token_embeddings_to_32x", "dataset_keep_in_memory", "experimental_skip_move_to_device"),
)  # fmt: skip


def find_stage(config: ExternalConfig) -> str:
    """Return the stage that is equivalent to the file's training method."""
    settings = config.settings
    rl = settings.get("rl")
    if rl:
        if rl not in METHODS:
            raise ChainError(
                f"rl: importing Axolotl's {rl!r} is not supported",
                where=config.at("rl"),
                hint=f"there are {', '.join(METHODS)}; use dpo for preference pairs",
            )
        return METHODS[rl]
    if settings.get("process_reward_model"):
        raise ChainError("process_reward_model: process reward models are not supported",
                         where=config.at("process_reward_model"))  # fmt: skip
    if settings.get("reward_model"):
        return "reward"
    return (
        "pretrain"
        if settings.get("pretraining_dataset") or row_kind_of(config) == "text"
        else "sft"
    )


def set_model(draft: StepDraft) -> None:
    """Set the base model, and the loss that `rl` names."""
    if draft.has("base_model"):
        draft.set_model(str(draft.get("base_model")), "base_model", draft.get("revision_of_model"))
    else:
        draft.add_error("base_model", "base_model is missing")
    if draft.get("rl") == "ipo":
        draft.put("loss_type", "ipo", "rl")


def set_trained_weights(draft: StepDraft) -> None:
    """Set the options of the adapter and of quantization."""
    kind = draft.get("adapter")
    if kind in ("lora", "qlora"):
        set_adapter(draft, rank=("lora_r", 8), alpha=("lora_alpha", 16), dropout=("lora_dropout", 0.0),
                dora="peft_use_dora", rslora="peft_use_rslora")  # fmt: skip
        if draft.has("lora_target_modules") and not parse_bool(draft.get("lora_target_linear")):
            draft.put(
                "adapter.target_modules",
                parse_targets(draft.get("lora_target_modules")),
                "lora_target_modules",
            )
        elif draft.has("lora_target_modules"):
            text = "lora_target_linear already selects all linear modules"
            draft.add_note("other meaning", "lora_target_modules", text)
        elif not parse_bool(draft.get("lora_target_linear")):
            draft.add("adapter.target_modules", ["q_proj", "v_proj"], "lora_target_modules",
                      "PEFT's default for Llama-like models")  # fmt: skip
        set_saved_modules(draft)
    elif kind is not None:
        draft.add_error("adapter", f"adapter: {kind!r} is not supported, only lora and qlora")
    set_quantization(draft, "load_in_4bit", "load_in_8bit")
    if kind == "qlora" and "quantize" not in draft.options:
        draft.put("quantize", "nf4", "adapter")


def set_speed_options(draft: StepDraft) -> None:
    """Set the options that change speed and memory only."""
    checkpointing = draft.get("gradient_checkpointing", False)
    if parse_bool(checkpointing):
        differs = "" if checkpointing is True else "activations are recomputed, not offloaded"
        draft.put("activation_checkpointing", True, "gradient_checkpointing", differs=differs)
    for key, kernel in (
        ("flash_attention", "flash_attention_2"), ("sdp_attention", "sdpa"),
        ("eager_attention", "eager"), ("flex_attention", "flex_attention"),
    ):  # fmt: skip
        if parse_bool(draft.get(key)):
            draft.put("attn_implementation", kernel, key)
    kernels = {
        "flash": "flash_attention_2",
        "sdpa": "sdpa",
        "eager": "eager",
        "flex": "flex_attention",
    }
    value = draft.get("attn_implementation")
    if value is not None:
        kernel = next((v for k, v in kernels.items() if str(value).startswith(k)), "auto")
        draft.put("attn_implementation", kernel, "attn_implementation")


def set_other_options(draft: StepDraft) -> None:
    """Set the options of trained tokens, order, warmup and evaluation."""
    if parse_bool(draft.get("train_on_inputs")) and draft.stage == "sft":
        draft.put("train_on", "everything", "train_on_inputs")
    joined = draft.stage == "pretrain" and draft.options.get("stream", True)
    if not draft.has("shuffle_merged_datasets") and (joined or draft.options.get("packing")):
        draft.add("shuffle", True, "shuffle_merged_datasets")
    if not draft.has("warmup_steps") and not draft.has("warmup_ratio"):
        draft.add(
            "warmup_steps",
            0.03,
            "warmup_steps",
            "Axolotl's default, without its maximum of 100 steps",
        )
    steps = draft.get("eval_steps")
    has_eval_split = draft.options.get("hold_out") or "eval_data" in draft.options
    if isinstance(steps, int) and has_eval_split:
        draft.put("eval_steps", steps, "eval_steps")
    elif steps is not None:
        draft.add_note(
            "no counterpart",
            "eval_steps",
            "it needs an evaluation split and a whole number of steps",
        )
    patience = draft.get("early_stopping_patience")
    if patience and "eval_steps" in draft.options:
        draft.put("early_stopping_patience", patience, "early_stopping_patience")
    elif patience:
        text = "it needs eval_steps as a number of steps, which this file does not set"
        draft.add_note("no counterpart", "early_stopping_patience", text)


AXOLOTL = Importer(
    name="axolotl",
    title="Axolotl",
    identifying=frozenset({
        "base_model", "micro_batch_size", "sequence_len", "val_set_size", "datasets_prepared_path",
        "sample_packing", "pretraining_dataset", "lora_target_linear", "num_epochs",
    }),
    method=find_stage,
    method_settings=frozenset({"rl", "reward_model"}),
    rules=(*TOOL_RULES, *(rule for rule in TRAINER if rule.key not in _OVERRIDDEN)),
    composers=(
        set_model, set_trained_weights, set_data, set_template, set_speed_options, set_other_options,
        set_precision,
    ),
    policy_settings=("base_model", "lora_model_dir"),
)  # fmt: skip

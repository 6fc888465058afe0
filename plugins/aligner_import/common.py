"""Rules and composers that the three tools share, mainly for transformers' Trainer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aligner_import.rules import (
    Rule,
    composed,
    ignored,
    is_empty,
    parse_bool,
    parse_number,
    parse_optimizer,
    parse_sampling_strategy,
    parse_schedule,
    parse_steps,
    same,
    unsupported,
)
from aligner_import.step_draft import StepDraft

TEXT_STAGE = "pretrain"
CHAT_STAGES = "sft dpo reward kto"
OFFLINE_STAGES = f"{TEXT_STAGE} {CHAT_STAGES}"

HUB = (
    "push_to_hub", "hub_model_id", "hub_strategy", "hub_token", "hub_private_repo", "push_dataset_to_hub",
    "hf_use_auth_token", "token", "hf_hub_token",
)  # fmt: skip
TRACKERS = (
    "report_to", "run_name", "logging_dir", "wandb_project", "wandb_entity", "wandb_watch", "wandb_name",
    "wandb_log_model", "wandb_run_id", "wandb_mode", "use_swanlab", "swanlab_project", "swanlab_run_name",
    "swanlab_mode", "swanlab_workspace", "swanlab_api_key", "use_tensorboard", "use_mlflow",
    "mlflow_tracking_uri", "mlflow_experiment_name", "use_comet", "comet_project_name", "use_wandb",
    "trackio_space_id",
)  # fmt: skip
MACHINE = (
    "ddp_timeout", "local_rank", "ddp_find_unused_parameters", "ddp_bucket_cap_mb", "dataloader_num_workers",
    "dataloader_pin_memory", "dataloader_prefetch_factor", "preprocessing_num_workers", "dataset_num_proc",
    "dataset_processes", "preprocessing_batch_size", "overwrite_cache", "dataset_prepared_path",
    "tokenized_path", "low_cpu_mem_usage", "device_map", "device", "world_size", "torch_empty_cache_steps",
    "include_num_input_tokens_seen", "include_tokens_per_second", "log_level", "disable_tqdm", "debug",
)  # fmt: skip

TRAINER: tuple[Rule, ...] = (
    same("learning_rate", convert=parse_number),
    same("num_train_epochs", default=3.0, only=OFFLINE_STAGES),
    same("max_steps", convert=parse_steps, only=OFFLINE_STAGES),
    same("per_device_train_batch_size", only=OFFLINE_STAGES),
    same("gradient_accumulation_steps", only=OFFLINE_STAGES),
    same("lr_scheduler_type", convert=parse_schedule),
    same("warmup_ratio", "warmup_steps"),
    same("warmup_steps"),
    same("weight_decay", convert=parse_number),
    same("max_grad_norm", convert=parse_number),
    same("optim", convert=parse_optimizer, only=OFFLINE_STAGES),
    same("logging_steps", convert=parse_steps, only=OFFLINE_STAGES),
    same("save_steps", convert=parse_steps, only=OFFLINE_STAGES,
         differs="only the newest checkpoints of a running step are kept"),
    same("seed", "recipe.seed"),
    same("group_by_length", "train_sampling_strategy", convert=parse_sampling_strategy,
         default=False, only="pretrain sft dpo reward"),
    same("adam_beta1", convert=parse_number),
    same("adam_beta2", convert=parse_number),
    composed("bf16", "`precision`"),
    composed("fp16", "`precision`"),
    composed("eval_strategy", "`eval_steps`, together with its value"),
    composed("evaluation_strategy", "`eval_steps`, together with its value"),
    composed("eval_steps", "`eval_steps`, if there is an evaluation split"),
    *unsupported("a run resumes from its own folder only", "resume_from_checkpoint"),
    *unsupported("Adam's epsilon is 1e-8, PyTorch's default", "adam_epsilon", harmless=(1e-8,)),
    *unsupported("NEFTune is not supported", "neftune_noise_alpha"),
    *unsupported("Liger kernels are not supported", "use_liger_kernel", "enable_liger_kernel"),
    *unsupported("code from model or data repositories is never run", "trust_remote_code"),
    *unsupported("schedules have no further options", "lr_scheduler_kwargs"),
    *unsupported("optimizers have no further options", "optim_args"),
    *unsupported("sharding is configured at launch (torchrun, accelerate)",
             "deepspeed", "fsdp", "fsdp_config", "fsdp_final_state_dict_type"),
    *unsupported("PyTorch's own setting is used", "tf32"),
    *unsupported("torch.compile is not supported", "torch_compile"),
    *ignored("every finished step is saved in the run's folder",
              "output_dir", "overwrite_output_dir", "save_strategy", "save_total_limit",
              "save_only_model", "save_safetensors", "saves_per_epoch", "save_first_step"),
    *ignored("the stage defines what is done", "do_train"),
    *ignored("the evaluation split is always evaluated", "do_eval"),
    *ignored("evaluation uses the training batch size",
              "per_device_eval_batch_size", "eval_batch_size", "eval_accumulation_steps"),
    *ignored("trackers are plugins; metrics are in the run's folder", *TRACKERS),
    *ignored("upload a model with aligner export", *HUB),
    *ignored("it does not change the result", *MACHINE),
    *ignored("metrics are in the run's folder", "plot_loss", "logging_first_step", "logging_strategy"),
    *ignored("only the columns of the tokenized rows are used", "remove_unused_columns"),
    *ignored("non-reentrant checkpointing is used", "gradient_checkpointing_kwargs"),
)  # fmt: skip


def set_precision(draft: StepDraft) -> None:
    """Set `precision` from bf16, fp16 and similar switches; fp32 if bf16 is off."""
    for key, precision in (
        ("pure_bf16", "pure_bf16"), ("bfloat16", "pure_bf16"), ("bf16", "bf16"), ("fp16", "fp16"),
    ):  # fmt: skip
        value = draft.get(key)
        if isinstance(value, str) and value.lower() == "auto":
            draft.put("precision", "auto", key)
            return
        if parse_bool(value):
            draft.put("precision", precision, key)
            return
    if draft.has("bf16"):
        draft.put("precision", "fp32", "bf16")


def set_eval_options(draft: StepDraft) -> None:
    """Set `eval_steps` if there is an evaluation split."""
    strategy = draft.get("eval_strategy", draft.get("evaluation_strategy", "no"))
    steps = draft.get("eval_steps")
    has_eval_split = draft.options.get("hold_out") or "eval_data" in draft.options
    if strategy == "epoch" and has_eval_split:
        key = "eval_strategy" if draft.has("eval_strategy") else "evaluation_strategy"
        draft.add_note("other meaning", key, "evaluated at the end only; set eval_steps for more")
    if steps is None or strategy not in ("steps", "no"):
        return
    if has_eval_split:
        if isinstance(steps, int):
            draft.put("eval_steps", steps, "eval_steps")
        else:
            draft.add_note(
                "no counterpart", "eval_steps", "a fraction of the steps is not supported"
            )
    else:
        draft.add_note("not needed", "eval_steps", "there is no evaluation split")


def set_adapter(
    draft: StepDraft, *, rank: tuple[str, int], alpha: tuple[str, float], dropout: tuple[str, float],
    dora: str, rslora: str,
) -> None:  # fmt: skip
    """Set a LoRA adapter from the settings with these names and the tool's defaults."""
    method = (
        "dora"
        if parse_bool(draft.get(dora))
        else "rslora"
        if parse_bool(draft.get(rslora))
        else "lora"
    )
    draft.options["adapter.method"] = method
    for option, (key, default) in (("r", rank), ("lora_alpha", alpha), ("lora_dropout", dropout)):
        if draft.has(key):
            draft.put(f"adapter.{option}", parse_number(draft.get(key)), key)
        else:
            draft.add(f"adapter.{option}", default, key)


def set_saved_modules(draft: StepDraft) -> None:
    """Set the modules that are fully trained along with the adapter."""
    if draft.has("lora_modules_to_save"):
        modules = list(draft.get("lora_modules_to_save"))
        draft.put("adapter.modules_to_save", modules, "lora_modules_to_save")


def set_quantization(draft: StepDraft, four: str, eight: str) -> None:
    """Set quantization to 4 or 8 bits from two switches."""
    for key, method in ((four, "nf4"), (eight, "int8")):
        if parse_bool(draft.get(key)):
            if "adapter.method" in draft.options:
                draft.put("quantize", method, key)
            else:
                draft.add_error(key, f"{key}: quantized weights need an adapter",
                             "add an adapter or remove the setting")  # fmt: skip


def columns_to_rename(pairs: Mapping[str, Any]) -> dict[str, str]:
    """Return the columns to rename, from their names in the rows to ours."""
    return {
        str(theirs): ours
        for ours, theirs in pairs.items()
        if not is_empty(theirs) and theirs != ours
    }


def data_entry(origin: Mapping[str, Any], columns: Mapping[str, str], **others: Any) -> Any:
    """Return the shortest form of a data entry."""
    value = {**origin, **{k: v for k, v in others.items() if not is_empty(v)}}
    if columns:
        value["columns"] = dict(columns)
    if value.get("split") == "train":
        del value["split"]
    return value["path"] if value.keys() == {"path"} else value


def with_weight(value: Any, weight: float) -> dict[str, Any]:
    """Return a data entry with a weight."""
    return {**({"path": value} if isinstance(value, str) else value), "weight": weight}


def put_mixture(draft: StepDraft, meet: str, key: str, text: str) -> None:
    """Set the rule by which the weights of the data sets are met."""
    exception = "; the evaluation split is not mixed" if draft.options.get("hold_out") else ""
    draft.put("mixture.meet", meet, key, differs=f"{text}{exception}")


def put_data(draft: StepDraft, option: str, specs: list[Any], key: str) -> None:
    """Set the data entries as the value of `option`."""
    if not specs:
        draft.add_error(key, f"no data set could be read from {key}")
        return
    draft.put(option, specs[0] if len(specs) == 1 else specs, key)


def set_truncation(draft: StepDraft, key: str) -> None:
    """Truncate rows that are too long at their end."""
    draft.options["overflow"] = "truncate"
    draft.add_note("other meaning", key, "longer rows are truncated as before, but the check fails if "
              "they are more than 5 %: see limits")  # fmt: skip

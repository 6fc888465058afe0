"""What the three tools have in common: settings of transformers' trainer, and parts read together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aligner_import.draft import StepDraft
from aligner_import.rules import (
    Rule,
    count,
    ignored,
    is_empty,
    number,
    optimizer,
    part,
    same,
    sampling_strategy,
    schedule,
    switch,
    unsupported,
)

TEXTS = "pretrain"
TALKS = "sft dpo reward"
ALL = f"{TEXTS} {TALKS}"

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
    same("learning_rate", convert=number),
    same("num_train_epochs", default=3.0, only=ALL),
    same("max_steps", convert=count, only=ALL),
    same("per_device_train_batch_size", only=ALL),
    same("gradient_accumulation_steps", only=ALL),
    same("lr_scheduler_type", convert=schedule, only=ALL),
    same("warmup_ratio", "warmup_steps", only=ALL),
    same("warmup_steps", only=ALL),
    same("weight_decay", convert=number),
    same("max_grad_norm", convert=number),
    same("optim", convert=optimizer, only=ALL),
    same("logging_steps", convert=count, only=ALL),
    same("save_steps", convert=count, only=ALL,
         differs="only the last checkpoint of a running step is kept"),
    same("seed", "recipe.seed"),
    same("group_by_length", "train_sampling_strategy", convert=sampling_strategy, default=False, only=ALL),
    same("adam_beta1", convert=number, only=ALL),
    same("adam_beta2", convert=number, only=ALL),
    part("bf16", "`precision`"),
    part("fp16", "`precision`"),
    part("eval_strategy", "`eval_steps`, with its value"),
    part("evaluation_strategy", "`eval_steps`, with its value"),
    part("eval_steps", "`eval_steps`, where rows are held out"),
    *unsupported("only whole files are resumed, and from the run folder", "resume_from_checkpoint"),
    *unsupported("Adam's ε is PyTorch's 1e-8", "adam_epsilon", harmless=(1e-8,)),
    *unsupported("the noise on embeddings is not there", "neftune_noise_alpha"),
    *unsupported("no loss is computed by this kernel", "use_liger_kernel", "enable_liger_kernel"),
    *unsupported("code that comes with a model or data is never run", "trust_remote_code"),
    *unsupported("a schedule has no further options", "lr_scheduler_kwargs"),
    *unsupported("an optimizer has no further options", "optim_args"),
    *unsupported("sharding is asked for where the run is launched (torchrun, accelerate)",
             "deepspeed", "fsdp", "fsdp_config", "fsdp_final_state_dict_type"),
    *unsupported("tensors are computed in the precision that PyTorch is set to", "tf32"),
    *unsupported("models are not compiled", "torch_compile"),
    *ignored("every step is saved when it ends, in the run's folder",
              "output_dir", "overwrite_output_dir", "save_strategy", "save_total_limit",
              "save_only_model", "save_safetensors", "saves_per_epoch", "save_first_step"),
    *ignored("a step does what its stage does", "do_train"),
    *ignored("rows that are held out are measured on in any case", "do_eval"),
    *ignored("measuring takes the batches of training",
              "per_device_eval_batch_size", "eval_batch_size", "eval_accumulation_steps"),
    *ignored("an observer plugin tells trackers; curves are in the run's folder", *TRACKERS),
    *ignored("models are exported once they are good: aligner export", *HUB),
    *ignored("it changes neither data nor result", *MACHINE),
    *ignored("the curves are in the run's folder", "plot_loss", "logging_first_step", "logging_strategy"),
    *ignored("tensors are made from the rows alone", "remove_unused_columns"),
    *ignored("checkpointing is done without re-entering", "gradient_checkpointing_kwargs"),
)  # fmt: skip


def precision(draft: StepDraft) -> None:
    """One word for bf16, fp16 and the like; where bf16 is switched off, it is fp32."""
    for key, says in (
        ("pure_bf16", "pure_bf16"), ("bfloat16", "pure_bf16"), ("bf16", "bf16"), ("fp16", "fp16"),
    ):  # fmt: skip
        value = draft.get(key)
        if isinstance(value, str) and value.lower() == "auto":
            draft.put("precision", "auto", key)
            return
        if switch(value):
            draft.put("precision", says, key)
            return
    if draft.has("bf16"):
        draft.put("precision", "fp32", "bf16")


def betas(draft: StepDraft) -> None:
    """Set the two decays of Adam, which ppo has in one option."""
    if draft.stage != "ppo":
        return
    first, second = (draft.get("adam_beta1"), draft.get("adam_beta2"))
    if first is not None or second is not None:
        key = "adam_beta1" if first is not None else "adam_beta2"
        draft.put("betas", [number(first or 0.9), number(second or 0.999)], key)


def measuring(draft: StepDraft) -> None:
    """How often to measure, where there is something to measure on."""
    asked = draft.get("eval_strategy", draft.get("evaluation_strategy", "no"))
    steps = draft.get("eval_steps")
    held = draft.options.get("hold_out") or "eval_data" in draft.options
    if asked == "epoch" and held:
        key = "eval_strategy" if draft.has("eval_strategy") else "evaluation_strategy"
        draft.say("other meaning", key, "measured at the end; set eval_steps, in steps")
    if steps is None or asked not in ("steps", "no"):
        return
    if held:
        if isinstance(steps, int):
            draft.put("eval_steps", steps, "eval_steps")
        else:
            draft.say("no counterpart", "eval_steps", "a share of the steps cannot be given")
    else:
        draft.say("not needed", "eval_steps", "nothing is held out to measure on")


def adapter(
    draft: StepDraft, *, rank: tuple[str, int], alpha: tuple[str, float], dropout: tuple[str, float],
    dora: str, rslora: str,
) -> None:  # fmt: skip
    """A LoRA adapter from settings of these names, each with what it is where nothing is said."""
    method = (
        "dora" if switch(draft.get(dora)) else "rslora" if switch(draft.get(rslora)) else "lora"
    )
    draft.options["adapter.method"] = method
    for option, (key, otherwise) in (("r", rank), ("lora_alpha", alpha), ("lora_dropout", dropout)):
        if draft.has(key):
            draft.put(f"adapter.{option}", number(draft.get(key)), key)
        else:
            draft.add(f"adapter.{option}", otherwise, key)


def saved_modules(draft: StepDraft) -> None:
    """The modules that PEFT trains whole beside the adapter."""
    if draft.has("lora_modules_to_save"):
        modules = list(draft.get("lora_modules_to_save"))
        draft.put("adapter.modules_to_save", modules, "lora_modules_to_save")


def quantized(draft: StepDraft, four: str, eight: str) -> None:
    """4 or 8 bits from two switches."""
    for key, says in ((four, "nf4"), (eight, "int8")):
        if switch(draft.get(key)):
            if "adapter.method" in draft.options:
                draft.put("quantize", says, key)
            else:
                draft.refuse(key, f"{key}: weights in few bits are only held below an adapter",
                             "give an adapter, or take the setting out")  # fmt: skip


def renamed(pairs: Mapping[str, Any]) -> dict[str, str]:
    """Columns to rename: from what the rows have to what we call it, without what is so already."""
    return {str(have): ours for ours, have in pairs.items() if not is_empty(have) and have != ours}


def spec(origin: Mapping[str, Any], columns: Mapping[str, str], **others: Any) -> Any:
    """A data set as a recipe names it, as short as it can be said."""
    said = {**origin, **{k: v for k, v in others.items() if not is_empty(v)}}
    if columns:
        said["columns"] = dict(columns)
    if said.get("split") == "train":
        del said["split"]
    return said["path"] if said.keys() == {"path"} else said


def weighed(said: Any, weight: float) -> dict[str, Any]:
    """A data set of this share among the others."""
    return {**({"path": said} if isinstance(said, str) else said), "weight": weight}


def put_mixture(draft: StepDraft, meet: str, key: str, text: str) -> None:
    """Mix the data sets, which have weights, until rows of one are unsupported or none is left out."""
    held = "; what is held out is not mixed" if draft.options.get("hold_out") else ""
    draft.put("mixture.meet", meet, key, differs=f"{text}{held}")


def put_data(draft: StepDraft, option: str, specs: list[Any], key: str) -> None:
    if not specs:
        draft.refuse(key, f"no data set could be read from {key}")
        return
    draft.put(option, specs[0] if len(specs) == 1 else specs, key)


def cut_longer(draft: StepDraft, key: str) -> None:
    """Rows that are too long lose their ends, as many as there are."""
    draft.options["overflow"] = "cut"
    draft.say("other meaning", key, "longer rows are cut as before, but the check stops where "
              "these are more than 5 %: see limits")  # fmt: skip

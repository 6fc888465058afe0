"""Upload a finished folder to the Hugging Face hub, and say in plain words when that fails."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import HfApi, constants
from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled

from aligner.export.spec import ExportError, ExportFailed
from aligner.terminal.text import safe


def check_hub(push_to: str) -> None:
    """Raises ExportError where the hub is switched off, before any work is done for it."""
    if constants.HF_HUB_OFFLINE:
        raise ExportError(
            f"cannot push to {push_to!r}: the hub is switched off", hint="unset HF_HUB_OFFLINE"
        )


def push(folder: Path, push_to: str, *, private: bool) -> str:
    """Upload `folder` as the model `push_to`, which is made if it is not there; its address.

    Who may do so is for the hub to say: it knows you by `hf auth login` or HF_TOKEN.

    Raises:
        ExportFailed: It cannot be reached, or refuses.
    """
    api = HfApi()
    try:
        # An existing repository stays as public or private as it is.
        where = api.create_repo(push_to, repo_type="model", private=private, exist_ok=True)
        if private and not api.model_info(push_to).private:
            raise ExportFailed(
                f"{push_to!r} is on the hub already, and everybody can read it",
                hint="make it private on the hub, or leave out --private",
            )
        api.upload_folder(
            folder_path=folder, repo_id=push_to, commit_message="Upload a model made by aligner"
        )
    except (HfHubHTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled, OSError) as error:
        said = safe(str(error).strip().split("\n")[0])[:200] or type(error).__name__
        raise ExportFailed(
            f"the model is in {folder}, but could not be pushed to {push_to!r}: {said}",
            hint="check your network, the name, and `hf auth login`; then push that folder",
        ) from None
    return str(where)

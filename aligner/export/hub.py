"""Upload an exported folder to the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import HfApi, constants
from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled

from aligner.export.options import ExportError, ExportFailed
from aligner.terminal.text import sanitize


def check_hub(push_to: str) -> None:
    """Check that the Hub is not disabled, before any work is done.

    Raises:
        ExportError: HF_HUB_OFFLINE is set.
    """
    if constants.HF_HUB_OFFLINE:
        raise ExportError(
            f"cannot push to {push_to!r}: HF_HUB_OFFLINE disables the Hub",
            hint="unset HF_HUB_OFFLINE",
        )


def push(folder: Path, push_to: str, *, private: bool) -> str:
    """Upload `folder` as the model `push_to`, create the repository if needed, and return its URL.

    The Hub authenticates with `hf auth login` or HF_TOKEN.

    Raises:
        ExportFailed: The Hub cannot be reached, or refuses the upload.
    """
    api = HfApi()
    try:
        # An existing repository stays as public or private as it is.
        url = api.create_repo(push_to, repo_type="model", private=private, exist_ok=True)
        if private and not api.model_info(push_to).private:
            raise ExportFailed(
                f"{push_to!r} exists on the Hub and is public",
                hint="make it private on the Hub, or leave out --private",
            )
        api.upload_folder(
            folder_path=folder,
            repo_id=push_to,
            commit_message="Upload a model trained with aligner",
        )
    except (HfHubHTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled, OSError) as error:
        message = sanitize(str(error).strip().split("\n")[0])[:200] or type(error).__name__
        raise ExportFailed(
            f"the model is in {folder}, but could not be uploaded to {push_to!r}: {message}",
            hint="check the network, the name and `hf auth login`, then upload that folder",
        ) from None
    return str(url)

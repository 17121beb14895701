"""Uploads an export to the Hugging Face hub: says first what would leave the machine, and sends it when asked to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from trainables.errors import Finding, TrainablesError, count_things

LOG_IN = "create a token with the right to write at huggingface.co, and run: hf auth login"


def check_repo(repo: str) -> list[Finding]:
    """Returns why nothing could be uploaded to a repository, as far as this machine knows; asks nobody."""
    import huggingface_hub  # late: half a second
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils._validators import validate_repo_id

    where, found = f"--push-to-hub {repo}", []
    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        found.append(Finding(where, f"is no name of a repository: {error}", "give USER/NAME or ORGANISATION/NAME"))
    if huggingface_hub.get_token() is None:
        found.append(Finding(where, "no token of the hub is on this machine", LOG_IN))
    return found


@dataclass(frozen=True)
class HubUpload:
    """An upload that has not begun: the repository, the folder, and the size in bytes of each file below it."""

    repo: str
    folder: Path
    files: Mapping[str, int]

    @staticmethod
    def of(folder: Path, repo: str) -> HubUpload:
        """Returns the upload of every file of an export."""
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        return HubUpload(repo, folder, {str(path.relative_to(folder)): path.stat().st_size for path in paths})

    def to_lines(self) -> list[str]:
        """Returns for the screen what would leave this machine."""
        width = max(map(len, self.files))
        return [
            f"{count_things(len(self.files), 'file')} would be uploaded to {self.repo} on the Hugging Face hub:",
            *(f"  {name:{width}}  {size / 1e6:9.3f} MB" for name, size in self.files.items()),
            "  No file is an image or a mask. README.md is the model card: scores, sizes of the split, the search's",
            "  remarks on the data. It names SAM2's licence, Apache-2.0; whether your data's terms allow the upload is",
            "  yours to check.",
            "  A new repository is private; one that exists stays as visible as it is.",
        ]

    def send(self) -> str:
        """Uploads the files, in one commit; returns its address.

        Raises:
            TrainablesError: If the hub cannot be reached or refuses.
        """
        from huggingface_hub import HfApi

        api = HfApi()
        try:
            api.create_repo(self.repo, private=True, exist_ok=True)
            commit = api.upload_folder(
                repo_id=self.repo,
                folder_path=self.folder,
                allow_patterns=list(self.files),
                commit_message="Upload an export of a search",
            )
        except Exception as error:  # its HTTP client, and with it the errors, is another in each version
            raise TrainablesError(f"the upload to {self.repo} failed: {error}") from error
        return str(commit.commit_url)

"""Registers the exported winner in MLflow's model registry, as a version that any of MLflow's tools loads."""

import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from search.errors import SearchError
from search.served_model.saving import save_segmenter

CHOICE_TAG = "choice"
URI_TAG = "registered_model"  # of the search's run: models:/NAME/VERSION
# Answers of a registry that has no such service, or that this user may not write.
_REFUSALS = frozenset({"PERMISSION_DENIED", "FEATURE_DISABLED", "NOT_IMPLEMENTED", "ENDPOINT_NOT_FOUND", "NOT_FOUND"})


def name_model(experiment: str) -> str:
    """Returns the registered model of an experiment: ``sam2-lora``; a registry takes no slashes and colons."""
    return "sam2-" + re.sub(r"[/:\\.%\"']", "-", experiment)


class RegistryRefusal(SearchError):
    """The registry does not take the model, now or later."""


def register_model(
    client: Any, experiment_id: str, run_id: str, export: Path, name: str, tags: Mapping[str, str], description: str
) -> str:
    """Makes an export a version of a registered model, unless the run has it with the same tag `choice`.

    Returns its URI, ``models:/NAME/VERSION``. Raises what MLflow's client does when it is out of reach.

    Raises:
        RegistryRefusal: The registry refuses, or files of the export are missing.
    """
    try:
        for version in client.search_model_versions(f"name = '{name}' and run_id = '{run_id}'"):
            if version.tags.get(CHOICE_TAG) == tags[CHOICE_TAG]:
                return f"models:/{name}/{version.version}"
        return f"models:/{name}/{_add_version(client, experiment_id, run_id, export, name, tags, description)}"
    except Exception as error:
        if getattr(error, "error_code", "") in _REFUSALS or isinstance(error, OSError):
            raise RegistryRefusal(f"the winner is not registered as a model: {error}") from error
        raise


def _add_version(
    client: Any, experiment_id: str, run_id: str, export: Path, name: str, tags: Mapping[str, str], description: str
) -> Any:
    from mlflow.entities import LoggedModelOutput
    from mlflow.exceptions import MlflowException
    from mlflow.models import Model

    logged = client.create_logged_model(experiment_id, name="sam2", source_run_id=run_id, tags=dict(tags))
    with tempfile.TemporaryDirectory(prefix="model-") as scratch:
        folder, begun = Path(scratch) / "model", Model(logged.artifact_location, run_id, model_id=logged.model_id)
        save_segmenter(export, folder, begun)
        client.log_model_artifacts(logged.model_id, str(folder))
    client.finalize_logged_model(logged.model_id, "READY")
    client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
    try:
        client.create_registered_model(name, description="Winners of searches: a version for each.")
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    return client.create_model_version(
        name, logged.artifact_location, run_id, dict(tags), description=description, model_id=logged.model_id
    ).version

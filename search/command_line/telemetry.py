"""Switches usage reports and uploads of the libraries off, before they are imported: images of patients are near."""

import os

TELEMETRY_OFF = {
    "RAY_USAGE_STATS_ENABLED": "0",  # read by ray.init
    # A head started by hand reports that reports are off; discard port, so that this stays here too.
    "RAY_USAGE_STATS_REPORT_URL": "http://127.0.0.1:9/",
    # Read when ray is imported: under `uv run` it would copy the whole working directory for its workers.
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",  # read when mlflow is imported
    "NO_ALBUMENTATIONS_UPDATE": "1",  # read when albumentations is imported: it asks for the newest version
    "HF_HUB_DISABLE_TELEMETRY": "1",  # read when huggingface_hub is imported
    "DO_NOT_TRACK": "1",  # the convention that other libraries honor
}


def silence_telemetry() -> dict[str, str]:
    """Switches usage reports off for this process and those that it starts; variables that the user has set stay.

    Call it before ray, mlflow, albumentations or huggingface_hub are imported: some read the environment only then.
    It returns the variables with the values that now hold, for workers on other machines (``runtime_env``).
    """
    # Not the user's: a notebook's backend need not be installed here, and matplotlib could not even be imported.
    os.environ["MPLBACKEND"] = "agg"
    return {name: os.environ.setdefault(name, value) for name, value in TELEMETRY_OFF.items()}

"""Usage reports are off: the libraries are asked themselves, once they are imported."""

import json
import os
import subprocess
import sys

from search.command_line.telemetry import TELEMETRY_OFF

# Variables of build machines switch MLflow's reports off by themselves and would hide a failure.
CI_VARIABLES = {"CI", "GITHUB_ACTIONS", "CIRCLECI", "GITLAB_CI", "JENKINS_URL", "TF_BUILD", "BUILDKITE"}

ASK = {
    "ray": "from ray._common.usage.usage_lib import usage_stats_enabled as f; on = f()",
    "mlflow": "from mlflow.telemetry.utils import is_telemetry_disabled as f; on = not f()",
    "huggingface_hub": "import huggingface_hub.constants as c; on = not c.HF_HUB_DISABLE_TELEMETRY",
}


def run_python(code: str, **variables: str) -> str:
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in CI_VARIABLES | set(TELEMETRY_OFF) and not name.startswith("PYTEST_")
    }
    env = {**kept, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path), **variables}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_every_command_switches_reports_off() -> None:
    """All import the package first, which does it."""
    commands = "; ".join(f"import search.{command}" for command in ("run", "export", "predict"))
    asked = "; ".join(f"{ask}; print({library!r}, on)" for library, ask in ASK.items())
    assert run_python(f"{commands}; {asked}").splitlines() == [f"{library} False" for library in ASK]


def test_ray_would_report_otherwise() -> None:
    assert run_python(f"{ASK['ray']}; print(on)") == "True"


def test_the_values_that_hold_are_returned() -> None:
    code = (
        "import json, os; from search.command_line.telemetry import silence_telemetry as s; values = s();"
        "assert all(os.environ[k] == v for k, v in values.items()); print(json.dumps(values))"
    )
    values = json.loads(run_python(code, DO_NOT_TRACK="true"))
    assert values == {**TELEMETRY_OFF, "DO_NOT_TRACK": "true"}

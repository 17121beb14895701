"""The recipes for clusters do what they say: checked by the tools that read them, and run with stand-ins for Slurm."""

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from search.command_line.options import make_parser
from search.command_line.telemetry import silence_telemetry

RECIPES = Path(__file__).parent.parent / "recipes"
SCRIPT = RECIPES / "slurm.sh"


def read_yaml(name: str) -> Any:
    return yaml.safe_load((RECIPES / name).read_text())


PROGRAMS = f"{Path(sys.executable).parent}:{os.environ['PATH']}"


@pytest.mark.parametrize(("checker", "file"), [("shellcheck", SCRIPT), ("hadolint", RECIPES / "Dockerfile")])
def test_a_checker_has_nothing_to_say(checker: str, file: Path) -> None:
    program = shutil.which(checker, path=PROGRAMS)
    if program is None:
        pytest.skip(f"needs {checker}")
    subprocess.run([program, file], check=True)


def test_the_image_runs_as_a_user_without_weights_and_telemetry() -> None:
    text = (RECIPES / "Dockerfile").read_text()
    assert re.findall(r"^USER (.*)", text, re.MULTILINE) == ["1000"]
    assert {line.split()[1] for line in text.splitlines() if line.startswith("COPY")} == {
        *("pyproject.toml", "search", "trainables", "spaces")
    }
    assert all(f"{name}={value}" in text for name, value in list_switches().items())


def list_switches() -> dict[str, str]:
    """What every container sets before any library is imported."""
    names = (
        "RAY_USAGE_STATS_ENABLED",
        "MLFLOW_DISABLE_TELEMETRY",
        "NO_ALBUMENTATIONS_UPDATE",
        "HF_HUB_DISABLE_TELEMETRY",
    )
    return {name: value for name, value in silence_telemetry().items() if name in names}


def test_the_job_of_kuberay_runs_this_project_as_a_user() -> None:
    job = read_yaml("rayjob.yaml")
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    cluster = job["spec"]["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    for pod in (group["template"]["spec"] for group in groups):
        assert pod["securityContext"]["runAsNonRoot"] is True
        (container,) = pod["containers"]
        assert {each["name"]: each["value"] for each in container["env"]} == list_switches()
        assert {each["name"] for each in container["volumeMounts"]} == {each["name"] for each in pod["volumes"]}
    assert [
        group["template"]["spec"]["containers"][0]["resources"]["limits"].get("nvidia.com/gpu") for group in groups
    ] == [*(None, "1")]
    shell, flag, script = shlex.split(job["spec"]["entrypoint"])
    assert (shell, flag) == ("bash", "-c")
    stand_in = 'cd() { :; }; exec() { echo "${@:4}"; }; '
    found = subprocess.run(["bash", "-c", stand_in + script], check=True, capture_output=True, text=True).stdout
    assert make_parser().parse_args(shlex.split(found)).storage == "/mnt/work/runs"


def test_kubernetes_knows_the_pods_of_the_job() -> None:
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    cluster = read_yaml("rayjob.yaml")["spec"]["rayClusterSpec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, "spec": group["template"]["spec"]}
        kubernetes_validate.validate(pod, "1.30", strict=True)


def test_ray_knows_the_file_of_ray_up() -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(read_yaml("ray_up.yaml")))


STAND_INS = {
    # The one machine of the test is both nodes.
    "scontrol": 'if [ "$1" = show ]; then echo one; echo two; else echo "$@" >> calls; fi',
    "srun": 'while [[ "$1" == --* ]]; do shift; done; exec "$@"',
    "ray": 'echo "ray $*" >> calls; exec sleep 60',
    "python": """case "$1" in
-c) echo token ;;
-) cat > /dev/null
   until [ "$(cat calls 2> /dev/null | grep -c ^ray)" -ge "$3" ]; do sleep 0.02; done ;;
*) echo "python $*" >> calls
   mkdir -p runs/slurm-7 && touch runs/slurm-7/search.json
   trap 'exit 130' TERM
   [ -f slow ] || exit "$(cat code)"
   touch begun
   while true; do sleep 0.05; done ;;
esac""",
}


@pytest.fixture
def slurm(tmp_path: Path) -> dict[str, str]:
    """The environment of a Slurm job of two nodes, in a folder with stand-ins for what the script calls."""
    (tmp_path / "bin").mkdir()
    for name, text in STAND_INS.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/bash\n{text}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    job = {"SLURM_JOB_ID": "7", "SLURM_CPUS_PER_TASK": "2", "SLURM_JOB_NODELIST": "one,two"}
    return {**job, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}


def start_job(slurm: dict[str, str], folder: Path, *words: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([SCRIPT, "--space", "lora.yaml", *words], cwd=folder, env=slurm, start_new_session=True)


def end_job(job: "subprocess.Popen[bytes]") -> int:
    code = job.wait(30)
    os.killpg(job.pid, signal.SIGKILL)  # Slurm ends what the stand-ins for Ray would go on with
    return code


@pytest.mark.parametrize("url", ["", "s3://bucket/searches"])
def test_a_job_is_queued_again_at_its_time_limit_and_then_resumes(
    slurm: dict[str, str], tmp_path: Path, url: str
) -> None:
    slurm |= {"STORAGE": url, "ON_END": "mail me"}
    (tmp_path / "slow").touch()
    job = start_job(slurm, tmp_path)
    while not (tmp_path / "begun").exists():
        time.sleep(0.05)
    job.send_signal(signal.SIGTERM)
    assert end_job(job) == 130
    (tmp_path / "slow").unlink()
    (tmp_path / "code").write_text("0")
    assert end_job(start_job(slurm, tmp_path)) == 0
    calls = (tmp_path / "calls").read_text().splitlines()
    for part in ("ray start --head --port=20007", "ray start --address=one:20007"):
        assert any(call.startswith(part) for call in calls)
    rest = f"--storage {url or tmp_path / 'runs'} --address one:20007 --on-end mail me"
    assert [call for call in calls if not call.startswith("ray")] == [
        f"python -m search.run --name slurm-7 --space lora.yaml {rest}",
        "requeue 7",
        f"python -m search.run --resume slurm-7 {rest}",
    ]


@pytest.mark.parametrize("option", ["--storage", "--storage=/other", "--name", "--on-end"])
def test_an_option_that_a_requeue_would_lose_is_refused(slurm: dict[str, str], tmp_path: Path, option: str) -> None:
    assert start_job(slurm, tmp_path, option, "/other").wait(30) == 2
    assert not (tmp_path / "calls").exists()


def test_a_search_that_fails_is_not_queued_again(slurm: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "code").write_text("2")
    assert end_job(start_job(slurm, tmp_path)) == 2
    assert "requeue" not in (tmp_path / "calls").read_text()


# In place of the search: what it would see of the nodes, and a task on each of them.
SEE_NODES = """
import sys
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from search.cluster.resources import list_nodes
from search.cluster.start import start_ray

start_ray(sys.argv[sys.argv.index("--address") + 1])
nodes = list_nodes()
where = ray.remote(lambda: ray.get_runtime_context().get_node_id())
each = [NodeAffinitySchedulingStrategy(node["NodeID"], soft=False) for node in ray.nodes()]
seen = ray.get([where.options(num_cpus=2, scheduling_strategy=one).remote() for one in each])
print("nodes", len(nodes), "used", len(set(seen)), "cpus", sum(node["CPU"] for node in nodes))
"""


@pytest.mark.slow
def test_the_script_makes_one_ray_of_two_nodes(slurm: dict[str, str], tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    (tools / "ray").unlink()
    (tools / "scontrol").write_text("#!/bin/bash\necho 127.0.0.1; echo 127.0.0.1\n")
    (tmp_path / "see_nodes.py").write_text(SEE_NODES)
    (tools / "python").write_text(
        f'#!/bin/bash\n[ "$2" = search.run ] && set -- see_nodes.py "$@"\nexec {shlex.quote(sys.executable)} "$@"\n'
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number = str(free.getsockname()[1] % 10_000)  # of the job: its last four digits are its port's
    paths = {"PATH": f"{tools}:{PROGRAMS}", "PYTHONPATH": str(RECIPES.parent)}
    with (tmp_path / "log").open("w") as log:
        job = subprocess.Popen(
            [SCRIPT, "--space", "lora.yaml"],
            cwd=tmp_path,
            env={**os.environ, **slurm, **paths, "SLURM_JOB_ID": number},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code = job.wait(300)
        finally:
            os.killpg(job.pid, signal.SIGKILL)  # Slurm ends the two nodes
            shutil.rmtree(f"/tmp/ray-{number}", ignore_errors=True)
    text = (tmp_path / "log").read_text()
    assert code == 0 and "nodes 2 used 2 cpus 4.0" in text, text

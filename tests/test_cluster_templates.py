"""The templates for Slurm and Kubernetes: they can be read, and what they start exists, with the options that they give."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from lalm.cli import _parsers
from lalm.config import load_recipe
from lalm.study.executors import EXECUTORS

ROOT = Path(__file__).parents[1]
CLUSTER = ROOT / "recipes" / "cluster"
SCRIPTS = sorted(CLUSTER.glob("*.sbatch"))
# of sbatch's manual
SBATCH = {"job-name", "nodes", "ntasks-per-node", "gpus-per-node", "cpus-per-task", "time", "output"}


def commands(text: str) -> list[list[str]]:
    """The words of every `lalm ...` in a script, with its variables as words, continued lines put together."""
    joined = re.sub(r"\\\n\s*", " ", text)
    lines = [line for line in joined.splitlines() if not line.lstrip().startswith("#")]
    found = [re.search(r"(?:^|-m |&& )(lalm (?:train|study)\b[^']*)$", line.strip()) for line in lines]
    return [shlex.split(one[1].rstrip('"')) if one[1].count('"') % 2 else shlex.split(one[1]) for one in found if one]


def parsed(words: list[str]) -> Any:
    """As the command line reads it; an unknown command or option ends the test."""
    parser, _ = _parsers()
    return parser.parse_args(words[1:])


def test_all_templates_are_looked_at():
    assert [path.name for path in SCRIPTS] == ["study.sbatch", "train.sbatch"]
    assert {path.suffix for path in CLUSTER.iterdir()} == {".sbatch", ".yaml"}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_is_bash_with_directives_that_slurm_knows(script):
    text = script.read_text(encoding="utf-8")
    assert subprocess.run([shutil.which("bash") or "bash", "-n", str(script)], check=False).returncode == 0
    given = re.findall(r"^#SBATCH --([\w-]+)=(\S+)$", text, re.MULTILINE)
    assert {name for name, _ in given} == SBATCH
    directives, begun = [line for line in text.splitlines() if line.startswith("#SBATCH")], text.index("set -euo")
    assert len(directives) == len(given)
    assert text.rindex("#SBATCH") < begun, "Slurm reads none after the first command"
    assert text.index("export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK") < text.index("\nsrun"), (
        "srun takes it from nowhere else"
    )


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_what_a_script_starts_exists(script):
    (words,) = commands(script.read_text(encoding="utf-8"))
    asked = parsed(words)
    if asked.command == "train":
        assert asked.resume
    else:
        assert asked.executor in EXECUTORS


def test_accelerate_knows_the_options_of_the_script():
    from accelerate.commands.launch import launch_command_parser

    joined = re.sub(r"\\\n\s*", " ", (CLUSTER / "train.sbatch").read_text(encoding="utf-8"))
    line = next(line.strip() for line in joined.splitlines() if line.strip().startswith("accelerate launch"))
    words = [re.sub(r"\$\w+", "1", word) for word in shlex.split(line)[2:]]
    asked = launch_command_parser().parse_args(words)
    assert (ROOT / asked.config_file).is_file()
    assert (asked.num_machines, asked.num_processes) == (1, 1)
    assert asked.training_script == "lalm"


def test_the_job_trains_a_recipe_that_exists():
    job = yaml.safe_load((CLUSTER / "train.yaml").read_text(encoding="utf-8"))
    assert (job["apiVersion"], job["kind"]) == ("batch/v1", "Job")
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    words = container["command"]
    assert words[:2] == ["accelerate", "launch"]
    assert (ROOT / words[words.index("--config_file") + 1]).is_file()
    asked = parsed(words[words.index("lalm") :])
    assert asked.resume, "a pod that takes another's place goes on"
    load_recipe(ROOT / asked.recipe)
    assert int(words[words.index("--num_processes") + 1]) == container["resources"]["limits"]["nvidia.com/gpu"]
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}


def test_the_ray_job_runs_a_study_that_exists():
    job = yaml.safe_load((CLUSTER / "study.yaml").read_text(encoding="utf-8"))
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    (words,) = commands(job["spec"]["entrypoint"])
    asked = parsed(words)
    assert asked.executor == "ray"
    assert (ROOT / asked.study).is_file()
    cluster = job["spec"]["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    pods = [group["template"]["spec"] for group in groups]
    assert len({pod["containers"][0]["image"] for pod in pods}) == 1, "one Ray on all"
    for pod in pods:
        (container,) = pod["containers"]
        assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
        assert [one["name"] for one in container["env"]] == ["LALM_HOME"]
    (workers,) = cluster["workerGroupSpecs"]
    assert workers["minReplicas"] == workers["replicas"], "lalm counts GPUs when it begins"

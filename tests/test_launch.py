"""The launch files: what they would run, and that what they name exists."""

import os
import re
import shlex
import stat
import subprocess
from pathlib import Path

import pytest
import yaml

from alphaecoli.config import key_names, load
from alphaecoli.training.resume import EXIT_STOPPED

ROOT = Path(__file__).parents[1]
LAUNCH = ROOT / "launch"
TPU = {"TPU_NAME": "ecoli", "ZONE": "us-west4-a", "ACCELERATOR_TYPE": "v5litepod-32"}


def run(script: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
  kept = {"PATH": environment.pop("PATH", os.environ["PATH"]), "HOME": os.environ.get("HOME", "/")}
  return subprocess.run(
    ["bash", str(LAUNCH / script), *arguments],
    capture_output=True,
    text=True,
    env={**kept, **environment},
    timeout=60,
    check=False,
  )


def commands(script: str, *arguments: str, **environment: str) -> list[list[str]]:
  """The commands that a dry run prints, without comments."""
  done = run(script, *arguments, **environment)
  assert done.returncode == 0, done.stderr
  found = []
  for line in done.stdout.splitlines():
    if not line.startswith("#"):
      # bash takes apart what its printf %q has quoted
      split = ["bash", "-c", 'eval "set -- $1"; printf "%s\\0" "$@"', "bash", line]
      words = subprocess.run(split, capture_output=True, text=True, check=True).stdout
      found.append(words.split("\0")[:-1])
  return found


def fake(directory: Path, name: str, body: str) -> None:
  path = directory / name
  path.write_text(f"#!/bin/bash\n{body}\n")
  path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.fixture
def tools(tmp_path):
  """A directory of stand-ins for the tools of a cluster, which note how they were called."""
  directory = tmp_path / "bin"
  directory.mkdir()
  for name in ("srun", "scontrol", "gcloud", "sleep"):
    fake(directory, name, f'echo "{name} $*" >> {tmp_path}/calls')
  return directory


def calls(tools: Path) -> list[str]:
  path = tools.parent / "calls"
  return path.read_text().splitlines() if path.exists() else []


# SLURM


def test_slurm_starts_one_process_a_gpu_and_puts_a_stopped_job_back():
  train, requeue = commands(
    "slurm.sbatch", "--config", "configs/pod.py", "--config.train.steps=7",
    DRY_RUN="1", SLURM_JOB_ID="42", SLURM_CPUS_PER_TASK="6",
  )  # fmt: skip
  assert train[0] == "srun" and "--cpus-per-task=6" in train
  program = train.index(".venv/bin/python")
  assert train[program:] == [
    ".venv/bin/python", "-m", "alphaecoli.train",
    "--config", "configs/pod.py", "--config.train.steps=7",
  ]  # fmt: skip
  assert requeue == ["scontrol", "requeue", "42"]


def test_slurm_options_give_each_gpu_a_task_that_sees_its_whole_node():
  text = (LAUNCH / "slurm.sbatch").read_text()
  options = dict(
    option.partition("=")[::2] for option in re.findall(r"^#SBATCH --(\S+)", text, re.MULTILINE)
  )
  assert options["ntasks-per-node"] == options["gpus-per-node"]
  assert not {"gpus-per-task", "gpu-bind"} & options.keys()
  assert {"requeue", "signal", "open-mode"} <= options.keys()
  assert re.fullmatch(r"TERM@\d+", options["signal"])  # to the tasks: with B: it were this script
  body = text[text.index("\nset -") :]
  assert "#SBATCH" not in body  # SLURM reads none after the first command


@pytest.mark.parametrize(("status", "requeued"), [(EXIT_STOPPED, True), (0, False), (1, False)])
def test_slurm_requeues_only_what_was_stopped_and_saved(tools, tmp_path, status, requeued):
  fake(tools, "srun", f'echo "srun $*" >> {tmp_path}/calls; exit {status}')
  (tmp_path / "alphaecoli").mkdir()
  (tmp_path / ".venv/bin").mkdir(parents=True)
  fake(tmp_path / ".venv/bin", "python", "")
  done = run(
    "slurm.sbatch", PATH=f"{tools}:{os.environ['PATH']}",
    SLURM_JOB_ID="42", SLURM_SUBMIT_DIR=str(tmp_path),
  )  # fmt: skip
  assert done.returncode == status
  assert ("scontrol requeue 42" in calls(tools)) == requeued


def test_slurm_says_where_to_submit_from(tmp_path):
  done = run("slurm.sbatch", SLURM_SUBMIT_DIR=str(tmp_path))
  assert done.returncode == 2 and "submit from the repository's root" in done.stderr


# TPU VMs


def test_tpu_create_asks_for_a_queued_resource():
  (create,) = commands("tpu_pod.sh", "--dry-run", "create", SPOT="1", PROJECT="p", **TPU)
  assert create[:6] == ["gcloud", "compute", "tpus", "queued-resources", "create", "ecoli"]
  assert set(create[6:]) == {
    "--zone=us-west4-a",
    "--project=p",
    "--node-id=ecoli",
    "--accelerator-type=v5litepod-32",
    "--runtime-version=v2-alpha-tpuv5-lite",
    "--spot",
  }


@pytest.mark.parametrize(
  ("accelerator", "version"),
  [
    ("v6e-16", "v2-alpha-tpuv6e"),
    ("v5p-32", "v2-alpha-tpuv5"),
    ("v5litepod-16", "v2-alpha-tpuv5-lite"),
    ("v4-32", "tpu-ubuntu2204-base"),
  ],
)
def test_tpu_runtime_version_follows_the_accelerator(accelerator, version):
  environment = {**TPU, "ACCELERATOR_TYPE": accelerator}
  (create,) = commands("tpu_pod.sh", "--dry-run", "create", **environment)
  assert f"--runtime-version={version}" in create


def remote(command: list[str], workers: str) -> str:
  """The shell text that a command runs on workers, which must be shell."""
  assert command[:6] == ["gcloud", "compute", "tpus", "tpu-vm", "ssh", "ecoli"]
  assert f"--worker={workers}" in command
  text = next(word for word in command if word.startswith("--command=")).partition("=")[2]
  subprocess.run(["bash", "-n", "-c", text], check=True)
  return text


def test_tpu_install_copies_the_commit_to_every_worker():
  archive, copy, install = commands(
    "tpu_pod.sh", "--dry-run", "install", NFS="10.0.0.2:/share", **TPU
  )
  assert archive[:2] == ["git", "archive"]
  assert copy[3:5] == ["tpu-vm", "scp"] and "--worker=all" in copy
  text = remote(install, "all")
  assert "mount -t nfs '10.0.0.2:/share' /mnt/alphaecoli" in text
  assert "-e '.[tpu]'" in text


def test_tpu_runs_in_a_bucket_install_what_buckets_need():
  *_, install = commands("tpu_pod.sh", "--dry-run", "install", WORKDIR="gs://b/run", **TPU)
  text = remote(install, "all")
  assert "-e '.[tpu,gcs]'" in text and "mount" not in text
  (start,) = commands("tpu_pod.sh", "--dry-run", "run", WORKDIR="gs://b/run", **TPU)
  assert "gs://b/run" in remote(start, "all")


def test_tpu_run_outlives_the_connection_and_notes_its_exit_status(tmp_path):
  (start,) = commands(
    "tpu_pod.sh", "--dry-run", "run", "--config.data.genome=my genome's.fna", **TPU
  )
  text = remote(start, "all")
  assert "setsid nohup" in text and "< /dev/null &" in text
  home = tmp_path / "alphaecoli"
  (home / ".venv/bin").mkdir(parents=True)
  fake(home / ".venv/bin", "python", 'printf "%s\\n" "$@" > arguments; exit 75')
  # The text itself, with a stand-in for Python, and waiting for what it leaves behind.
  subprocess.run(["bash", "-c", f"{text}\nwait"], cwd=tmp_path, check=True, timeout=30)
  assert (home / "exit_status").read_text() == "75\n"
  assert int((home / "train.pid").read_text()) > 1
  assert (home / "arguments").read_text().splitlines() == [
    "-m", "alphaecoli.train", "--config", "configs/pod.py", "--workdir",
    "/mnt/alphaecoli/runs/pod", "--config.data.genome=my genome's.fna",
  ]  # fmt: skip


def test_tpu_keep_goes_through_preemptions_to_the_end(tools, tmp_path):
  """Active, running, preempted, active again, stopped once, finished."""
  states = ["", "ACTIVE", "ACTIVE", "SUSPENDED", "ACTIVE", "ACTIVE", "ACTIVE"]
  (tmp_path / "states").write_text("\n".join(states) + "\n")
  (tmp_path / "statuses").write_text("running\n75\n0\n")
  take = f"head -n 1 {tmp_path}/$1; sed -i 1d {tmp_path}/$1"
  fake(
    tools, "gcloud",
    f"""take() {{ {take}; }}
echo "$3 $4" >> {tmp_path}/calls
case "$*" in
  *describe*) take states ;;
  *"cat alphaecoli/exit_status"*) echo "SSH: connecting"; take statuses ;;
esac""",
  )  # fmt: skip
  done = run("tpu_pod.sh", "keep", PATH=f"{tools}:{os.environ['PATH']}", **TPU)
  assert done.returncode == 0, done.stderr
  assert "was preempted" in done.stdout and "finished" in done.stdout
  seen = [call for call in calls(tools) if "describe" not in call and "sleep" not in call]
  begin = ["tpu-vm scp", "tpu-vm ssh", "tpu-vm ssh"]  # copy, install, run
  look, again = ["tpu-vm ssh"], ["tpu-vm ssh"]
  expected = [
    "queued-resources create", *begin, *look,
    "queued-resources delete", "queued-resources create", *begin, *look, *again, *look,
  ]  # fmt: skip
  assert seen == expected


@pytest.mark.parametrize(
  ("arguments", "environment", "message"),
  [
    (["fly"], TPU, "unknown command fly"),
    (["run"], {"ZONE": "z"}, "TPU_NAME is not set"),
    (["create"], {"TPU_NAME": "n", "ZONE": "z"}, "ACCELERATOR_TYPE is not set"),
    (["create"], {**TPU, "ACCELERATOR_TYPE": "v9"}, "set RUNTIME_VERSION"),
  ],
)
def test_tpu_errors_are_one_line_and_exit_2(arguments, environment, message):
  done = run("tpu_pod.sh", "--dry-run", *arguments, **environment)
  assert done.returncode == 2 and message in done.stderr
  assert len(done.stderr.splitlines()) == 1


# Several Pythons


def test_a_python_that_is_not_installed_is_named_in_the_table():
  done = run("pythons.sh", "python3.99", "python2.99")
  assert done.returncode == 1 and not done.stderr
  assert done.stdout.split("\n") == [
    "", "python3.99 is not installed", "python2.99 is not installed", "",
  ]  # fmt: skip


# GKE and containers


def objects() -> dict[str, dict]:
  found = list(yaml.safe_load_all((LAUNCH / "gke.yaml").read_text()))
  return {item["kind"]: item for item in found}


def test_gke_runs_one_pod_a_host_of_every_slice_on_a_shared_disk():
  jobset = objects()["JobSet"]
  (slices,) = jobset["spec"]["replicatedJobs"]
  job = slices["template"]["spec"]
  pod = job["template"]["spec"]
  (container,) = pod["containers"]
  x, y = map(int, pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"].split("x"))
  chips = container["resources"]["limits"]["google.com/tpu"]
  assert job["parallelism"] == job["completions"] == x * y // chips
  assert container["resources"]["requests"] == container["resources"]["limits"]
  claim = objects()["PersistentVolumeClaim"]
  assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
  assert pod["volumes"][0]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
  workdir = container["args"][container["args"].index("--workdir") + 1]
  assert workdir.startswith(container["volumeMounts"][0]["mountPath"] + "/")
  config = ROOT / container["args"][container["args"].index("--config") + 1]
  devices = slices["replicas"] * x * y
  assert load(config).train.batch_windows % devices == 0


def test_gke_restarts_preempted_runs_without_end_and_failed_ones_some_times():
  jobset = objects()["JobSet"]
  policy = jobset["spec"]["failurePolicy"]
  assert policy["maxRestarts"] > 0
  (rule,) = policy["rules"]
  assert rule["action"] == "RestartJobSetAndIgnoreMaxRestarts"
  assert rule["onJobFailureReasons"] == ["PodFailurePolicy"]
  job = jobset["spec"]["replicatedJobs"][0]["template"]["spec"]
  disrupted, stopped = job["podFailurePolicy"]["rules"]
  assert disrupted["onPodConditions"] == [{"type": "DisruptionTarget", "status": "True"}]
  assert stopped["onExitCodes"]["values"] == [EXIT_STOPPED]
  names = [c["name"] for c in job["template"]["spec"]["containers"]]
  assert stopped["onExitCodes"]["containerName"] in names
  assert job["template"]["spec"]["restartPolicy"] == "Never"  # podFailurePolicy asks for it


def test_the_image_has_a_stage_for_each_platform_and_copies_what_exists():
  text = (LAUNCH / "Dockerfile").read_text()
  names = re.findall(r"^FROM \S+ AS (\S+)$", text, re.MULTILINE)
  assert set(names) == {"base", "cpu", "cuda", "tpu"}
  assert re.findall(r"^FROM (\S+)", text, re.MULTILINE)[1:] == ["base"] * 3
  copied = [
    word for line in re.findall(r"^COPY (.+)$", text, re.MULTILINE) for word in line.split()
  ]
  sources = {word for word in copied if not word.startswith(".")}
  assert sources and all((ROOT / source).exists() for source in sources)
  sent = (LAUNCH / "Dockerfile.dockerignore").read_text().splitlines()
  assert {line[1:] for line in sent if line.startswith("!")} == sources
  extras = re.findall(r"'\.\[(\w+)\]'", text)
  project = (ROOT / "pyproject.toml").read_text()
  assert all(re.search(rf"^{extra} = \[", project, re.MULTILINE) for extra in extras)
  assert sorted(extras) == ["cuda", "tpu"]


# The page


def test_the_page_names_only_what_there_is():
  text = (ROOT / "docs" / "launch.md").read_text()
  for path in re.findall(r"\b(?:launch|configs)/[\w.]+\.(?:py|sh|sbatch|yaml)\b", text):
    assert (ROOT / path).is_file(), path
  for key in re.findall(r"--config\.([\w.]+)=", text):
    assert key in key_names(), key
  for command in re.findall(r"^(?:\w+=\S+ )*bash (launch/\S+)", text, re.MULTILINE):
    assert (ROOT / shlex.split(command)[0]).is_file()


def test_the_accelerator_script_takes_wheels_from_a_folder_and_nothing_from_a_network(tmp_path):
  fake(tmp_path, "python", f'echo "$PYTHONPATH: $*" >> {tmp_path}/calls')
  (tmp_path / "grain-1.whl").touch()
  environment = {"PYTHON": str(tmp_path / "python"), "WHEELS": str(tmp_path)}
  done = run("accelerator.sh", "--minutes", "7", "--config.train.steps=3", **environment)
  assert done.returncode == 0, done.stderr
  install, start = (tmp_path / "calls").read_text().splitlines()
  assert "-m pip install" in install and "--no-index --no-deps" in install
  assert install.endswith(f"{tmp_path}/grain-1.whl")
  site = install[install.index("--target") :].split()[1]
  path, _, command = start.partition(": ")
  assert path == f"{ROOT}:{site}"
  assert command.startswith(
    "-m alphaecoli.benchmarks.accelerator --minutes 7 --config.train.steps=3"
  )


def test_arguments_of_the_quick_start_go_to_training_alone(tmp_path):
  python = tmp_path / "bin" / "python"
  python.parent.mkdir()
  python.write_text('#!/bin/sh\necho "ran: $*"\n')
  python.chmod(0o755)
  script = LAUNCH / "quickstart.sh"
  run = subprocess.run(
    ["bash", str(script), "--config.train.steps=200"],
    env={**os.environ, "ALPHAECOLI_VENV": str(tmp_path), "ALPHAECOLI_EXTRA": ""},
    capture_output=True, text=True, check=True,
  )  # fmt: skip
  lines = [line for line in run.stdout.splitlines() if "--config.train.steps=200" in line]
  assert len(lines) == 1 and "alphaecoli.train" in lines[0]
  assert any(line.endswith("-e .") for line in run.stdout.splitlines())

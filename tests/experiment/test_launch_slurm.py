"""SLURM through submitit: its local executor everywhere, and a real controller of one node where it can be started."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from results_of import files, numbers

from rsbench.errors import UsageError
from rsbench.experiment.launch.cards import SlurmSettings
from rsbench.experiment.launch.work import run_job
from rsbench.experiment.plan import Job, make_plan
from rsbench.experiment.request import Request
from rsbench.experiment.resolve import resolve
from rsbench.experiment.run import Options
from rsbench.results.store import RunFolder

pytest.importorskip("submitit")

from rsbench.experiment.launch import slurm
from rsbench.experiment.launch.slurm import launch

pytestmark = pytest.mark.slow  # only `make test-slow` installs the extra

HERE = SlurmSettings(executor="local", array=2, runs_per_job=2)

EPOCHS = "20"
"""A task must still be at work when a test gets to it: the queue is looked at every 3 s, KillWait is 1 s."""


def quiet(*_: object) -> None:
    """No progress."""


def planned(data_root: Path, out: Path, seeds: int = 2) -> list[Job]:
    request = Request(
        methods=("infonce", "srem"),
        datasets=("toy",),
        rates=(0.4,),
        seeds=tuple(range(seeds)),
        settings={"recipe.epochs": (EPOCHS,)},
    )
    return make_plan(resolve(request, data_root), out)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, data_root: Path) -> Path:
    """The results of the jobs, one after another in this process."""
    out = tmp_path_factory.mktemp("whole")
    for job in planned(data_root, out):
        assert run_job(job, Options(data_root, out, "cpu"), quiet).status == "done"
    return out


def same(jobs: list[Job], one: Path, two: Path) -> None:
    for job in jobs:
        a, b = RunFolder(one, job.spec.hash), RunFolder(two, job.spec.hash)
        assert numbers(a) == numbers(b)
        assert files(a) == files(b)


def tasks(out: Path) -> list[int]:
    """Processes that carry out the runs of a results folder."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            command = (entry / "cmdline").read_bytes() if entry.name.isdigit() else b""
            if b"submitit.core._submit" in command and str(out).encode() in command and b"srun" not in command:
                found.append(int(entry.name))
    return found


def wait_for(what: Callable[[], object], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


def test_a_grid_through_the_local_executor(whole, data_root, tmp_path):
    jobs = planned(data_root, tmp_path)
    outcomes = list(launch(jobs, Options(data_root, tmp_path, "cpu"), HERE, quiet))
    assert [o.error for o in outcomes] == [""] * len(jobs)
    assert {o.job.spec.hash for o in outcomes} == {j.spec.hash for j in jobs}
    same(jobs, whole, tmp_path)
    assert not (tmp_path / ".slurm").exists(), "nothing is left of a grid that is done"


def test_a_killed_task_is_submitted_again(whole, data_root, tmp_path):
    jobs, killed = planned(data_root, tmp_path), []

    def kill_one(*_: object) -> None:
        if not killed and any(RunFolder(tmp_path, j.spec.hash).checkpoint.exists() for j in jobs):
            killed.append(tasks(tmp_path)[0])
            os.kill(killed[0], signal.SIGKILL)

    outcomes = list(launch(jobs, Options(data_root, tmp_path, "cpu"), HERE, kill_one))
    assert killed, "the kill must have happened"
    assert [o.error for o in outcomes] == [""] * len(jobs)
    same(jobs, whole, tmp_path)


DRIVER = """
import sys
from pathlib import Path
from rsbench.experiment.launch.cards import SlurmSettings
from rsbench.experiment.launch.slurm import launch
from rsbench.experiment.run import Options
sys.path.insert(0, {tests!r})
from test_launch_slurm import planned, quiet
root, out = Path({root!r}), Path({out!r})
for outcome in launch(planned(root, out), Options(root, out, "cpu"), SlurmSettings(**{settings!r}), quiet):
    print(outcome.status, outcome.error, flush=True)
"""


def front_node_dies(data_root: Path, out: Path, settings: dict[str, object]) -> list[Job]:
    """Start a driver and kill it when its tasks are at work."""
    jobs = planned(data_root, out)
    script = DRIVER.format(tests=str(Path(__file__).parent), root=str(data_root), out=str(out), settings=settings)
    driver = subprocess.Popen([sys.executable, "-c", script])
    wait_for(lambda: any(RunFolder(out, j.spec.hash).checkpoint.exists() for j in jobs))
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    return jobs


def test_the_front_node_dies_and_its_tasks_are_collected(whole, data_root, tmp_path, monkeypatch):
    jobs = front_node_dies(data_root, tmp_path, {"executor": "local", "runs_per_job": 2})
    submitted: list[object] = []
    monkeypatch.setattr(slurm, "submit", lambda *args: submitted.append(args))
    outcomes = list(launch(jobs, Options(data_root, tmp_path, "cpu"), HERE, quiet))
    assert [o.status for o in outcomes] == ["done"] * len(jobs)
    assert not submitted, "nothing is submitted twice"
    same(jobs, whole, tmp_path)


def test_a_failed_run_and_a_task_that_always_dies(data_root, tmp_path, monkeypatch):
    job = planned(data_root, tmp_path, seeds=1)[0]
    (outcome,) = launch([job], Options(data_root, tmp_path, "tpu"), HERE, quiet)
    assert outcome.status == "failed"
    assert "tpu" in outcome.error
    monkeypatch.setattr("rsbench.__version__", "0.0.9")
    settings = SlurmSettings(executor="local", retries=0)
    (outcome,) = launch([job], Options(data_root, tmp_path, "cpu"), settings, quiet)
    assert outcome.status == "failed"
    assert "this node has rsbench 0.1.0, the front node 0.0.9" in outcome.error
    monkeypatch.undo()
    (outcome,) = launch([job], Options(data_root, tmp_path, "cpu"), HERE, quiet)
    assert outcome.status == "done"


def test_no_slurm_here(data_root, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="no SLURM here: `sbatch` is not found"):
        list(launch([], Options(data_root, tmp_path, "cpu"), SlurmSettings(), quiet))


# One real node: munged, slurmctld and slurmd in a folder of their own.

BINARIES = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "srun", "scontrol")

CONF = """
ClusterName=one
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CryptoType=crypto/munge
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=2
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
ReturnToService=2
SlurmdParameters=config_overrides
KillWait=1
MinJobAge=5
JobRequeue=1
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO
"""


def free_ports(n: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        return [stack.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1] for _ in range(n)]


def started(stack: contextlib.ExitStack, *command: str) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def stop() -> None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        process.kill()

    stack.callback(stop)
    return process


@pytest.fixture(scope="module")
def node() -> Iterator[Path]:
    """A controller and a node; skipped where the binaries are absent or cannot be started here."""
    absent = [b for b in BINARIES if shutil.which(b) is None and not Path("/usr/sbin", b).exists()]
    if absent or os.geteuid() != 0:
        pytest.skip(f"needs Debian's slurmctld, slurmd and munge, and root (absent: {', '.join(absent) or 'root'})")
    with contextlib.ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        folder = Path(subprocess.check_output(["mktemp", "-d", "/tmp/slurm-XXXXXX"], text=True).strip())
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        for name in ("state", "spool"):
            (folder / name).mkdir()
        folder.chmod(0o755)  # munged wants every folder above its socket to be passable
        (folder / "munge.key").write_bytes(os.urandom(1024))
        (folder / "munge.key").chmod(0o600)
        host = socket.gethostname().split(".")[0]
        (folder / "slurm.conf").write_text(CONF.format(host=host, folder=folder, ports=free_ports(2)))
        patch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
        patch.setenv("PATH", os.environ["PATH"] + ":/usr/sbin")
        names = {"socket": "munge.socket", "key-file": "munge.key", "pid-file": "munge.pid", "log-file": "munge.log"}
        names["seed-file"] = "munge.seed"
        flags = [f"--{flag}={folder / name}" for flag, name in names.items()]
        started(stack, "munged", "--foreground", "--force", *flags)
        wait_for((folder / "munge.socket").exists, 10)
        started(stack, "slurmctld", "-D", "-f", str(folder / "slurm.conf"))
        started(stack, "slurmd", "-D", "-f", str(folder / "slurm.conf"), "-N", host)
        asked = ["sinfo", "--noheader", "--format", "%T"]
        try:
            wait_for(lambda: "idle" in subprocess.run(asked, capture_output=True, text=True, check=False).stdout, 40)
        except AssertionError:
            logs = [p.read_text(errors="replace")[-1500:] for p in sorted(folder.glob("*.log"))]
            pytest.skip("SLURM does not start here: " + "\n".join(logs))
        yield folder


def test_a_grid_on_a_real_node(node, whole, data_root, tmp_path):
    jobs, said = planned(data_root, tmp_path), set()
    settings = SlurmSettings(array=2, runs_per_job=1, minutes=30)
    outcomes = list(launch(jobs, Options(data_root, tmp_path, "cpu"), settings, lambda *t: said.add(t[-1])))
    assert [o.error for o in outcomes] == [""] * len(jobs)
    same(jobs, whole, tmp_path)
    assert "SLURM: pending" in said, "two at a time, the others wait"
    assert said - {"SLURM: pending"}, "runs say how far they are"
    assert not (tmp_path / ".slurm").exists()


def test_a_preempted_task_goes_on(node, whole, data_root, tmp_path):
    """The signal that SLURM sends before a preemption, in the middle of a run."""
    jobs, signalled = planned(data_root, tmp_path), []

    def signal_one(*_: object) -> None:
        if not signalled and any(RunFolder(tmp_path, j.spec.hash).checkpoint.exists() for j in jobs):
            (name,) = [p.name for p in (tmp_path / ".slurm").iterdir()]
            asked = ["squeue", "--noheader", "--states", "running", "--name", name, "--format", "%i"]
            signalled.append(subprocess.check_output(asked, text=True).split()[0])
            subprocess.check_call(["scancel", "--signal", "USR2", signalled[0]])

    settings = SlurmSettings(array=1, runs_per_job=len(jobs), minutes=60)
    outcomes = list(launch(jobs, Options(data_root, tmp_path, "cpu"), settings, signal_one))
    assert signalled, "the task must have been at work"
    assert [o.error for o in outcomes] == [""] * len(jobs)
    same(jobs, whole, tmp_path)


def test_a_cancelled_task_and_a_dead_front_node_on_a_real_node(node, whole, data_root, tmp_path, monkeypatch):
    jobs = front_node_dies(data_root, tmp_path, {"runs_per_job": 4})
    submitted: list[object] = []
    real = slurm.submit

    def counted(*args: object) -> list[int]:
        submitted.append(args)
        return real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(slurm, "submit", counted)
    (name,) = [p.name for p in (tmp_path / ".slurm").iterdir()]
    asked = ["squeue", "--noheader", "--states", "pending,running", "--format", "%j"]  # none on its way out
    assert subprocess.check_output(asked, text=True).split() == [name], "the folder has the name of the job"
    told: list[str] = []

    def cancel(*tick: object) -> None:
        if not told:
            assert not submitted, "what is in the queue is not submitted again"
            told.append(str(tick[-1]))
            subprocess.check_call(["scancel", "--name", name])

    settings = SlurmSettings(runs_per_job=len(jobs))
    outcomes = list(launch(jobs, Options(data_root, tmp_path, "cpu"), settings, cancel))
    assert told, "the tasks were found again"
    assert len(submitted) == 1, "what was cancelled is submitted once more"
    assert [o.status for o in outcomes] == ["done"] * len(jobs)
    same(jobs, whole, tmp_path)


def test_slurm_refuses_in_one_line(node, data_root, tmp_path):
    jobs = planned(data_root, tmp_path, seeds=1)
    with pytest.raises(UsageError, match=r"SLURM refuses the jobs: .*partition") as caught:
        list(launch(jobs, Options(data_root, tmp_path, "cpu"), SlurmSettings(partition="nowhere"), quiet))
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / ".slurm").iterdir()), "nothing is left of a refused submission"

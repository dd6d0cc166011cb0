"""A real Ray cluster of two nodes on this machine: same bytes as one process, whatever dies."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from results_of import files, numbers

from rsbench.errors import RsbenchError, UsageError
from rsbench.experiment.drive import drive
from rsbench.experiment.launch.cards import RaySettings, settings_of
from rsbench.experiment.launch.work import run_job
from rsbench.experiment.plan import Job, make_plan
from rsbench.experiment.request import Request
from rsbench.experiment.resolve import resolve
from rsbench.experiment.run import Options
from rsbench.results.store import RunFolder

ray = pytest.importorskip("ray")

from rsbench.experiment.launch.ray_cluster import launch  # noqa: E402
from rsbench.experiment.launch.ray_connect import device_of  # noqa: E402

pytestmark = pytest.mark.slow  # only `make test-slow` installs the extra

STORE = 100 << 20
EPOCHS = "5"


def quiet(*_: object) -> None:
    """No progress."""


def planned(data_root: Path, out: Path, methods: tuple[str, ...] = ("infonce", "srem"), seeds: int = 2) -> list[Job]:
    request = Request(
        methods=methods,
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


@pytest.fixture
def cluster() -> Iterator[Any]:
    """Two nodes with one core each; the driver belongs to the first."""
    from ray.cluster_utils import Cluster

    from rsbench.experiment.launch.ray_connect import QUIET

    os.environ.update(QUIET)
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": STORE})
    made.add_node(num_cpus=1, object_store_memory=STORE)
    try:
        yield made
    finally:
        with contextlib.suppress(Exception):
            ray.shutdown()
        made.shutdown()


def same(jobs: list[Job], one: Path, two: Path) -> None:
    for job in jobs:
        a, b = RunFolder(one, job.spec.hash), RunFolder(two, job.spec.hash)
        assert numbers(a) == numbers(b)
        assert files(a) == files(b)


def ray_workers() -> list[int]:
    """Processes of our actors on all nodes of this machine."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and (entry / "cmdline").read_bytes().startswith(b"ray::Worker"):
                found.append(int(entry.name))
    return found


def test_two_nodes_give_the_bytes_of_one_process(cluster, whole, data_root, tmp_path):
    jobs, seen = planned(data_root, tmp_path), []
    settings = RaySettings(address=cluster.address)
    outcomes = list(launch(jobs, Options(data_root, tmp_path, "cpu"), settings, lambda *tick: seen.append(tick)))
    assert sorted(o.status for o in outcomes) == ["done"] * len(jobs)
    assert {o.job.spec.hash for o in outcomes} == {j.spec.hash for j in jobs}
    assert all(o.result == RunFolder(tmp_path, o.job.spec.hash).read_result() for o in outcomes)
    same(jobs, whole, tmp_path)
    assert {t[0] for t in seen} <= {j.spec.hash for j in jobs} and seen
    assert not list(tmp_path.glob(".ray-*")), "the marker is gone"
    assert not list(data_root.glob(".ray-*"))


def test_no_shared_disk(cluster, whole, data_root, tmp_path):
    """The driver's folders are moved away from the workers: what they need must have come through Ray."""
    root = tmp_path / "root"
    shutil.copytree(data_root, root)
    out = tmp_path / "out"
    jobs = planned(root, out)
    (out / jobs[0].spec.hash).mkdir(parents=True)
    settings = RaySettings(address=cluster.address, ship="yes")
    outcomes = []
    for outcome in launch(jobs, Options(root, out, "cpu"), settings, quiet):
        outcomes.append(outcome)
        if root.exists():
            shutil.rmtree(root)  # the cargo is in the object store by now
    assert [o.error for o in outcomes] == [""] * len(jobs)
    same(jobs, whole, out)
    assert all(not (out / j.spec.hash / "checkpoint.safetensors").exists() for j in jobs)


def test_a_worker_killed_in_mid_run(cluster, whole, data_root, tmp_path):
    jobs, killed = planned(data_root, tmp_path), []

    def kill_one(name: str, epoch: int, *_: object) -> None:
        if not killed and epoch >= 2:
            killed.append(ray_workers()[0])
            os.kill(killed[0], signal.SIGKILL)

    settings = RaySettings(address=cluster.address)
    outcomes = list(launch(jobs, Options(data_root, tmp_path, "cpu"), settings, kill_one))
    assert killed, "the kill must have happened"
    assert sorted(o.status for o in outcomes) == ["done"] * len(jobs)
    same(jobs, whole, tmp_path)


@pytest.mark.parametrize("ship", ["no", "yes"])
def test_a_node_removed_in_mid_run(cluster, whole, data_root, tmp_path, ship):
    jobs, removed = planned(data_root, tmp_path), []
    second = next(iter(cluster.worker_nodes))

    def remove_one(name: str, epoch: int, *_: object) -> None:
        if not removed and epoch >= 2:
            removed.append(second.node_id)
            cluster.remove_node(second, allow_graceful=False)

    settings = RaySettings(address=cluster.address, ship=ship)
    outcomes = list(drive(launch, jobs, Options(data_root, tmp_path, "cpu"), settings, remove_one))
    assert removed, "the node must have gone while runs were at work"
    assert [o.error for o in outcomes] == [""] * len(jobs)
    same(jobs, whole, tmp_path)


DRIVER = """
import sys
from pathlib import Path
from rsbench.experiment.launch.cards import RaySettings
from rsbench.experiment.drive import drive
from rsbench.experiment.launch.ray_cluster import launch
from rsbench.experiment.run import Options
sys.path.insert(0, {tests!r})
from test_launch_ray import planned, quiet
root, out = Path({root!r}), Path({out!r})
settings = RaySettings(address={address!r})
for outcome in drive(launch, planned(root, out), Options(root, out, "cpu"), settings, quiet):
    print(outcome.status, outcome.error, flush=True)
"""


@pytest.mark.parametrize("own", [False, True], ids=["a cluster that stays", "a cluster of the driver's own"])
def test_the_driver_killed_and_started_again(request, own, whole, data_root, tmp_path):
    address = "" if own else request.getfixturevalue("cluster").address
    jobs = planned(data_root, tmp_path)
    script = DRIVER.format(tests=str(Path(__file__).parent), root=str(data_root), out=str(tmp_path), address=address)
    first = subprocess.Popen([sys.executable, "-c", script])
    checkpoints = [RunFolder(tmp_path, j.spec.hash).checkpoint for j in jobs]
    while not any(c.exists() for c in checkpoints):
        assert first.poll() is None, "the driver must be at work"
        time.sleep(0.05)
    first.send_signal(signal.SIGKILL)
    first.wait()
    again = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert [line.split()[0] for line in again.stdout.splitlines()] == ["done"] * len(jobs)
    same(jobs, whole, tmp_path)


def test_a_node_with_another_version_is_left_out(whole, data_root, tmp_path, caplog):
    from ray.cluster_utils import Cluster

    fake = tmp_path / "fake"
    fake.mkdir()
    (fake / "sitecustomize.py").write_text("import rsbench\nrsbench.__version__ = '0.0.9'\n")
    repository = str(Path(__file__).parents[2])
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": STORE})
    try:
        path = os.pathsep.join([str(fake), repository])
        cluster.add_node(num_cpus=1, object_store_memory=STORE, env_vars={"PYTHONPATH": path})
        out = tmp_path / "out"
        jobs = planned(data_root, out)
        outcomes = list(launch(jobs, Options(data_root, out, "cpu"), RaySettings(address=cluster.address), quiet))
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert [o.status for o in outcomes] == ["done"] * len(jobs)
    assert "has rsbench 0.0.9" in caplog.text
    assert "the rest goes on" in caplog.text
    same(jobs, whole, out)


def test_failures_and_impossible_wishes(cluster, data_root, tmp_path):
    jobs = planned(data_root, tmp_path, methods=("infonce",), seeds=1)
    failing = Options(data_root, tmp_path, "tpu")
    settings = RaySettings(address=cluster.address, ship="yes")
    (outcome,) = launch(jobs, failing, settings, quiet)
    assert outcome.status == "failed"
    assert "tpu" in outcome.error
    assert RunFolder(tmp_path, jobs[0].spec.hash).state() == "failed", "a failure is recorded where the driver is"
    with pytest.raises(RsbenchError, match="none of 2 has 64 cores"):
        list(launch(jobs, Options(data_root, tmp_path, "cpu"), RaySettings(address=cluster.address, cpus=64), quiet))
    assert [o.status for o in launch(jobs, Options(data_root, tmp_path, "cpu"), settings, quiet)] == ["done"]


@pytest.mark.parametrize(
    ("address", "said"),
    [("127.0.0.1:1", "no Ray cluster at address"), ("nowhere", "is not HOST:PORT"), ("ray://h:1", "give HOST:PORT")],
)
def test_an_address_without_a_cluster_is_said_in_one_line(address, said, tmp_path):
    with pytest.raises(UsageError, match=said) as caught:
        list(launch([], Options(tmp_path, tmp_path, "cpu"), RaySettings(address=address), quiet))
    assert "\n" not in str(caught.value)


def test_a_port_that_is_something_else(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(UsageError, match="no Ray cluster at address"):
            list(launch([], Options(tmp_path, tmp_path, "cpu"), RaySettings(address=address), quiet))


def test_the_device_is_what_ray_gives():
    assert device_of("auto", RaySettings()) == "cpu"
    assert device_of("auto", RaySettings(gpus=0.25)) == "cuda"
    assert device_of("cuda", RaySettings(gpus=1)) == "cuda"
    for device in ("cuda", "cuda:1"):
        with pytest.raises(UsageError, match="gpus=1"):
            device_of(device, RaySettings())


def test_settings_are_checked_before_anything_starts():
    assert settings_of("ray", ["gpus=0.25,cpus=2", "retries=1"]) == RaySettings(gpus=0.25, cpus=2.0, retries=1)
    for wrong in ("gpu=1", "ship=maybe", "cpus=-1"):
        with pytest.raises(UsageError):
            settings_of("ray", [wrong])

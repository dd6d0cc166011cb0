"""Runs on a Ray cluster: warm actors on every node, lost ones replaced, data and results moved where need be."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
import uuid
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

import rsbench
from rsbench.errors import BusyError, RsbenchError
from rsbench.experiment.launch.base import Notify, Outcome
from rsbench.experiment.launch.cards import RaySettings
from rsbench.experiment.launch.freight import cargo_of, pack, take_in
from rsbench.experiment.launch.notes import note
from rsbench.experiment.launch.ray_connect import connected, device_of
from rsbench.experiment.launch.ray_worker import Site, Worker
from rsbench.experiment.plan import Job
from rsbench.experiment.run import Options
from rsbench.results.store import RunFolder

LOOK = 0.3
"""Seconds between two looks at the workers."""

HIRE = 2.0
"""Seconds between two looks at the nodes."""

ARRIVAL = 300.0
"""Seconds for the answer of a worker to arrive, a run folder with its weights among it."""

FALSE_STARTS = 3
"""A node whose workers die before their first word so often in a row is left out."""

PATIENCE = 60.0
"""Seconds to wait for a node where all have gone."""


def launch(jobs: Sequence[Job], options: Options, settings: RaySettings, notify: Notify) -> Iterator[Outcome]:
    """Run jobs on a cluster (see ``launch.base``).

    Raises:
        UsageError: the address or the device cannot be used.
        RsbenchError: no node can run a job.
        OSError: the results folder cannot be written.
    """
    device = device_of(options.device, settings)
    with connected(settings.address), _marker(options) as marker:
        folders = (str(options.root), str(options.out))
        site = Site(*folders, marker, settings.ship, os.getcwd(), device, options.keep_weights)
        crew = _Crew(list(jobs), options, settings, notify, site)
        try:
            yield from crew.outcomes()
        finally:
            crew.dismiss()


@contextlib.contextmanager
def _marker(options: Options) -> Iterator[str]:
    """A file of random name in both folders: a worker that sees it shares the disk."""
    name = f".ray-{uuid.uuid4().hex}"
    paths = [Path(folder, name) for folder in (options.out, options.root)]
    options.out.mkdir(parents=True, exist_ok=True)
    paths[0].touch()
    with contextlib.suppress(OSError):  # data that only others may write are sent, which is slower and as right
        paths[1].touch()
    try:
        yield name
    finally:
        for path in paths:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)


@dataclass(eq=False)
class _Hand:
    """One worker: what it was asked last, and for which job."""

    node: str
    actor: Any
    asked: Any
    greeting: dict[str, Any] | None = None
    job: Job | None = None
    tick: Any = None


@dataclass
class _Crew:
    """All workers of one grid."""

    jobs: list[Job]
    options: Options
    settings: RaySettings
    notify: Notify
    site: Site
    hands: list[_Hand] = field(default_factory=list)
    banned: dict[str, str] = field(default_factory=dict)
    false_starts: Counter[str] = field(default_factory=Counter)
    losses: Counter[str] = field(default_factory=Counter)
    hired: float = float("-inf")
    manned: float | None = None
    cargo: tuple[str, list[Any]] | None = None

    def __post_init__(self) -> None:
        self.todo = deque(self.jobs)

    def outcomes(self) -> Iterator[Outcome]:
        """Each job's outcome, as it ends."""
        open_jobs = len(self.jobs)
        while open_jobs:
            for outcome in (*self._hire(), *self._answers()):
                open_jobs -= 1
                yield outcome
            self._look()

    def _answers(self) -> Iterator[Outcome]:
        """Give out work, and hear for a moment what the workers say."""
        self._assign()
        asked = {hand.asked: hand for hand in self.hands if hand.asked is not None}
        if not asked:
            time.sleep(LOOK)
            return
        # fetch_local: an answer on a node that has just gone would be waited for in vain
        for reference in ray.wait(list(asked), timeout=LOOK, fetch_local=False)[0]:
            outcome = self._answer(asked[reference])
            if outcome is not None:
                yield outcome

    def dismiss(self) -> None:
        """Stop all workers; a run in progress resumes from its last checkpoint."""
        for hand in list(self.hands):
            self._let_go(hand)

    def _hire(self) -> Iterator[Outcome]:
        """Give up the workers of nodes that have gone, and fill every free place of the others."""
        if time.monotonic() - self.hired < HIRE:
            return
        self.hired = time.monotonic()
        places = {n["NodeID"]: self._places(n["Resources"]) for n in ray.nodes() if n["Alive"]}
        for hand in [h for h in self.hands if h.node not in places]:
            self._let_go(hand)
            outcome = self._lost(hand, hand.job, RsbenchError("its node has gone"))
            if outcome is not None:
                yield outcome
        self._fill(places)

    def _fill(self, places: dict[str, int]) -> None:
        """A worker for every free place, no more than there are jobs."""
        wanted = len(self.todo) + sum(h.job is not None for h in self.hands)
        open_places = {node: k for node, k in places.items() if k and node not in self.banned}
        self._complain(places, open_places)
        held = Counter(h.node for h in self.hands)
        for _ in range(max(0, wanted - len(self.hands))):
            node = max(open_places, key=lambda n: open_places[n] - held[n], default=None)
            if node is None or held[node] >= open_places[node]:
                return
            held[node] += 1
            self.hands.append(self._start(node))

    def _places(self, resources: dict[str, float]) -> int:
        asked = {"CPU": self.settings.cpus, "GPU": self.settings.gpus}
        return min((int(resources.get(k, 0.0) / v + 1e-9) for k, v in asked.items() if v), default=os.cpu_count() or 1)

    def _complain(self, places: dict[str, int], open_places: dict[str, int]) -> None:
        """Raise where no node can work: at once where none ever could, else after some patience."""
        now = time.monotonic()
        if open_places:
            self.manned = now
        elif self.manned is None or self.banned or now - self.manned > PATIENCE:
            why = "; ".join(self.banned.values())
            need = f"{self.settings.cpus:g} cores and {self.settings.gpus:g} GPUs for a run"
            raise RsbenchError(
                f"no node of the Ray cluster can work: {why or f'none of {len(places)} has {need}'}; "
                "change --launch cpus=..,gpus=.., or see `ray status`"
            )

    def _start(self, node: str) -> _Hand:
        kind = ray.remote(concurrency_groups={"look": 1})(Worker)
        actor = kind.options(
            num_cpus=self.settings.cpus,
            num_gpus=self.settings.gpus,
            max_restarts=0,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node_id=node, soft=False),
        ).remote(dataclasses.asdict(self.site), node)
        return _Hand(node, actor, actor.greet.remote())

    def _assign(self) -> None:
        for hand in self.hands:
            if self.todo and hand.greeting and hand.job is None:
                hand.job = self.todo.popleft()
                job = {"spec": hand.job.spec.as_dict(), "hash": hand.job.spec.hash, "restart": hand.job.restart}
                hand.asked = hand.actor.run.remote(job, self._load() if hand.greeting["ships_data"] else None)

    def _load(self) -> tuple[str, list[Any]]:
        """The data in the object store, put there once."""
        if self.cargo is None:
            cargo, chunks = cargo_of([j.spec for j in self.jobs], self.options.root), []
            pack(cargo.root, cargo.files, lambda chunk: chunks.append(ray.put(chunk)))
            self.cargo = (cargo.digest, chunks)
        return self.cargo

    def _answer(self, hand: _Hand) -> Outcome | None:
        """What a worker said, or that it is no more."""
        job = hand.job
        try:
            said = ray.get(hand.asked, timeout=ARRIVAL)
        except RayTaskError as error:
            return self._broken(hand, error)
        except RayError as error:
            self._let_go(hand)
            return self._lost(hand, job, error)
        hand.asked, hand.job, hand.tick = None, None, None
        if job is None:
            self._welcome(hand, said)
            return None
        return self._outcome(hand, job, said)

    def _outcome(self, hand: _Hand, job: Job, said: dict[str, Any]) -> Outcome | None:
        folder = RunFolder(self.options.out, job.spec.hash)
        if said["chunks"]:
            try:
                take_in(said["chunks"], folder)
            except BusyError as error:
                return Outcome(job, "busy", str(error))
            hand.actor.drop.remote(job.spec.hash)
        result = dict(folder.read_result()) if said["status"] == "done" else None
        return Outcome(job, said["status"], said["error"], result)

    def _welcome(self, hand: _Hand, greeting: dict[str, Any]) -> None:
        self.false_starts[hand.node] = 0
        if greeting["rsbench"] == rsbench.__version__:
            hand.greeting = greeting
            return
        self._let_go(hand)
        self._ban(hand.node, f"has rsbench {greeting['rsbench']}, this machine {rsbench.__version__}")

    def _broken(self, hand: _Hand, error: Exception) -> Outcome | None:
        """A worker that could not do its work for a reason that is not the run's."""
        job, reason = hand.job, str(getattr(error, "cause", None) or error).strip().splitlines()[-1]
        if isinstance(error, OSError) and not (hand.greeting or {}).get("ships_runs"):
            raise error.cause if isinstance(error.cause, OSError) else error  # type: ignore[attr-defined]
        self._let_go(hand)
        if isinstance(error, OSError):
            self._ban(hand.node, f"cannot write: {reason}")
            return self._lost(hand, job, error)
        return None if job is None else Outcome(job, "failed", reason)

    def _lost(self, hand: _Hand, job: Job | None, error: Exception) -> Outcome | None:
        """A worker or a node died: its job goes on elsewhere."""
        self.hired = float("-inf")
        if job is None:
            self.false_starts[hand.node] += 1
            if self.false_starts[hand.node] >= FALSE_STARTS:
                self._ban(hand.node, f"cannot start a worker: {str(error).strip().splitlines()[-1]}")
            return None
        self.losses[job.spec.hash] += 1
        if self.losses[job.spec.hash] <= self.settings.retries:
            self.todo.appendleft(job)
            return None
        return Outcome(job, "failed", f"its worker was lost {self.losses[job.spec.hash]} times (out of memory?)")

    def _ban(self, node: str, why: str) -> None:
        if node in self.banned:
            return
        name = next((n["NodeManagerHostname"] for n in ray.nodes() if n["NodeID"] == node), node[:8])
        self.banned[node] = f"node {name} ({node[:8]}) {why}"
        note(f"{self.banned[node]}; it is left out, the rest goes on")

    def _let_go(self, hand: _Hand) -> None:
        if hand in self.hands:
            self.hands.remove(hand)
        with contextlib.suppress(RayError):
            ray.kill(hand.actor)

    def _look(self) -> None:
        """Pass on how far the runs are."""
        for hand in self.hands:
            if hand.job is None:
                continue
            if hand.tick is None:
                hand.tick = hand.actor.tick.options(concurrency_group="look").remote()
            elif ray.wait([hand.tick], timeout=0)[0]:
                with contextlib.suppress(RayError):
                    tick = ray.get(hand.tick)
                    if tick is not None:
                        self.notify(*tick)
                hand.tick = None

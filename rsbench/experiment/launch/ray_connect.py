"""To a Ray cluster and away from it, quietly."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Iterator
from typing import Any

from rsbench.errors import RsbenchError, UsageError
from rsbench.experiment.launch.cards import RaySettings

REACH = 5.0
"""Seconds to reach the head of a cluster."""

SETTINGS = b"\0\0\0\4\0\0\0\0\0"
"""An empty frame of HTTP/2 settings; its fourth byte is the type of the frame."""

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_gcs_server_request_timeout_seconds": "10",
}
"""Environment of a driver: no reports to outside, no lines between ours, no minutes of waiting."""


def device_of(device: str, settings: RaySettings) -> str:
    """The device of every run: Ray shows a worker the GPUs that it was given, and none else.

    Raises:
        UsageError: a device that Ray would have to be asked for, or one that Ray chooses.
    """
    if device.startswith("cuda:"):
        raise UsageError(f"--device {device}: Ray chooses the GPU; type --launcher ray --launch gpus=1")
    if device == "cuda" and not settings.gpus:
        raise UsageError("--device cuda: Ray must know how many; type --launcher ray --launch gpus=1 (or a fraction)")
    return device if device != "auto" else "cuda" if settings.gpus else "cpu"


@contextlib.contextmanager
def connected(address: str) -> Iterator[None]:
    """Be the driver of a cluster; one that was started here is stopped at the end.

    Args:
        address: ``HOST:PORT``, ``auto``, or empty for a cluster of this machine alone.

    Raises:
        UsageError: nothing of the kind is at this address.
        RsbenchError: Ray does not start.
    """
    import ray

    if ray.is_initialized():
        yield
        return
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    if address not in ("", "auto", "local"):
        _reach(address)
    _init(address)
    try:
        yield
    finally:
        ray.shutdown()


def _init(address: str) -> None:
    import ray

    how: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL, "configure_logging": True}
    if address in ("", "local"):
        how |= {"include_dashboard": False}
    try:
        ray.init(address=address or "local", **how)
    except (ConnectionError, TimeoutError) as error:
        raise UsageError(f"no Ray cluster at address '{address}' ({_line(error)}); {_way()}") from None
    except (RuntimeError, ValueError) as error:
        raise RsbenchError(f"Ray does not start: {_line(error)}") from None


def _reach(address: str) -> None:
    """Ray itself tries for a minute; a closed door is known at once."""
    if "://" in address:
        raise UsageError(f"--launch address={address}: give HOST:PORT, and start rsbench on a machine of the cluster")
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise UsageError(f"--launch address={address} is not HOST:PORT; {_way()}")
    try:
        with socket.create_connection((host, int(port)), timeout=REACH) as line:
            _greet(line)
    except (OSError, OverflowError) as error:
        raise UsageError(f"no Ray cluster at address '{address}' ({_line(error)}); {_way()}") from None


def _greet(line: socket.socket) -> None:
    """The head of a cluster speaks HTTP/2 (gRPC): it answers an opening with a frame of settings."""
    if os.environ.get("RAY_USE_TLS", "0") != "0":
        return
    line.settimeout(REACH)
    line.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + SETTINGS)
    answer = line.recv(9)
    if answer[3:4] != SETTINGS[3:4]:
        raise ConnectionError("something else is there")


def _way() -> str:
    return "start one with `ray start --head`, or leave the address out for a cluster of this machine"


def _line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]

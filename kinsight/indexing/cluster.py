"""Ray, reached or started."""

import logging
import os
import secrets
from typing import Any

from kinsight.errors import RunError

_STORE_BYTES = 200 * 2**20
_LOOPBACK = "127.0.0.1"


def connect(address: str | None) -> Any:
    """Ray, connected: to the cluster at `address` (`host:port`, `auto`), to the one this process is in already, or to
    one of this machine alone, which only this process knows and which ends with it. Raises RunError.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")  # of several answers the first bad one is raised
    if address is None:
        _keep_to_this_machine()
    try:
        import ray
        from ray.exceptions import RayError
    except ModuleNotFoundError as error:
        what = f"{error.name} is not installed"
        raise RunError("shards.packages", what, remedy="pip install 'kinsight[cluster]'") from None
    if ray.is_initialized():
        return ray
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    try:
        if address is not None:
            ray.init(address=address, **quiet)
            return ray
        ray.init(_node_ip_address=_LOOPBACK, include_dashboard=False, object_store_memory=_STORE_BYTES, **quiet)
    except (ConnectionError, RayError, OSError, ValueError, RuntimeError) as error:
        raise RunError(
            "shards.no-cluster",
            f"no Ray cluster {address or 'on this machine'}: {str(error).splitlines()[0]}",
            field="cluster",
            remedy="check its address, or leave it out to use this machine alone",
        ) from None
    _refuse_exposed(ray)
    return ray


def _keep_to_this_machine() -> None:
    """What Ray reads when it is imported: without the first it listens to the whole network, whatever its address."""
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    if "RAY_AUTH_MODE" not in os.environ:
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))


def _refuse_exposed(ray: Any) -> None:
    """Whoever reaches a cluster may run anything on it."""
    where = {node["NodeManagerAddress"] for node in ray.nodes()}
    if where != {_LOOPBACK}:
        ray.shutdown()
        raise RunError(
            "shards.exposed",
            f"Ray would listen to the network, at {', '.join(sorted(where))}",
            field="cluster",
            remedy="set RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0 before Ray is imported, or name a cluster of your own",
        )

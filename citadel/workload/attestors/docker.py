"""docker: selectors: the container that a process runs in, by its cgroup and the Docker API on its unix socket."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import httpx

from citadel.workload.peer import Peer
from citadel.workload.upstream import Selector

_CONTAINER = re.compile(r"(?:docker|cri-containerd)[-/]([0-9a-f]{64})(?:\.scope)?(?=[/\n]|\Z)")
_MAX_ANSWER = 4 << 20


class DockerAttestor:
    name = "docker"

    def __init__(self, socket: Path) -> None:
        self._socket = socket

    async def selectors(self, peer: Peer) -> list[Selector]:
        groups = _cgroups(peer.pid)
        container = container_of(groups)
        if container is None or not self._present():
            return []
        transport = httpx.AsyncHTTPTransport(uds=str(self._socket))
        async with httpx.AsyncClient(transport=transport, base_url="http://docker", timeout=5) as client:
            facts = await _get(client, f"/containers/{container}/json")
            main = (facts.get("State") or {}).get("Pid") or 0
            if main <= 0 or not below(groups, _cgroups(main)):
                raise ValueError(f"Docker does not run container {container} in the group that this process is in")
            image = await _get(client, f"/images/{facts['Image']}/json")
        config = facts.get("Config") or {}
        found = [f"label:{key}:{value}" for key, value in (config.get("Labels") or {}).items()]
        found += [f"env:{pair}" for pair in config.get("Env") or []]
        found += [f"image_id:{config['Image']}"] if config.get("Image") else []
        found += [f"image_config_digest:{image['Id']}"] if image.get("Id") else []
        return [Selector.of(self.name, value) for value in found if value.isprintable()]

    def _present(self) -> bool:
        return self._socket.is_socket()


def _cgroups(pid: int) -> str:
    return Path(f"/proc/{pid}/cgroup").read_text()


def below(groups: str, container: str) -> bool:
    """Whether these groups (the text of /proc/<pid>/cgroup) are, or are below, those of the container's first process.

    A group's name alone proves nothing: below a delegated group anybody makes one that looks like a container's.
    """
    mine = set(groups.splitlines())
    return all(
        any(line == other or line.startswith(f"{other.rstrip('/')}/") for line in mine)
        for other in container.splitlines()
    )


def container_of(cgroups: str) -> str | None:
    """The container's id in the text of /proc/<pid>/cgroup, if it names exactly one."""
    ids = set(_CONTAINER.findall(cgroups))
    return ids.pop() if len(ids) == 1 else None


async def _get(client: httpx.AsyncClient, path: str) -> dict[str, Any]:
    answer = await client.get(path)
    answer.raise_for_status()
    if len(answer.content) > _MAX_ANSWER:
        raise ValueError(f"Docker's answer to {path} is larger than {_MAX_ANSWER} bytes")
    body = answer.json()
    if not isinstance(body, dict):
        raise ValueError(f"Docker's answer to {path} is no object")
    return body

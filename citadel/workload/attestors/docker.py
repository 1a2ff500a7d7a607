"""Docker attestor: a container's labels, environment and image as selectors, asked of the Docker Engine API."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from citadel.errors import BadSelector, Unavailable
from citadel.workload.attestors import cgroup
from citadel.workload.attestors.answers import Answers
from citadel.workload.peer import Peer, start_time
from citadel.workload.upstream import Selector

if TYPE_CHECKING:
    import httpx  # where it is used: most nodes have no Docker, and it takes a tenth of a second

MAX_ANSWER_BYTES = 4 * 1024 * 1024

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_REMEMBERED_SECONDS = 3.0
log = structlog.get_logger("citadel.workload")


@dataclass(frozen=True, slots=True)
class _Container:
    """What Docker says of a container. `first_pid`: of its first process; None if it does not run."""

    first_pid: int | None
    selectors: tuple[Selector, ...]


class DockerAttestor:
    """Selectors `docker:label:K:V`, `docker:env:K=V`, `docker:image_id`, `docker:image_config_digest` (SPIRE's names).

    A claim that a control group makes holds only if the container's first process, as Docker names it, is in the very
    same groups, and was there before the peer was: else a user could name a group of his own after a container.
    Podman answers the same API; its socket must then be a trusted one (root's), as Docker's is.
    """

    name = "docker"

    def __init__(self, socket: Path, *, timeout: float = 5.0, proc: Path = cgroup.PROC) -> None:
        """`timeout` in seconds bounds each question to Docker."""
        self._socket = socket
        self._timeout = timeout
        self._proc = proc
        self._containers: Answers[str, _Container | None] = Answers(
            self._inspect, seconds=_REMEMBERED_SECONDS, most=1024, at_once=16
        )

    async def selectors(self, peer: Peer) -> list[Selector]:
        """None if the process runs in no container of this Docker. Raises Unavailable if Docker cannot be asked."""
        if not self._socket.is_socket():
            return []
        claimed = cgroup.container(cgroup.read(peer.pid, self._proc))
        if claimed is None:
            return []
        container = await self._containers.get(claimed.id)
        if container is None:
            return []
        if fault := self._doubt(container, claimed, peer):
            log.info("a process is not in the container that its group names", peer=peer.name, why=fault)
            return []
        return list(container.selectors)

    def _doubt(self, container: _Container, claimed: cgroup.Container, peer: Peer) -> str:
        """Why the peer is not in the container after all; empty if it is."""
        if container.first_pid is None:
            return "the container does not run"
        actual = cgroup.container(cgroup.read(container.first_pid, self._proc))
        began = start_time(container.first_pid, self._proc)
        if actual != claimed or began is None:
            return "the container's first process is in another group"
        if began > peer.start_time:
            return "the process is older than the container's first"  # whose pid may be somebody else's by now
        return ""

    async def _inspect(self, container_id: str) -> _Container | None:
        """ContainerInspect, and with it ImageInspect (Docker Engine API; unversioned is what the daemon prefers). None
        if Docker has no such container."""
        import httpx

        # No proxy that the environment names has any business between us and the socket.
        transport = httpx.AsyncHTTPTransport(uds=str(self._socket))
        async with httpx.AsyncClient(
            transport=transport, base_url="http://docker", trust_env=False, headers={"Accept-Encoding": "identity"}
        ) as client:
            facts = await self._get(client, f"/containers/{container_id}/json")
            if facts is None:
                return None
            if facts.get("Id") != container_id:
                raise Unavailable(f"{self._socket} answers about another container than {container_id[:12]}")
            # By the digest that it was made from: its name may be another image's by now.
            image = facts.get("Image")
            known = isinstance(image, str) and _DIGEST.fullmatch(image)
            image_id = await self._image_id(client, str(image)) if known else ""
        state = _mapping(facts.get("State"))
        pid = state.get("Pid")
        runs = state.get("Running") is True and type(pid) is int and pid > 0
        return _Container(pid if runs else None, tuple(_selectors(_mapping(facts.get("Config")), image_id)))

    async def _image_id(self, client: httpx.AsyncClient, image: str) -> str:
        """Empty if it is not to be had: an image may be deleted while its containers run."""
        try:
            answer = await self._get(client, f"/images/{image}/json")
        except Unavailable as error:
            log.warning("an image cannot be inspected", image=image, error=error.sentence())
            return ""
        found = (answer or {}).get("Id")
        return found if isinstance(found, str) and _DIGEST.fullmatch(found) else ""

    async def _get(self, client: httpx.AsyncClient, path: str) -> dict[str, Any] | None:
        """None for 404. Raises Unavailable."""
        import httpx

        try:
            async with asyncio.timeout(self._timeout), client.stream("GET", path, timeout=self._timeout) as response:
                if response.status_code == httpx.codes.NOT_FOUND:
                    return None
                if response.status_code != httpx.codes.OK:
                    raise Unavailable(f"{self._socket} answers {response.status_code} to GET {path}")
                body = await _read(response)
        except TimeoutError:
            raise Unavailable(f"{self._socket} did not answer within {self._timeout:g} s") from None
        except (httpx.HTTPError, OSError) as error:
            raise Unavailable(
                f"{self._socket} cannot be asked: {str(error) or type(error).__name__}",
                mend="check that Docker runs and that Citadel may use its socket, or set attestors.docker.enabled",
            ) from None
        try:
            answer = json.loads(body)
        except (ValueError, RecursionError):
            raise Unavailable(f"the answer of {self._socket} to GET {path} is not JSON") from None
        if not isinstance(answer, dict):
            raise Unavailable(f"the answer of {self._socket} to GET {path} is not a JSON object")
        return answer


async def _read(response: httpx.Response) -> bytes:
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > MAX_ANSWER_BYTES:
            raise Unavailable(f"Docker's answer is longer than {MAX_ANSWER_BYTES} bytes")
    return bytes(body)


def _selectors(config: dict[str, Any], image_id: str) -> Iterator[Selector]:
    for value in _values(config, image_id):
        try:
            yield Selector.of(DockerAttestor.name, value)
        except BadSelector:
            # No entry can ask for what is no selector; the value may be a secret, so only its kind is told.
            log.debug("a container's value makes no selector", kind=value.partition(":")[0])


def _values(config: dict[str, Any], image_id: str) -> Iterator[str]:
    for label, value in _mapping(config.get("Labels")).items():
        if isinstance(value, str):
            yield f"label:{label}:{value}"
    environment = config.get("Env")
    for item in environment if isinstance(environment, list) else ():
        if isinstance(item, str):
            yield f"env:{item}"
    image = config.get("Image")
    if isinstance(image, str) and image:
        yield f"image_id:{image}"
    if image_id:
        yield f"image_config_digest:{image_id}"


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}

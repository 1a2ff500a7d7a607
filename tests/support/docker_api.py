"""A Docker Engine API on a unix socket, by uvicorn: it answers what a test puts in, well or badly."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

#: Answers a request instead of the API.
Instead = Callable[[Request], Awaitable[Response]]


@dataclass
class FakeDocker:
    """Containers and images by id. `instead`: how it misbehaves, if it does. `asked`: the paths, in order."""

    containers: dict[str, dict[str, Any]] = field(default_factory=dict)
    images: dict[str, dict[str, Any]] = field(default_factory=dict)
    instead: Instead | None = None
    asked: list[str] = field(default_factory=list)

    def run(self, container_id: str, pid: int, *, image: str = "sha256:" + "e" * 64, **config: Any) -> None:
        """A running container, in the shape of ContainerInspect (Docker Engine API 1.52)."""
        self.containers[container_id] = {
            "Id": container_id,
            "Image": image,
            "State": {"Status": "running", "Running": True, "Pid": pid},
            "Config": config,
        }
        self.images[image] = {"Id": image}

    async def _container(self, request: Request) -> Response:
        return await self._answer(request, self.containers, "container")

    async def _image(self, request: Request) -> Response:
        return await self._answer(request, self.images, "image")

    async def _answer(self, request: Request, known: dict[str, dict[str, Any]], what: str) -> Response:
        self.asked.append(request.url.path)
        if self.instead is not None:
            return await self.instead(request)
        name = request.path_params["name"]
        if name not in known:
            return JSONResponse({"message": f"No such {what}: {name}"}, status_code=404)
        return Response(json.dumps(known[name]), media_type="application/json")  # in ASCII: a name may be half a letter

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/containers/{name}/json", self._container),
                Route("/images/{name}/json", self._image),
            ]
        )


@asynccontextmanager
async def listening(docker: FakeDocker, path: Path) -> AsyncIterator[FakeDocker]:
    """The API on `path` as long as the context lasts."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        config = uvicorn.Config(docker.app(), lifespan="off", log_config=None, timeout_graceful_shutdown=0)
        server = uvicorn.Server(config)
        task = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield docker
        finally:
            server.should_exit = server.force_exit = True
            await task

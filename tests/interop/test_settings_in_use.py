"""No setting without effect: whatever can be set is read by what runs, not only by the configuration's own room."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from citadel import config
from citadel.cli import init
from citadel.clock import SystemClock
from citadel.config.environment import leaves
from citadel.config.reload import is_reloadable
from citadel.config.settings import Section, Settings
from citadel.server import up
from citadel.spiffe import TrustDomain
from tests.support.cacerts import Mint
from tests.support.certificates import Ca
from tests.support.waiting import free_port

#: These read settings only to check, show and compare them.
_JUST_LOOKING = tuple(f"citadel.config.{name}" for name in ("checks", "load", "reload", "reference", "settings"))
#: Read only where there is a Vault: tests/interop/test_vault.py.
_VAULT = "vault"
#: Read only where pyvoy is installed: tests/interop/test_workers.py.
_PYVOY = {("authorization", "tcp", name) for name in ("workers_envoy", "workers_memory")}


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="citadel-") as name:
        yield Path(name) / "d"


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> set[tuple[str, ...]]:
    """Settings that were read outside citadel.config since."""
    place = {id(section): path for path, section in _sections(Settings, ())}
    found: set[tuple[str, ...]] = set()
    original: Callable[[Any, str], Any] = Section.__getattribute__

    def noting(section: Section, name: str) -> Any:
        if not name.startswith("_") and name in type(section).model_fields:
            reader = sys._getframe(1).f_globals.get("__name__", "")
            if reader.startswith("citadel.") and not reader.startswith(_JUST_LOOKING):
                found.add((*place[id(type(section))], name))
        return original(section, name)

    monkeypatch.setattr(Section, "__getattribute__", noting)
    return found


def _sections(kind: type[Section], at: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], type[Section]]]:
    yield at, kind
    for name, inner in kind.sections().items():
        yield from _sections(inner, (*at, name))


def _settings(folder: Path, **more: Any) -> Settings:
    """A new Citadel's; it follows a folder of entries, and has no HTTP port that another test may hold."""
    init.lay_out(folder, TrustDomain("example.org"))
    entries = folder / "entries"
    entries.mkdir()
    (entries / "a.yaml").write_text("- spiffe_id: spiffe://example.org/a\n  selectors: [unix:uid:4242]\n")
    tables: dict[str, Any] = {"trust_domain": "example.org", "data_dir": str(folder), "http": {"address": ""}}
    (folder / "policies").mkdir()
    tables["authorization"] = {
        "policies": str(folder / "policies"),
        "tcp": {"address": f"127.0.0.1:{free_port()}"},
        "authzen": _authzen(folder),
        "http": {"socket": str(folder / "run" / "http.sock")},
    }
    tables["files"] = {"enabled": True, "directories": ["/nonexistent/certificates"]}
    tables["rotation"] = {"hooks": _hooks(folder)}
    return config.parse(tables | {"apply": {"directory": str(entries)}} | more, base=folder)


def _authzen(folder: Path) -> dict[str, Any]:
    certificate, key = Ca("authzen").issue(folder / "authzen")
    (folder / "entities.yaml").write_text("entities: []\n")
    return {
        "socket": str(folder / "run" / "authzen.sock"),
        "address": f"127.0.0.1:{free_port()}",
        "tls_cert": str(certificate),
        "tls_key": str(key),
        "client_ca": str(certificate),
        "client_ca_trust_domains": ["example.org"],
        "allow": ["uid:0"],
        "entities": str(folder / "entities.yaml"),
        "bearer_issuer": "https://issuer.test",
        "bearer_audience": "citadel",
        "bearer_jwks_url": "https://issuer.test/keys",
    }


def _hooks(folder: Path) -> dict[str, Any]:
    secret, (certificate, _) = folder / "webhook-secret", Ca("gate").issue(folder / "gate")
    secret.write_text("s" * 32)
    secret.chmod(0o600)
    return {
        "command": ["/bin/true"],
        "webhook": "https://gate.test/",
        "webhook_secret": f"file:{secret}",
        "webhook_ca": str(certificate),
    }


async def _asked(settings: Settings) -> None:
    """AuthZEN's port looks at each question who may ask."""
    reader, writer = await asyncio.open_unix_connection(settings.authorization.authzen.socket)
    writer.write(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
    assert (await reader.read()).startswith(b"HTTP/1.1 4")
    writer.close()


async def _live(settings: Settings) -> None:
    async with up(settings, SystemClock()) as server:
        server.reconfigure(settings)
        server.retention()  # what the job that prunes asks for at each run
        await _asked(settings)


async def test_every_setting_is_read_by_what_runs(folder: Path, read: set[tuple[str, ...]]) -> None:
    folder.mkdir()
    Mint(TrustDomain("example.org")).write(folder / "cacerts")
    plugged = {"kind": "cacerts", "cacerts_dir": str(folder / "cacerts")}
    await _live(_settings(folder / "plugged", root=plugged))
    await _live(_settings(folder / "made"))
    password = folder / "password"
    password.write_text("x")
    password.chmod(0o600)
    shared = config.parse(
        {
            "trust_domain": "example.org",
            "data_dir": "/d",
            "store": {"url": "postgresql://u@h/n", "password_file": f"file:{password}"},
        },
        base=folder,
    )
    config.database_url(shared, {})
    settings = {where for where in leaves(Settings) if _VAULT not in "".join(where)} - _PYVOY
    assert settings - read == set(), "settings that nothing reads"


async def test_every_reloadable_setting_is_read_again_at_a_reload(folder: Path, read: set[tuple[str, ...]]) -> None:
    settings = _settings(folder)
    async with up(settings, SystemClock()) as server:
        read.clear()
        server.reconfigure(settings)
        server.retention()
        await _asked(settings)
    reloadable = {where for where in leaves(Settings) if is_reloadable(where)}
    assert reloadable - read == set(), "said to be reloadable, and not read at a reload"

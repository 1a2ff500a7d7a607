"""What Vault must have for a configuration, as steps: each says how it differs from what is there, and mends that.

Run by an operator with an operator's token, once; what Citadel itself may do is the policy that comes of it. A step
that finds all as it must be changes nothing, so a setup may be run again at any time. Nothing is ever deleted.
"""

from __future__ import annotations

import difflib
import json
import shlex
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta

from citadel.ca.chain import root_faults
from citadel.errors import FailedPrecondition, NotFound
from citadel.spiffe import TrustDomain
from citadel.vault.pki import PkiMount
from citadel.vault.policy import Need, hcl
from citadel.vault.role import LeafProfile
from citadel.vault.session import Session

ISSUER, LEAF_ISSUER = "ROOT_ISSUER", "LEAF_ISSUER"  # stand for ids that only Vault knows
_LEAF_ISSUER_YEARS = timedelta(days=365)


@dataclass(frozen=True, slots=True)
class LeafTarget:
    """The issuing CA in Vault that makes leaves."""

    mount: str
    issuer: str
    role: str
    profile: LeafProfile


@dataclass(frozen=True, slots=True)
class Target:
    """What the configuration asks of Vault. Mounts are "" where nothing is asked. `role_id`: sign-in by AppRole, at
    `auth_mount`; "": by something else, which is not set up here. `needs`: the policy, for the issuers' ids."""

    trust_domain: TrustDomain
    root_ttl: timedelta
    needs: Callable[[str, str], Sequence[Need]]
    root_mount: str = ""
    root_issuer: str = ""
    leaf: LeafTarget | None = None
    signer_mount: str = ""
    kek_mount: str = ""
    kek_name: str = ""
    auth_mount: str = ""
    role_id: str = ""
    name: str = "citadel"  # of policy and role


@dataclass(frozen=True, slots=True)
class Step:
    """`differs`: lines of a diff; none if all is as it must be. `commands`: the same by Vault's command line, `{cli}`
    in the place of its name. `do` changes it."""

    title: str
    differs: tuple[str, ...]
    commands: tuple[str, ...]
    do: Callable[[], Awaitable[None]] | None = field(default=None, repr=False)


class Setup:
    """The steps, in the order in which they build on one another. `session` None: nothing is looked at, as if nothing
    was there."""

    def __init__(self, target: Target, session: Session | None) -> None:
        self._target = target
        self._session = session
        self.issuer = target.root_issuer
        self.leaf_issuer = target.leaf.issuer if target.leaf else ""

    async def steps(self) -> AsyncIterator[Step]:
        """One after the other: carry each out, or not, before the next is asked for."""
        target = self._target
        lease = f"{int(target.root_ttl.total_seconds() // 3600)}h"
        if target.root_mount:
            yield await self._engine(target.root_mount, "pki", lease)
            yield await self._root(target.root_mount)
        if target.leaf:
            yield await self._engine(target.leaf.mount, "pki", f"{int(_LEAF_ISSUER_YEARS.total_seconds() // 3600)}h")
            yield await self._leaf_issuer(target.leaf)
            yield await self._role(target.leaf)
        for mount in dict.fromkeys(one for one in (target.signer_mount, target.kek_mount) if one):
            yield await self._engine(mount, "transit", "")
        if target.kek_name:
            yield await self._written(
                f"key-encryption key {target.kek_name} at {target.kek_mount}",
                f"{target.kek_mount}/keys/{target.kek_name}",
                {"type": "aes256-gcm96"},
                "-f",
            )
        yield await self._policy()
        if target.role_id:
            async for step in self._approle():
                yield step

    # --- one kind of thing each

    async def _engine(self, mount: str, kind: str, lease: str) -> Step:
        found = await self._read(f"sys/mounts/{mount}")
        tune = f" -max-lease-ttl={lease}" if lease else ""
        body: dict[str, object] = {"type": kind, **({"config": {"max_lease_ttl": lease}} if lease else {})}
        if found is not None and found.get("type") != kind:
            raise FailedPrecondition(
                f"at {mount} Vault has an engine of type {found.get('type')}, not {kind}",
                mend="name another mount in the configuration",
            )
        return Step(
            f"{kind} engine at {mount}",
            ()
            if found is not None
            else (f"+ {kind} engine at {mount}" + (f", max_lease_ttl {lease}" if lease else ""),),
            (f"{{cli}} secrets enable -path={mount}{tune} {kind}",),
            lambda: self._write(f"sys/mounts/{mount}", body),
        )

    async def _root(self, mount: str) -> Step:
        ttl = f"{int(self._target.root_ttl.total_seconds() // 3600)}h"
        body = {
            "common_name": f"{self._target.trust_domain.name} root",
            "key_type": "ec",
            "key_bits": 256,
            "ttl": ttl,
            "max_path_length": 1,
        }
        if self._session is not None and not self.issuer:
            roots = await self._issuers(mount, roots=True)
            if len(roots) > 1:
                raise FailedPrecondition(
                    f"the PKI mount {mount} has {len(roots)} roots, and none is pinned",
                    mend="set root.vault_issuer to the id of the one that is to be trusted",
                )
            self.issuer = next(iter(roots), "")

        async def make() -> None:
            reply = await self._call("post", f"{mount}/root/generate/internal", body)
            self.issuer = str(reply["issuer_id"])

        return Step(
            f"root at {mount}",
            () if self.issuer else (f"+ root CN={body['common_name']}, P-256, {ttl}",),
            (f"{{cli}} write -field=issuer_id {mount}/root/generate/internal {_words(body)}", f"# prints {ISSUER}"),
            make,
        )

    async def _leaf_issuer(self, leaf: LeafTarget) -> Step:
        if self._session is not None and not self.leaf_issuer:
            found = await self._issuers(leaf.mount, roots=False)
            if len(found) > 1:
                raise FailedPrecondition(
                    f"the PKI mount {leaf.mount} has {len(found)} issuing CAs, and none is pinned",
                    mend="set signer.vault_issuer to the id of the one that is to sign",
                )
            self.leaf_issuer = next(iter(found), "")
        name = f"{self._target.trust_domain.name} leaf issuer"
        root_mount = self._target.root_mount
        signed = {
            "common_name": name,
            "use_csr_values": False,
            "max_path_length": 0,
            "uri_sans": str(self._target.trust_domain.id),
            "exclude_cn_from_sans": True,
            "ttl": f"{int(_LEAF_ISSUER_YEARS.total_seconds() // 3600)}h",
            "not_before_duration": "60s",
        }

        async def make() -> None:
            made = await self._call(
                "post", f"{leaf.mount}/intermediate/generate/internal", {"common_name": name, "key_type": "ec"}
            )
            path = f"{root_mount}/issuer/{self.issuer}/sign-intermediate"
            granted = await self._call("post", path, {**signed, "csr": made["csr"], "format": "pem"})
            above = granted.get("ca_chain")
            line = [granted["certificate"], *(above if isinstance(above, list) else [])]
            chain = "\n".join(dict.fromkeys(map(str, line)))
            await self._call("post", f"{leaf.mount}/intermediate/set-signed", {"certificate": chain})
            self.leaf_issuer = next(iter(await self._issuers(leaf.mount, roots=False)), "")

        issuer = self.issuer or ISSUER
        return Step(
            f"issuing CA at {leaf.mount}",
            () if self.leaf_issuer else (f"+ issuing CA CN={name} under the root, P-256, {signed['ttl']}",),
            (
                f"{{cli}} write -field=csr {leaf.mount}/intermediate/generate/internal "
                f"{_words({'common_name': name, 'key_type': 'ec'})} > issuing.csr",
                f"{{cli}} write -format=json {root_mount}/issuer/{issuer}/sign-intermediate csr=@issuing.csr "
                f"{_words(signed)} | jq -r '.data | .certificate, .ca_chain[]' > issuing.pem",
                f"{{cli}} write {leaf.mount}/intermediate/set-signed certificate=@issuing.pem",
                f"# prints {LEAF_ISSUER} among imported_issuers",
            ),
            make,
        )

    async def _role(self, leaf: LeafTarget) -> Step:
        return await self._written(
            f"role {leaf.role} at {leaf.mount}", f"{leaf.mount}/roles/{leaf.role}", leaf.profile.role()
        )

    async def _policy(self) -> Step:
        wanted = hcl(self._target.needs(self.issuer or ISSUER, self.leaf_issuer or LEAF_ISSUER))
        path = f"sys/policies/acl/{self._target.name}"
        found = await self._read(path)
        before = str(found.get("policy", "")) if found else ""
        lines = difflib.unified_diff(before.splitlines(), wanted.splitlines(), lineterm="", n=1)
        differs = tuple(line for line in lines if not line.startswith(("---", "+++", "@@")))
        return Step(
            f"policy {self._target.name}",
            () if before == wanted else differs or ("~ white space",),
            (f"{{cli}} policy write {self._target.name} - <<'HCL'\n{wanted}HCL",),
            lambda: self._write_policy(path),
        )

    async def _write_policy(self, path: str) -> None:
        """As the ids are when it is written, after the steps before."""
        policy = hcl(self._target.needs(self.issuer or ISSUER, self.leaf_issuer or LEAF_ISSUER))
        await self._write(path, {"policy": policy})

    async def _approle(self) -> AsyncIterator[Step]:
        target = self._target
        found = await self._read(f"sys/auth/{target.auth_mount}")
        if found is not None and found.get("type") != "approle":
            raise FailedPrecondition(
                f"auth/{target.auth_mount} is of type {found.get('type')}", mend="name another one (vault.auth.mount)"
            )
        yield Step(
            f"sign-in by AppRole at auth/{target.auth_mount}",
            () if found is not None else (f"+ auth/{target.auth_mount}",),
            (f"{{cli}} auth enable -path={target.auth_mount} approle",),
            lambda: self._write(f"sys/auth/{target.auth_mount}", {"type": "approle"}),
        )
        role = f"auth/{target.auth_mount}/role/{target.name}"
        settings = {"token_policies": [target.name], "token_ttl": "1h", "token_max_ttl": "24h"}
        yield await self._written(f"AppRole {target.name}", role, settings)
        yield await self._written(f"id of the AppRole {target.name}", f"{role}/role-id", {"role_id": target.role_id})

    async def secret_id(self) -> str:
        """A secret id for the AppRole. To be kept like a password."""
        role = f"auth/{self._target.auth_mount}/role/{self._target.name}"
        return str((await self._call("post", f"{role}/secret-id", {}))["secret_id"])

    @property
    def secret_id_command(self) -> str:
        return f"{{cli}} write -f -field=secret_id auth/{self._target.auth_mount}/role/{self._target.name}/secret-id"

    # --- what they share

    async def _written(self, title: str, path: str, body: Mapping[str, object], flag: str = "") -> Step:
        """Something that is written as it is, and read back."""
        found = await self._read(path)
        differs = []
        for name, value in sorted(body.items()):
            if found is None or not _same(found.get(name), value):
                before = "" if found is None else f"{_shown(found.get(name))} -> "
                differs.append(f"{'+' if found is None else '~'} {name} = {before}{_shown(value)}")
        nested = any(isinstance(value, list) for value in body.values())
        words = f"- <<'JSON'\n{json.dumps(body, indent=1)}\nJSON" if nested else _words(body)
        command = " ".join(filter(None, ["{cli} write", flag, path, words]))
        return Step(title, tuple(differs), (command,), lambda: self._write(path, body))

    async def _issuers(self, mount: str, *, roots: bool) -> list[str]:
        assert self._session is not None
        pki, found = PkiMount(self._session, mount), []
        with suppress(NotFound):  # a mount that is still to be made
            for one in await pki.issuers():
                own = (await pki.issuer(one.id))[0]
                if (not root_faults(own)) is roots:
                    found.append(one.id)
        return found

    async def _read(self, path: str) -> Mapping[str, object] | None:
        """None if there is nothing: for a mount that is not there Vault says 400."""
        if self._session is None:
            return None
        try:
            return (await self._session.call("get", path)).data
        except NotFound:
            return None
        except FailedPrecondition as error:
            if "engine" in error.message and ("No secret" in error.message or "No auth" in error.message):
                return None
            raise

    async def _write(self, path: str, body: Mapping[str, object]) -> None:
        await self._call("post", path, body)

    async def _call(self, method: str, path: str, body: Mapping[str, object]) -> Mapping[str, object]:
        assert self._session is not None
        return (await self._session.call(method, path, body, repeat=False)).data


def _same(found: object, wanted: object) -> bool:
    """Vault gives durations back in seconds."""
    if isinstance(wanted, str) and isinstance(found, int) and not isinstance(found, bool):
        units = {"s": 1, "m": 60, "h": 3600}
        return wanted[-1:] in units and found == float(wanted[:-1]) * units[wanted[-1]]
    return found == wanted


def _words(body: Mapping[str, object]) -> str:
    return " ".join(f"{name}={shlex.quote(_shown(value))}" for name, value in body.items())


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


__all__ = ["ISSUER", "LEAF_ISSUER", "LeafTarget", "Setup", "Step", "Target"]

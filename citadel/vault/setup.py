"""What Vault must have for a configuration, as steps: each says how it differs from what is there, and mends that.

Run by an operator with an operator's token, once; what Citadel itself may do is the policy that comes of it. A step
that finds all as it must be changes nothing, so a setup may be run again at any time. Nothing is ever deleted.
"""

from __future__ import annotations

import difflib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

from citadel.ca.chain import root_faults
from citadel.errors import FailedPrecondition, NotFound
from citadel.spiffe import TrustDomain
from citadel.vault.pki import PkiMount
from citadel.vault.policy import Need, hcl
from citadel.vault.role import LeafProfile
from citadel.vault.session import Session
from citadel.vault.setup_sign_in import AppRoleTarget, SignInTarget
from citadel.vault.setup_steps import Bench, Step, words

ISSUER, LEAF_ISSUER = "$ROOT_ISSUER", "$LEAF_ISSUER"  # variables of the shell: stand for ids that only Vault knows
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
    """What the configuration asks of Vault. Mounts are "" where nothing is asked. `sign_in` None: by a token, which is
    not made here. `needs`: the policy, for the issuers' ids."""

    trust_domain: TrustDomain
    root_ttl: timedelta
    needs: Callable[[str, str], Sequence[Need]]
    root_mount: str = ""
    root_issuer: str = ""
    leaf: LeafTarget | None = None
    signer_mount: str = ""
    kek_mount: str = ""
    kek_name: str = ""
    sign_in: SignInTarget | None = None
    name: str = "citadel"  # of the policy


class Setup:
    """The steps, in the order in which they build on one another. `session` None: nothing is looked at, as if nothing
    was there."""

    def __init__(self, target: Target, session: Session | None) -> None:
        self._target = target
        self._session = session
        self._bench = Bench(session)
        self.issuer = target.root_issuer
        self.leaf_issuer = target.leaf.issuer if target.leaf else ""

    async def steps(self) -> AsyncIterator[Step]:
        """One after the other: carry each out, or not, before the next is asked for."""
        target = self._target
        lease = f"{int(target.root_ttl.total_seconds() // 3600)}h"
        if target.root_mount:
            yield await self._bench.mounted("pki", target.root_mount, sign_in=False, lease=lease)
            yield await self._root(target.root_mount)
        if target.leaf:
            year = f"{int(_LEAF_ISSUER_YEARS.total_seconds() // 3600)}h"
            if target.leaf.mount != target.root_mount:
                yield await self._bench.mounted("pki", target.leaf.mount, sign_in=False, lease=year)
            yield await self._leaf_issuer(target.leaf)
            yield await self._role(target.leaf)
        for mount in dict.fromkeys(one for one in (target.signer_mount, target.kek_mount) if one):
            yield await self._bench.mounted("transit", mount, sign_in=False)
        if target.kek_name:
            yield await self._bench.written(
                f"key-encryption key {target.kek_name} at {target.kek_mount}",
                f"{target.kek_mount}/keys/{target.kek_name}",
                {"type": "aes256-gcm96"},
                "-f",
            )
        yield await self._policy()
        if target.sign_in is not None:
            async for step in target.sign_in.steps(self._bench, target.name):
                yield step

    # --- one kind of thing each

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
            reply = await self._bench.call("post", f"{mount}/root/generate/internal", body)
            self.issuer = str(reply["issuer_id"])

        return Step(
            f"root at {mount}",
            () if self.issuer else (f"+ root CN={body['common_name']}, P-256, {ttl}",),
            (f"{ISSUER[1:]}=$({{cli}} write -field=issuer_id {mount}/root/generate/internal {words(body)})",),
            make,
        )

    async def _leaf_issuer(self, leaf: LeafTarget) -> Step:
        if self._session is not None and not self.leaf_issuer:
            found = [one for one in await self._issuers(leaf.mount, roots=False) if one != self.issuer]
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
            made = await self._bench.call(
                "post", f"{leaf.mount}/intermediate/generate/internal", {"common_name": name, "key_type": "ec"}
            )
            path = f"{root_mount}/issuer/{self.issuer}/sign-intermediate"
            granted = await self._bench.call("post", path, {**signed, "csr": made["csr"], "format": "pem"})
            above = granted.get("ca_chain")
            line = [granted["certificate"], *(above if isinstance(above, list) else [])]
            chain = "\n".join(dict.fromkeys(map(str, line)))
            done = await self._bench.call("post", f"{leaf.mount}/intermediate/set-signed", {"certificate": chain})
            imported = done.get("imported_issuers")
            known = imported if isinstance(imported, list) else []
            found = await self._issuers(leaf.mount, roots=False)
            self.leaf_issuer = next((one for one in found if one in known and one != self.issuer), "")

        issuer = self.issuer or ISSUER
        return Step(
            f"issuing CA at {leaf.mount}",
            () if self.leaf_issuer else (f"+ issuing CA CN={name} under the root, P-256, {signed['ttl']}",),
            (
                f"{{cli}} write -field=csr {leaf.mount}/intermediate/generate/internal "
                f"{words({'common_name': name, 'key_type': 'ec'})} > issuing.csr",
                f"{{cli}} write -format=json {root_mount}/issuer/{issuer}/sign-intermediate csr=@issuing.csr "
                f"{words(signed)} > issuing.json",
                # All certificates of the answer; which of them has a key there, only Vault knows.
                r"""grep -o -e '-----BEGIN[^"]*' issuing.json | sed 's/\\n/\n/g' > issuing.pem""",
                f"{LEAF_ISSUER[1:]}=$({{cli}} write -format=json {leaf.mount}/intermediate/set-signed "
                r"""certificate=@issuing.pem | grep -o '"[0-9a-f-]\{36\}": "[0-9a-f-]\{36\}"' | cut -d'"' -f2 """
                f'| grep -v "{issuer}")',
                "rm issuing.csr issuing.json issuing.pem",
            ),
            make,
        )

    async def _role(self, leaf: LeafTarget) -> Step:
        return await self._bench.written(
            f"role {leaf.role} at {leaf.mount}", f"{leaf.mount}/roles/{leaf.role}", leaf.profile.role()
        )

    async def _policy(self) -> Step:
        wanted = hcl(self._target.needs(self.issuer or ISSUER, self.leaf_issuer or LEAF_ISSUER))
        path = f"sys/policies/acl/{self._target.name}"
        found = await self._bench.read(path)
        before = str(found.get("policy", "")) if found else ""
        lines = difflib.unified_diff(before.splitlines(), wanted.splitlines(), lineterm="", n=1)
        differs = tuple(line for line in lines if not line.startswith(("---", "+++", "@@")))
        return Step(
            f"policy {self._target.name}",
            () if before.strip() == wanted.strip() else differs or ("~ white space",),
            (f"{{cli}} policy write {self._target.name} - <<HCL\n{wanted}HCL",),
            lambda: self._write_policy(path),
        )

    async def _write_policy(self, path: str) -> None:
        """As the ids are when it is written, after the steps before."""
        policy = hcl(self._target.needs(self.issuer or ISSUER, self.leaf_issuer or LEAF_ISSUER))
        await self._bench.write(path, {"policy": policy})

    async def secret_id(self) -> str:
        """A secret id for the AppRole. To be kept like a password."""
        return str((await self._bench.call("post", self._secret_ids, {}))["secret_id"])

    @property
    def secret_id_command(self) -> str:
        return f"{{cli}} write -f -field=secret_id {self._secret_ids}"

    @property
    def _secret_ids(self) -> str:
        role = self._target.sign_in
        assert isinstance(role, AppRoleTarget)  # whoever asks has looked
        return f"auth/{role.mount}/role/{role.role}/secret-id"

    # --- what they share

    async def _issuers(self, mount: str, *, roots: bool) -> list[str]:
        assert self._session is not None
        pki, found = PkiMount(self._session, mount), []
        with suppress(NotFound):  # a mount that is still to be made
            for one in await pki.issuers():
                own = (await pki.issuer(one.id))[0]
                if (not root_faults(own)) is roots:
                    found.append(one.id)
        return found


__all__ = ["ISSUER", "LEAF_ISSUER", "LeafTarget", "Setup", "Step", "Target"]

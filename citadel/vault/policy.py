"""The least that Vault must permit us, as a policy (HCL), and a look at what it does permit (sys/capabilities-self)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from citadel.vault.session import Session

_NOTHING = frozenset({"deny"})
_PROBE = "citadel-probe"


@dataclass(frozen=True, slots=True)
class Need:
    """`capabilities` at `path`, as Vault's policies name them. `why` is a sentence for the operator. `probe`: a path
    that `path` stands for, if it has a wildcard."""

    path: str
    capabilities: frozenset[str]
    why: str
    optional: bool = False
    probe: str = ""

    @property
    def asked(self) -> str:
        """What Vault is asked about: a path without wildcards."""
        return self.probe or self.path


@dataclass(frozen=True, slots=True)
class Permission:
    """How it stands at one path. Too wide is what is there and not needed."""

    path: str
    why: str
    missing: tuple[str, ...]
    too_wide: tuple[str, ...]
    optional: bool = False

    @property
    def ok(self) -> bool:
        return not self.too_wide and (not self.missing or self.optional)


def session_needs() -> list[Need]:
    return [
        Need("auth/token/lookup-self", frozenset({"read"}), "see how long our token lives"),
        Need("auth/token/renew-self", frozenset({"update"}), "renew our token"),
    ]


def pki_needs(mount: str, issuer: str, *, signs: bool = True) -> list[Need]:
    """Of a root in Vault, that `signs` our issuing CAs."""
    return [
        Need(f"{mount}/issuer/{issuer}/json", frozenset({"read"}), "read the issuer and what is above it"),
        *(
            [Need(f"{mount}/issuer/{issuer}/sign-intermediate", frozenset({"update"}), "have an issuing CA signed")]
            if signs
            else []
        ),
        Need(f"{mount}/issuer/{issuer}", frozenset({"read"}), "tell you when it is retired or revoked", optional=True),
        *_watch_needs(mount),
    ]


def _watch_needs(mount: str) -> list[Need]:
    """Of the other issuers of the root's mount: to tell of them what they are. `+` is one part of a path."""
    return [
        Need(f"{mount}/issuers", frozenset({"list"}), "tell you of issuers that came into the mount", optional=True),
        Need(
            f"{mount}/issuer/+/json",
            frozenset({"read"}),
            "tell you what they are",
            optional=True,
            probe=f"{mount}/issuer/{_PROBE}/json",
        ),
    ]


def transit_kek_needs(mount: str, key: str) -> list[Need]:
    """Of a key-encryption key in transit."""
    return [
        Need(f"{mount}/keys/{key}", frozenset({"read"}), "check the key's type, and that it cannot leave Vault"),
        Need(f"{mount}/encrypt/{key}", frozenset({"update"}), "seal private keys"),
        Need(f"{mount}/decrypt/{key}", frozenset({"update"}), "open them"),
    ]


def transit_signer_needs(mount: str) -> list[Need]:
    """Of the mount of transit in which issuing keys are. `+` is one part of a path: so nothing below a key is ours, to
    make it deletable or to export it."""
    return [
        Need(
            f"{mount}/keys/+",
            frozenset({"read", "update"}),
            "make a key for each issuing CA, and check that it cannot leave Vault",
            probe=f"{mount}/keys/{_PROBE}",
        ),
        Need(
            f"{mount}/sign/+",
            frozenset({"update"}),
            "have certificates signed",
            probe=f"{mount}/sign/{_PROBE}",
        ),
    ]


def leaf_issuer_needs(mount: str, issuer: str, role: str) -> list[Need]:
    """Of an issuer that makes workloads' certificates."""
    return [
        Need(f"{mount}/issuer/{issuer}/json", frozenset({"read"}), "read the issuing CA and what is above it"),
        Need(f"{mount}/issuer/{issuer}/sign/{role}", frozenset({"update"}), "have workloads' certificates made"),
        Need(f"{mount}/issuer/{issuer}", frozenset({"read"}), "tell you when it is retired or revoked", optional=True),
        Need(f"{mount}/roles/{role}", frozenset({"read"}), "compare the role with what is asked of it", optional=True),
    ]


def beyond(mounts: Iterable[str], transit: Iterable[str] = (), keks: Iterable[tuple[str, str]] = ()) -> list[Need]:
    """Where we must be permitted nothing: who may do this is trusted by the whole mesh. `mounts` of the PKI engine,
    `transit` those of the issuing CAs' keys, `keks` mount and name of key-encryption keys."""
    paths = [f"sys/policies/acl/{_PROBE}", f"sys/mounts/{_PROBE}", f"sys/auth/{_PROBE}", "auth/token/create"]
    for mount, key in [*((one, _PROBE) for one in transit), *keks]:
        paths += [f"{mount}/keys/{key}/{rest}" for rest in ("config", "rotate", "trim", "import_version")]
        paths += [f"{mount}/export/{kind}/{key}" for kind in ("signing-key", "encryption-key")]
        paths += [f"{mount}/backup/{key}", f"{mount}/restore/{key}"]
    for mount in dict.fromkeys(mounts):
        paths += [f"{mount}/{rest}" for rest in ("config/issuers", "issuers/import/bundle", "root/replace")]
        paths += [f"{mount}/{rest}" for rest in ("root/generate/internal", "root/sign-intermediate", "sign-verbatim")]
        paths += [f"{mount}/{rest}/{_PROBE}" for rest in ("roles", "issuer", "sign", "issue")]
        paths += [f"{mount}/issuer/{_PROBE}/{rest}" for rest in ("sign-intermediate", "sign-verbatim", "revoke")]
    return [Need(path, frozenset(), "nothing here is ours to do") for path in paths]


def hcl(needs: Sequence[Need]) -> str:
    """The policy that permits just this."""
    blocks = []
    for need in needs:
        if need.capabilities:
            listed = ", ".join(f'"{one}"' for one in sorted(need.capabilities))
            blocks.append(f'# {need.why}\npath "{need.path}" {{\n  capabilities = [{listed}]\n}}\n')
    return "\n".join(blocks)


async def examine(session: Session, needs: Sequence[Need]) -> list[Permission]:
    """What Vault permits us of `needs`, in their order. Raises what Session.call does."""
    reply = await session.call("post", "sys/capabilities-self", {"paths": [need.asked for need in needs]})
    found = []
    for need in needs:
        listed = reply.data.get(need.asked)
        has = frozenset(map(str, listed)) if isinstance(listed, list) else _NOTHING
        if "root" in has:
            found.append(Permission(need.path, need.why, (), ("root",), need.optional))
            continue
        has -= _NOTHING
        found.append(
            Permission(
                need.path,
                need.why,
                tuple(sorted(need.capabilities - has)),
                tuple(sorted(has - need.capabilities)),
                need.optional,
            )
        )
    return found

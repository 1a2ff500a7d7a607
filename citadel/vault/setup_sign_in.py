"""How Citadel will sign in, set up: the mount, where Vault takes its word from, and a role with the policy.

Each role is for one caller: one AppRole, one service account, one subject, the names of one client certificate. A role
that would let in anybody whom the mount knows is not made.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from citadel.vault.setup_steps import Bench, Step

_TOKEN = {"token_ttl": "1h", "token_max_ttl": "24h"}


@dataclass(frozen=True, slots=True)
class AppRoleTarget:
    """`auth/approle`. The secret id is made at the end, by whoever writes it into its file."""

    mount: str
    role: str  # its name
    role_id: str

    kind = "approle"

    async def steps(self, bench: Bench, policy: str) -> AsyncIterator[Step]:
        path = f"auth/{self.mount}/role/{self.role}"
        yield await bench.mounted(self.kind, self.mount, sign_in=True)
        yield await bench.written(f"AppRole {self.role}", path, {"token_policies": [policy], **_TOKEN})
        yield await bench.written(f"id of the AppRole {self.role}", f"{path}/role-id", {"role_id": self.role_id})


@dataclass(frozen=True, slots=True)
class KubernetesTarget:
    """`auth/kubernetes` (API docs, "Kubernetes auth method"). `host` "": how Vault asks Kubernetes is set up already,
    or by somebody else. `ca` is PEM."""

    mount: str
    role: str
    namespace: str
    service_account: str
    audience: str = ""
    host: str = ""
    ca: str = ""

    kind = "kubernetes"

    async def steps(self, bench: Bench, policy: str) -> AsyncIterator[Step]:
        yield await bench.mounted(self.kind, self.mount, sign_in=True)
        if self.host:
            told: dict[str, object] = {"kubernetes_host": self.host}
            told |= {"kubernetes_ca_cert": self.ca} if self.ca else {}
            yield await bench.written(f"Kubernetes of auth/{self.mount}", f"auth/{self.mount}/config", told)
        role: dict[str, object] = {
            "bound_service_account_names": [self.service_account],
            "bound_service_account_namespaces": [self.namespace],
            "token_policies": [policy],
            **_TOKEN,
        }
        role |= {"audience": self.audience} if self.audience else {}
        yield await bench.written(f"role {self.role} at auth/{self.mount}", f"auth/{self.mount}/role/{self.role}", role)


@dataclass(frozen=True, slots=True)
class JwtTarget:
    """`auth/jwt` (API docs, "JWT/OIDC auth method"). The keys of the tokens' issuer: `discovery` is its URL, `keys` are
    PEM; neither: they are set up already."""

    mount: str
    role: str
    audience: str
    subject: str
    discovery: str = ""
    keys: tuple[str, ...] = ()

    kind = "jwt"

    async def steps(self, bench: Bench, policy: str) -> AsyncIterator[Step]:
        yield await bench.mounted(self.kind, self.mount, sign_in=True)
        if self.discovery or self.keys:
            told: dict[str, object] = (
                {"oidc_discovery_url": self.discovery, "bound_issuer": self.discovery}
                if self.discovery
                else {"jwt_validation_pubkeys": list(self.keys)}
            )
            yield await bench.written(f"issuer of tokens of auth/{self.mount}", f"auth/{self.mount}/config", told)
        role: dict[str, object] = {
            "role_type": "jwt",
            "user_claim": "sub",
            "bound_audiences": [self.audience],
            "bound_subject": self.subject,
            "token_policies": [policy],
            **_TOKEN,
        }
        yield await bench.written(f"role {self.role} at auth/{self.mount}", f"auth/{self.mount}/role/{self.role}", role)


@dataclass(frozen=True, slots=True)
class CertificateTarget:
    """`auth/cert` (API docs, "TLS certificate auth method"). `ca`: PEM of who signs the client certificate; the names
    are those that it has, of each kind."""

    mount: str
    role: str
    ca: str = field(repr=False)
    common_name: str = ""
    dns_names: tuple[str, ...] = ()
    uris: tuple[str, ...] = ()

    kind = "cert"

    async def steps(self, bench: Bench, policy: str) -> AsyncIterator[Step]:
        yield await bench.mounted(self.kind, self.mount, sign_in=True)
        role: dict[str, object] = {
            "certificate": self.ca,
            "allowed_common_names": [self.common_name] if self.common_name else [],
            "allowed_dns_sans": list(self.dns_names),
            "allowed_uri_sans": list(self.uris),
            "token_policies": [policy],
            **_TOKEN,
        }
        where = f"auth/{self.mount}/certs/{self.role}"
        yield await bench.written(f"role {self.role} at auth/{self.mount}", where, role)


SignInTarget = AppRoleTarget | KubernetesTarget | JwtTarget | CertificateTarget

__all__ = ["AppRoleTarget", "CertificateTarget", "JwtTarget", "KubernetesTarget", "SignInTarget"]

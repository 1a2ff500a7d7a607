"""The double's tokens: made, renewed, wrapped, and permitted what their policies say."""

from __future__ import annotations

import re
import secrets
import time
from dataclasses import dataclass, field
from typing import Any

from tests.support.vault_double.answers import Refused, duration


@dataclass
class Token:
    policies: list[str]
    name: str
    ttl: float = 0
    most: float = 0
    renewable: bool = True
    born: float = field(default_factory=time.monotonic)
    ends: float = float("inf")


class Tokens:
    """`of` is every token; `policies` every policy, by its name."""

    def __init__(self, above: Tokens | None = None) -> None:
        self._above = above
        self.of: dict[str, Token] = {}
        self.policies: dict[str, dict[str, list[str]]] = {}
        self.policy_texts: dict[str, str] = {}
        self._wrappings: dict[str, tuple[str, Any]] = {}

    def new_root(self) -> str:
        made = "s." + secrets.token_urlsafe(18)
        self.of[made] = Token(["root"], "root")
        return made

    def held(self, token: str) -> Token:
        held = self.of.get(token)
        if held is None and self._above is not None and "root" in self._above.held(token).policies:
            return self._above.held(token)
        if held is None or time.monotonic() >= held.ends:
            raise Refused(403, "permission denied", "invalid token")
        return held

    def write_policy(self, name: str, text: str) -> None:
        self.policy_texts[name] = text
        self.policies[name] = _policy(text)

    def wrapped(self, path: str, document: Any) -> dict[str, Any]:
        made = "s." + secrets.token_urlsafe(18)
        self._wrappings[made] = (path, document)
        return {"wrap_info": {"token": made, "ttl": 60, "creation_path": path}, "data": None, "auth": None}

    def unwrapped(self, path: str, body: dict[str, Any], token: str) -> dict[str, Any]:
        wrapping = token if path.endswith("unwrap") else body["token"]
        if wrapping not in self._wrappings:
            raise Refused(400, "wrapping token is not valid or does not exist")
        made_at, document = self._wrappings[wrapping]
        if path.endswith("lookup"):
            return {"data": {"creation_path": made_at, "creation_ttl": 60}}
        del self._wrappings[wrapping]
        return dict(document)

    def new(self, policies: Any, name: str, role: dict[str, Any]) -> dict[str, Any]:
        made = "s." + secrets.token_urlsafe(18)
        wanted = policies.split(",") if isinstance(policies, str) else list(policies)
        ttl = duration(role.get("token_ttl") or role.get("ttl") or "768h").total_seconds()
        most = duration(role.get("token_max_ttl") or role.get("explicit_max_ttl") or "768h").total_seconds()
        ttl = min(ttl, most)
        held = Token(sorted({"default", *wanted} - {""}), name, ttl, most, _renews(role))
        if "root" in wanted:
            held.policies = ["root"]
        held.ends = held.born + ttl
        self.of[made] = held
        return {"auth": self._auth_of(made, held), "data": None, "warnings": None}

    def renewed(self, token: str, held: Token) -> dict[str, Any]:
        if not held.renewable:
            raise Refused(400, "lease is not renewable")
        now = time.monotonic()
        held.ends = min(now + held.ttl, held.born + held.most)
        return {"auth": self._auth_of(token, held), "data": None, "warnings": None}

    def _auth_of(self, token: str, held: Token) -> dict[str, Any]:
        return {
            "client_token": token,
            "policies": held.policies,
            "lease_duration": max(0, round(held.ends - time.monotonic())) if held.ends != float("inf") else 0,
            "renewable": held.renewable,
            "metadata": {},
        }

    def facts(self, held: Token) -> dict[str, Any]:
        left = 0 if held.ends == float("inf") else max(0, int(held.ends - time.monotonic()))
        return {"display_name": held.name, "policies": held.policies, "ttl": left, "renewable": held.renewable}

    def permit(self, held: Token, method: str, path: str) -> None:
        if "root" in held.policies or (path.startswith("auth/token/") and path.endswith("-self")):
            return
        if path == "sys/capabilities-self":
            return
        wanted = {"GET": "read", "LIST": "list", "DELETE": "delete", "PATCH": "patch"}.get(method, "update")
        if wanted not in self.capabilities(held, path):
            raise Refused(403, "1 error occurred:\n\t* permission denied\n\n")

    def capabilities(self, held: Token, path: str) -> list[str]:
        if "root" in held.policies:
            return ["root"]
        best: tuple[int, list[str]] = (-1, ["deny"])
        for name in held.policies:
            for pattern, capabilities in self.policies.get(name, {}).items():
                exact = (
                    len(pattern)
                    if not set(pattern) & set("*+")
                    else min(at for at in (pattern.find("*"), pattern.find("+")) if at >= 0)
                )  # the later the first wildcard comes, the stronger
                written = re.escape(pattern).replace(r"\+", "[^/]+").replace(r"\*", ".*")
                if re.fullmatch(written, path) and exact > best[0]:
                    best = (exact, capabilities)
        return sorted(best[1])


def _renews(role: dict[str, Any]) -> bool:
    return role.get("renewable", True) is not False and role.get("token_type") != "batch"


def _policy(text: str) -> dict[str, list[str]]:
    """Of HCL just what our own policies are written in."""
    found: dict[str, list[str]] = {}
    for block in text.split("path ")[1:]:
        path = block.split('"')[1]
        found[path] = [one.strip().strip('"') for one in block.split("[")[1].split("]")[0].split(",")]
    return found

"""One namespace of the double: engines, ways of signing in, policies and tokens of its own, and `sys/` for them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from tests.support.vault_double.answers import Refused, duration
from tests.support.vault_double.pki import PkiMounts
from tests.support.vault_double.sign_in import SignIns
from tests.support.vault_double.tokens import Token, Tokens
from tests.support.vault_double.transit import TransitMounts


class Namespace:
    """`above` are the tokens of the one that it is in: those of an operator there may do all here."""

    def __init__(self, above: Tokens | None = None) -> None:
        self.tokens = Tokens(above)
        self._leases: dict[str, timedelta] = {}
        self._mounts: dict[str, str] = {}
        self.sign_ins = SignIns(self.tokens)
        self.pki = PkiMounts(self._leases)
        self.transit = TransitMounts()

    def answer(
        self, method: str, path: str, body: dict[str, Any], token: str, peer: bytes | None
    ) -> dict[str, Any] | None:
        parts = path.split("/")
        if parts[0] == "auth" and parts[-1] == "login":
            return self.sign_ins.login(parts[1], body, peer)
        if self._is_public(method, path):
            return self._engine(method, path, body)
        held = self.tokens.held(token)
        self.tokens.permit(held, method, path)
        match parts:
            case ["auth", "token", what]:
                return self._token(what, token, held, body)
            case ["auth", mount, *rest] if mount in self.sign_ins.kinds:
                return self.sign_ins.answer(method, mount, rest, body)
            case ["sys", *rest]:
                return self._system(method, rest, held, body)
        return self._engine(method, path, body)

    def _is_public(self, method: str, path: str) -> bool:
        """What a PKI engine tells anybody."""
        for mount, kind in self._mounts.items():
            if kind == "pki" and path.startswith(f"{mount}/"):
                rest = path.removeprefix(f"{mount}/")
                return (method, rest) == ("LIST", "issuers") or (rest.startswith("issuer/") and rest.endswith("/json"))
        return False

    def _token(self, what: str, token: str, held: Token, body: dict[str, Any]) -> dict[str, Any] | None:
        match what:
            case "lookup-self":
                return self.tokens.facts(held)
            case "renew-self":
                return self.tokens.renewed(token, held)
            case "revoke-self":
                del self.tokens.of[token]
                return None
            case "create":
                return self.tokens.new(body.get("policies") or held.policies, "token", body)
            case "revoke":
                self.tokens.of.pop(body["token"], None)
                return None
        raise Refused(404, "1 error occurred:\n\t* unsupported path\n\n")

    def _system(self, method: str, rest: list[str], held: Token, body: dict[str, Any]) -> dict[str, Any] | None:
        match method, rest:
            case _, ["capabilities-self"]:
                return {one: self.tokens.capabilities(held, one) for one in body["paths"]}
            case "GET", ["policies", "acl", name]:
                if name not in self.tokens.policy_texts:
                    raise Refused(404)
                return {"name": name, "policy": self.tokens.policy_texts[name]}
            case "GET", ["mounts", *mount]:
                if (kind := self._mounts.get("/".join(mount))) is None:
                    raise Refused(400, f"No secret engine mount at {'/'.join(mount)}/")
                return {"type": kind, "config": {"max_lease_ttl": self._leases["/".join(mount)].total_seconds()}}
            case "GET", ["auth", mount]:
                if mount not in self.sign_ins.kinds:
                    raise Refused(400, f"No auth engine at {mount}/")
                return {"type": self.sign_ins.kinds[mount]}
            case _, ["policies", "acl", name]:
                self.tokens.write_policy(name, body["policy"])
                return None
            case _, ["mounts", *mount]:
                self._mount(method, "/".join(mount), body)
                return None
            case _, ["auth", mount]:
                self.sign_ins.kinds[mount] = body["type"]
                return None
        raise Refused(404, "1 error occurred:\n\t* unsupported path\n\n")

    def _engine(self, method: str, path: str, body: dict[str, Any]) -> dict[str, Any] | None:
        for mount, kind in self._mounts.items():
            if path.startswith(mount + "/"):
                rest = path[len(mount) + 1 :].split("/")
                engine = self.pki if kind == "pki" else self.transit
                return engine.answer(method, mount, rest, body)
        raise Refused(404, f'no handler for route "{path}". route entry not found.')

    def _mount(self, method: str, mount: str, body: dict[str, Any]) -> None:
        if method == "DELETE":
            self._mounts.pop(mount, None)
            self.pki.issuers.pop(mount, None)
        elif mount.endswith("/tune"):
            self._leases[mount.removesuffix("/tune")] = duration(body["max_lease_ttl"])
        else:
            self._mounts[mount] = body["type"]
            config = body.get("config") or {}
            self._leases[mount] = duration(config.get("max_lease_ttl", "768h"))

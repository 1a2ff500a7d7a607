"""The double's ways of signing in: AppRole, JWT, Kubernetes, certificates."""

from __future__ import annotations

import uuid
from typing import Any

import jwt
from cryptography import x509
from cryptography.exceptions import InvalidSignature

from tests.support.vault_double.answers import Refused, role_facts
from tests.support.vault_double.tokens import Tokens


class SignIns:
    """All mounts under `auth/` but `auth/token`; `kinds` is the type of each."""

    def __init__(self, tokens: Tokens) -> None:
        self.kinds: dict[str, str] = {}
        self._tokens = tokens
        self._roles: dict[str, dict[str, Any]] = {}
        self._settings: dict[str, dict[str, Any]] = {}
        self._secret_ids: dict[str, str] = {}

    def answer(self, method: str, mount: str, rest: list[str], body: dict[str, Any]) -> dict[str, Any] | None:
        match method, rest:
            case "GET", ["config"]:
                if mount not in self._settings:
                    raise Refused(404)
                return self._settings[mount]
            case _, ["config"]:
                self._settings[mount] = body
                return None
            case "GET", ["certs", name]:
                if f"{mount}/{name}" not in self._roles:
                    raise Refused(404)
                return role_facts(self._roles[f"{mount}/{name}"])
            case _, ["certs", name]:
                self._roles[f"{mount}/{name}"] = {"name": name, **body}
                return None
            case "LIST", ["role"]:
                return {"keys": [name.partition("/")[2] for name in self._roles if name.startswith(f"{mount}/")]}
            case _, ["role", role, *more]:
                return self._role(method, mount, role, more, body)
        raise Refused(404, f'no handler for route "auth/{mount}/{"/".join(rest)}". route entry not found.')

    def login(self, mount: str, body: dict[str, Any], peer: bytes | None) -> dict[str, Any]:
        kind = self.kinds.get(mount)
        if kind is None:
            raise Refused(403, "permission denied")
        if kind == "approle":
            role = next((r for r in self._roles.values() if r.get("role_id") == body.get("role_id")), None)
            if role is None:
                raise Refused(400, "invalid role or secret ID")
            secret = str(body.get("secret_id"))
            if self._secret_ids.get(secret) != role["name"]:
                raise Refused(400, "invalid role or secret ID")
            if int(role.get("secret_id_num_uses") or 0) == 1:
                del self._secret_ids[secret]
            return self._tokens.new(role["token_policies"], "approle", role)
        if kind == "cert":
            return self._login_by_certificate(mount, body, peer)
        role = self._roles.get(f"{mount}/{body.get('role')}")
        if role is None:
            raise Refused(400, f'role "{body.get("role")}" could not be found')
        for key in self._settings[mount].get("jwt_validation_pubkeys", []):
            try:
                jwt.decode(body["jwt"], key, algorithms=["ES256"], audience=role["bound_audiences"])
            except jwt.PyJWTError as error:
                raise Refused(400, f"error validating token: {error}") from None
        return self._tokens.new(role["token_policies"], f"{mount}-{body.get('role')}", role)

    def _login_by_certificate(self, mount: str, body: dict[str, Any], peer: bytes | None) -> dict[str, Any]:
        if peer is None:
            raise Refused(400, "client certificate must be supplied")
        own = x509.load_der_x509_certificate(peer)
        for name, role in self._roles.items():
            if not name.startswith(f"{mount}/") or body.get("name") not in (None, role["name"]):
                continue
            try:
                own.verify_directly_issued_by(x509.load_pem_x509_certificate(role["certificate"].encode()))
            except InvalidSignature:
                continue
            if not own.subject.rdns:
                raise Refused(500, "missing name in alias")
            return self._tokens.new(role["token_policies"], f"cert-{role['name']}", role)
        raise Refused(400, "invalid certificate or no client certificate supplied")

    def _role(self, method: str, mount: str, name: str, rest: list[str], body: dict[str, Any]) -> dict[str, Any] | None:
        if method == "GET" and f"{mount}/{name}" not in self._roles:
            raise Refused(404)
        role = self._roles.setdefault(f"{mount}/{name}", {"name": name, "role_id": str(uuid.uuid4())})
        if rest == ["role-id"]:
            role.update(body)
            return {"role_id": role["role_id"]}
        if method == "GET" and not rest:
            return role_facts(role)
        if rest == ["secret-id", "destroy"]:
            self._secret_ids.pop(body["secret_id"], None)
            return None
        if rest == ["secret-id"]:
            made = str(uuid.uuid4())
            self._secret_ids[made] = name
            return {"secret_id": made}
        role.update(body)
        return None

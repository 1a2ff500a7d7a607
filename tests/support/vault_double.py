"""A contract double of Vault and OpenBao: the calls and errors that we rely on, over HTTP on a socket of its own.

The suites that run over it run unchanged over a real `bao` (tests.support.vault): that is what keeps it honest.
"""

from __future__ import annotations

import base64
import json
import re
import secrets
import ssl
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_PEM = serialization.Encoding.PEM
_BOTH_ENDS = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
_HASHES: dict[str, hashes.HashAlgorithm] = {"sha2-256": hashes.SHA256(), "sha2-384": hashes.SHA384()}


class Refused(Exception):
    def __init__(self, status: int, *errors: str) -> None:
        self.status, self.errors = status, errors


@dataclass
class _Token:
    policies: list[str]
    name: str
    ttl: float = 0
    most: float = 0
    renewable: bool = True
    born: float = field(default_factory=time.monotonic)
    ends: float = float("inf")


@dataclass
class _Issuer:
    certificate: x509.Certificate
    key: Any
    chain: list[x509.Certificate]
    name: str = ""


@dataclass
class _TransitKey:
    kind: str
    versions: list[Any]
    exportable: bool = False
    deletable: bool = False
    least: int = 0  # min_encryption_version


class VaultDouble:
    """`faults` maps a path's beginning to what happens instead of the answer; `sealed`, `latency` hold for all."""

    def __init__(self, tls: tuple[Path, Path] | None = None) -> None:
        """`tls`: certificate and key of the server. Client certificates are taken then, from whomever."""
        self.root_token = "s." + secrets.token_urlsafe(18)
        self.sealed = False
        self.latency = 0.0
        self.silent = threading.Event()  # set: it takes calls and answers none
        self.faults: dict[str, Callable[[dict[str, Any]], Any]] = {}
        self.calls: list[str] = []
        self._lock = threading.RLock()
        self._tokens = {self.root_token: _Token(["root"], "root")}
        self._policies: dict[str, dict[str, list[str]]] = {}
        self._policy_texts: dict[str, str] = {}
        self._mounts: dict[str, str] = {}
        self._auth: dict[str, str] = {}
        self._roles: dict[str, dict[str, Any]] = {}
        self._auth_settings: dict[str, dict[str, Any]] = {}
        self._wrappings: dict[str, tuple[str, Any]] = {}
        self._secret_ids: dict[str, str] = {}
        self._issuers: dict[str, dict[str, _Issuer]] = {}
        self._leases: dict[str, timedelta] = {}
        self._keys: dict[str, _TransitKey] = {}
        self._pki_roles: dict[str, dict[str, Any]] = {}
        self._waiting_keys: dict[str, list[Any]] = {}  # of intermediates that are not signed yet
        double = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # as Vault; else each answer waits for the client's kernel to acknowledge

            def _answer(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(length) or b"{}")
                path, _, query = self.path.removeprefix("/v1/").partition("?")
                method = "LIST" if "list=true" in query else self.command
                peer = self.connection.getpeercert(True) if isinstance(self.connection, ssl.SSLSocket) else None
                token, wrap = self.headers.get("X-Vault-Token") or "", self.headers.get("X-Vault-Wrap-TTL") or ""
                status, document = double.answer(method, path, body, token, peer)
                if wrap and status == 200:
                    document = double.wrapped(path, document)
                content = document if isinstance(document, bytes) else json.dumps(document).encode()
                if status == 0:  # a cut connection
                    self.close_connection = True
                    return
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PUT = do_DELETE = do_LIST = do_PATCH = _answer  # noqa: N815

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        port = self._server.server_address[1]
        self.address = f"https://localhost:{port}" if tls else f"http://127.0.0.1:{port}"
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*map(str, tls))
            context.verify_mode = ssl.CERT_OPTIONAL
            context.load_verify_locations(str(tls[0].parent / "clients.pem"))
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    def __enter__(self) -> VaultDouble:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def wrapped(self, path: str, document: Any) -> dict[str, Any]:
        made = "s." + secrets.token_urlsafe(18)
        self._wrappings[made] = (path, document)
        return {"wrap_info": {"token": made, "ttl": 60, "creation_path": path}, "data": None, "auth": None}

    def answer(
        self, method: str, path: str, body: dict[str, Any], token: str, peer: bytes | None = None
    ) -> tuple[int, Any]:
        time.sleep(self.latency)
        while self.silent.is_set():
            time.sleep(0.05)
        with self._lock:
            self.calls.append(f"{method} {path}")
            try:
                for start, fault in self.faults.items():
                    if path.startswith(start):
                        made = fault(body)
                        if made is not None:
                            status, document = made
                            return int(status), document
                if path == "sys/health":
                    state = {"initialized": True, "sealed": self.sealed, "standby": False, "version": "double"}
                    return 200, {**state, "cluster_name": "double"}
                if self.sealed:
                    raise Refused(503, "Vault is sealed")
                if path.startswith("sys/wrapping/"):
                    return 200, self._unwrapped(path, body, token)
                found = self._route(method, path, body, token, peer)
            except Refused as refused:
                return refused.status, {"errors": list(refused.errors)}
        if found is None:
            return 204, b""
        return 200, found if "auth" in found or "data" in found else {"data": found, "warnings": None, "auth": None}

    # --- routes

    def _unwrapped(self, path: str, body: dict[str, Any], token: str) -> dict[str, Any]:
        wrapping = token if path.endswith("unwrap") else body["token"]
        if wrapping not in self._wrappings:
            raise Refused(400, "wrapping token is not valid or does not exist")
        made_at, document = self._wrappings[wrapping]
        if path.endswith("lookup"):
            return {"data": {"creation_path": made_at, "creation_ttl": 60}}
        del self._wrappings[wrapping]
        return dict(document)

    def _route(
        self, method: str, path: str, body: dict[str, Any], token: str, peer: bytes | None
    ) -> dict[str, Any] | None:
        parts = path.split("/")
        if parts[0] == "auth" and parts[-1] == "login":
            return self._login(parts[1], body, peer)
        held = self._tokens.get(token)
        if held is None or time.monotonic() >= held.ends:
            raise Refused(403, "permission denied", "invalid token")
        self._permit(held, method, path)
        match method, parts:
            case "GET", ["auth", "token", "lookup-self"]:
                return self._token_facts(held)
            case _, ["auth", "token", "renew-self"]:
                return self._renewed(token, held)
            case _, ["auth", "token", "revoke-self"]:
                del self._tokens[token]
                return None
            case _, ["auth", "token", "create"]:
                return self._new_token(body.get("policies") or held.policies, "token", body)
            case _, ["auth", "token", "revoke"]:
                self._tokens.pop(body["token"], None)
                return None
            case _, ["sys", "capabilities-self"]:
                return {one: self._capabilities(held, one) for one in body["paths"]}
            case "GET", ["sys", "policies", "acl", name]:
                if name not in self._policy_texts:
                    raise Refused(404)
                return {"name": name, "policy": self._policy_texts[name]}
            case "GET", ["sys", "mounts", *mount]:
                if (kind := self._mounts.get("/".join(mount))) is None:
                    raise Refused(400, f"No secret engine mount at {'/'.join(mount)}/")
                return {"type": kind, "config": {"max_lease_ttl": self._leases["/".join(mount)].total_seconds()}}
            case "GET", ["sys", "auth", mount]:
                if mount not in self._auth:
                    raise Refused(400, f"No auth engine at {mount}/")
                return {"type": self._auth[mount]}
            case _, ["sys", "policies", "acl", name]:
                self._policy_texts[name] = body["policy"]
                self._policies[name] = _policy(body["policy"])
                return None
            case _, ["sys", "mounts", *mount]:
                self._mount(method, "/".join(mount), body)
                return None
            case _, ["auth", mount, "config"] if mount in self._auth:
                self._auth_settings[mount] = body
                return None
            case _, ["auth", mount, "certs", name] if mount in self._auth:
                self._roles[f"{mount}/{name}"] = {"name": name, **body}
                return None
            case _, ["sys", "auth", mount]:
                self._auth[mount] = body["type"]
                return None
            case "LIST", ["auth", mount, "role"]:
                return {"keys": [name.partition("/")[2] for name in self._roles if name.startswith(f"{mount}/")]}
            case _, ["auth", mount, "role", role, *rest] if mount in self._auth:
                return self._role(method, mount, role, rest, body)
        return self._engine(method, path, body)

    def _engine(self, method: str, path: str, body: dict[str, Any]) -> dict[str, Any] | None:
        for mount, kind in self._mounts.items():
            if path.startswith(mount + "/"):
                rest = path[len(mount) + 1 :].split("/")
                return (
                    self._pki(method, mount, rest, body) if kind == "pki" else self._transit(mount, rest, body, method)
                )
        raise Refused(404, f'no handler for route "{path}". route entry not found.')

    def _mount(self, method: str, mount: str, body: dict[str, Any]) -> None:
        if method == "DELETE":
            self._mounts.pop(mount, None)
            self._issuers.pop(mount, None)
        elif mount.endswith("/tune"):
            self._leases[mount.removesuffix("/tune")] = _duration(body["max_lease_ttl"])
        else:
            self._mounts[mount] = body["type"]
            config = body.get("config") or {}
            self._leases[mount] = _duration(config.get("max_lease_ttl", "768h"))

    # --- tokens

    def _login(self, mount: str, body: dict[str, Any], peer: bytes | None) -> dict[str, Any]:
        kind = self._auth.get(mount)
        if kind is None:
            raise Refused(403, "permission denied")
        if kind == "approle":
            role = next((r for r in self._roles.values() if r.get("role_id") == body.get("role_id")), None)
            if role is None:
                raise Refused(400, "invalid role or secret ID")
            if self._secret_ids.get(str(body.get("secret_id"))) != role["name"]:
                raise Refused(400, "invalid role or secret ID")
            return self._new_token(role["token_policies"], "approle", role)
        if kind == "cert":
            return self._login_by_certificate(mount, body, peer)
        role = self._roles.get(f"{mount}/{body.get('role')}")
        if role is None:
            raise Refused(400, f'role "{body.get("role")}" could not be found')
        for key in self._auth_settings[mount].get("jwt_validation_pubkeys", []):
            try:
                jwt.decode(body["jwt"], key, algorithms=["ES256"], audience=role["bound_audiences"])
            except jwt.PyJWTError as error:
                raise Refused(400, f"error validating token: {error}") from None
        return self._new_token(role["token_policies"], f"{mount}-{body.get('role')}", role)

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
            return self._new_token(role["token_policies"], f"cert-{role['name']}", role)
        raise Refused(400, "invalid certificate or no client certificate supplied")

    def _role(self, method: str, mount: str, name: str, rest: list[str], body: dict[str, Any]) -> dict[str, Any] | None:
        if method == "GET" and f"{mount}/{name}" not in self._roles:
            raise Refused(404)
        role = self._roles.setdefault(f"{mount}/{name}", {"name": name, "role_id": str(uuid.uuid4())})
        if rest == ["role-id"]:
            role.update(body)
            return {"role_id": role["role_id"]}
        if method == "GET" and not rest:
            return _role_facts(role)
        if rest == ["secret-id"]:
            made = str(uuid.uuid4())
            self._secret_ids[made] = name
            return {"secret_id": made}
        role.update(body)
        return None

    def _new_token(self, policies: Any, name: str, role: dict[str, Any]) -> dict[str, Any]:
        made = "s." + secrets.token_urlsafe(18)
        wanted = policies.split(",") if isinstance(policies, str) else list(policies)
        ttl = _duration(role.get("token_ttl") or role.get("ttl") or "768h").total_seconds()
        most = _duration(role.get("token_max_ttl") or role.get("explicit_max_ttl") or "768h").total_seconds()
        ttl = min(ttl, most)
        held = _Token(sorted({"default", *wanted} - {""}), name, ttl, most, role.get("renewable", True) is not False)
        if "root" in wanted:
            held.policies = ["root"]
        held.ends = held.born + ttl
        self._tokens[made] = held
        return {"auth": self._auth_of(made, held), "data": None, "warnings": None}

    def _renewed(self, token: str, held: _Token) -> dict[str, Any]:
        if not held.renewable:
            raise Refused(400, "lease is not renewable")
        now = time.monotonic()
        held.ends = min(now + held.ttl, held.born + held.most)
        return {"auth": self._auth_of(token, held), "data": None, "warnings": None}

    def _auth_of(self, token: str, held: _Token) -> dict[str, Any]:
        return {
            "client_token": token,
            "policies": held.policies,
            "lease_duration": max(0, round(held.ends - time.monotonic())) if held.ends != float("inf") else 0,
            "renewable": held.renewable,
            "metadata": {},
        }

    def _token_facts(self, held: _Token) -> dict[str, Any]:
        left = 0 if held.ends == float("inf") else max(0, int(held.ends - time.monotonic()))
        return {"display_name": held.name, "policies": held.policies, "ttl": left, "renewable": held.renewable}

    def _permit(self, held: _Token, method: str, path: str) -> None:
        if "root" in held.policies or (path.startswith("auth/token/") and path.endswith("-self")):
            return
        if path == "sys/capabilities-self":
            return
        wanted = {"GET": "read", "LIST": "list", "DELETE": "delete", "PATCH": "patch"}.get(method, "update")
        if wanted not in self._capabilities(held, path):
            raise Refused(403, "1 error occurred:\n\t* permission denied\n\n")

    def _capabilities(self, held: _Token, path: str) -> list[str]:
        if "root" in held.policies:
            return ["root"]
        best: tuple[int, list[str]] = (-1, ["deny"])
        for name in held.policies:
            for pattern, capabilities in self._policies.get(name, {}).items():
                exact = (
                    len(pattern)
                    if not set(pattern) & set("*+")
                    else min(at for at in (pattern.find("*"), pattern.find("+")) if at >= 0)
                )  # the later the first wildcard comes, the stronger
                written = re.escape(pattern).replace(r"\+", "[^/]+").replace(r"\*", ".*")
                if re.fullmatch(written, path) and exact > best[0]:
                    best = (exact, capabilities)
        return sorted(best[1])

    # --- pki

    def _pki(self, method: str, mount: str, rest: list[str], body: dict[str, Any]) -> dict[str, Any] | None:
        issuers = self._issuers.setdefault(mount, {})
        match method, rest:
            case _, ["root", "generate", "internal"]:
                return self._new_root(mount, body)
            case "LIST", ["issuers"]:
                if not issuers:
                    raise Refused(404)
                info = {one: {"issuer_name": issuer.name} for one, issuer in issuers.items()}
                return {"keys": list(issuers), "key_info": info}
            case "GET", ["issuer", reference, "json"]:
                issuer = self._issuer(mount, reference)
                chain = [_pem(issuer.certificate), *map(_pem, issuer.chain)]
                return {"certificate": _pem(issuer.certificate), "ca_chain": chain}
            case _, ["intermediate", "generate", "internal"]:
                return self._new_intermediate(mount, body)
            case _, ["intermediate", "set-signed"]:
                return self._set_signed(mount, body)
            case "GET", ["roles", name]:
                if (role := self._pki_roles.get(f"{mount}/{name}")) is None:
                    raise Refused(404)
                return _role_facts(role)
            case _, ["roles", name]:
                self._pki_roles[f"{mount}/{name}"] = dict(body)
                return _role_facts(body)
            case _, ["issuer", reference, "sign", name]:
                return self._sign_leaf(mount, self._issuer(mount, reference), name, body)
            case "DELETE", ["issuer", reference]:
                issuers.pop(next(one for one, i in issuers.items() if reference in (one, i.name)))
                return None
            case _, ["issuer", reference, "sign-intermediate"]:
                return self._sign(mount, self._issuer(mount, reference), body)
        raise Refused(404, "1 error occurred:\n\t* unsupported path\n\n")

    def _issuer(self, mount: str, reference: str) -> _Issuer:
        for one, issuer in self._issuers.get(mount, {}).items():
            if reference in (one, issuer.name):
                return issuer
        raise Refused(500, f"1 error occurred:\n\t* unable to find PKI issuer for reference: {reference}\n\n")

    def _new_root(self, mount: str, body: dict[str, Any]) -> dict[str, Any]:
        bits = int(body.get("key_bits") or 0)
        kind = body.get("key_type", "rsa")
        key: Any = (
            ed25519.Ed25519PrivateKey.generate()
            if kind == "ed25519"
            else (
                ec.generate_private_key(ec.SECP384R1() if bits == 384 else ec.SECP256R1())
                if kind == "ec"
                else rsa.generate_private_key(65537, bits or 2048)
            )
        )
        now = datetime.now(UTC)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, body["common_name"])])
        ttl = min(_duration(body.get("ttl") or "768h"), self._leases[mount])
        length = int(body.get("max_path_length", -1))
        certificate = _certificate(name, name, key.public_key(), key, now, ttl, length if length >= 0 else None, [], 30)
        made = str(uuid.uuid4())
        issuer = _Issuer(certificate, key, [], body.get("issuer_name", ""))
        self._issuers[mount][made] = issuer
        return {"certificate": _pem(certificate), "issuer_id": made, "issuer_name": issuer.name}

    def _sign(self, mount: str, issuer: _Issuer, body: dict[str, Any]) -> dict[str, Any]:
        request = x509.load_pem_x509_csr(body["csr"].encode())
        if not request.is_signature_valid:
            raise Refused(400, "request signature invalid")
        asked = _duration(body["ttl"])
        ttl = min(asked, self._leases[mount])
        warnings = []
        if ttl < asked:
            warnings.append(f"TTL of {asked} is greater than the maximum of {ttl}")
        now = datetime.now(UTC)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, body["common_name"])])
        uris = [x509.UniformResourceIdentifier(one) for one in body["uri_sans"].split(",")]
        own = issuer.certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length
        if own == 0:
            raise Refused(
                400, "signing certificate has a max path length of zero, and cannot issue further CA certificates"
            )
        made = _certificate(
            name,
            issuer.certificate.subject,
            request.public_key(),
            issuer.key,
            now,
            ttl,
            int(body["max_path_length"]),
            uris,
            int(_duration(body["not_before_duration"]).total_seconds()),
            issuer.certificate,
        )
        chain = [_pem(issuer.certificate), *map(_pem, issuer.chain)]
        answer = {"certificate": _pem(made), "issuing_ca": chain[0], "ca_chain": chain}
        return {"data": answer, "warnings": warnings or None, "auth": None}

    def _new_intermediate(self, mount: str, body: dict[str, Any]) -> dict[str, Any]:
        key = ec.generate_private_key(ec.SECP256R1())
        self._waiting_keys.setdefault(mount, []).append(key)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, body["common_name"])])
        request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
        return {"csr": request.public_bytes(_PEM).decode(), "key_id": str(uuid.uuid4())}

    def _set_signed(self, mount: str, body: dict[str, Any]) -> dict[str, Any]:
        own, *above = x509.load_pem_x509_certificates(body["certificate"].encode())
        made = []
        for key in self._waiting_keys.get(mount, []):
            if key.public_key() == own.public_key():
                made.append(str(uuid.uuid4()))
                self._issuers.setdefault(mount, {})[made[-1]] = _Issuer(own, key, above)
        for one in above:  # what is above comes along, without its key
            if all(known.certificate != one for known in self._issuers[mount].values()):
                made.append(str(uuid.uuid4()))
                self._issuers[mount][made[-1]] = _Issuer(one, None, [])
        return {"imported_issuers": made, "imported_keys": None, "existing_issuers": None, "mapping": {}}

    def _sign_leaf(self, mount: str, issuer: _Issuer, name: str, body: dict[str, Any]) -> dict[str, Any]:
        role = self._pki_roles.get(f"{mount}/{name}")
        if role is None:
            raise Refused(400, f"unknown role: {name}")
        request = x509.load_pem_x509_csr(body["csr"].encode())
        key = request.public_key()
        if role["key_type"] not in ("any", "ec" if isinstance(key, ec.EllipticCurvePublicKey) else "rsa"):
            raise Refused(400, f"role requires keys of type {role['key_type']}")
        uri = body["uri_sans"]
        if not any(re.fullmatch(re.escape(one).replace(r"\*", ".*"), uri) for one in role["allowed_uri_sans"]):
            raise Refused(400, "URI Subject Alternative Names were provided that are not allowed by this role")
        names = [one for one in body.get("alt_names", "").split(",") if one]
        if names and not role.get("allow_any_name"):
            raise Refused(400, f"subject alternate name {names[0]} not allowed by this role")
        now = datetime.now(UTC)
        ttl = min(_duration(body["ttl"]), _duration(role["max_ttl"]))
        if now + ttl > issuer.certificate.not_valid_after_utc:
            raise Refused(400, "cannot satisfy request, as TTL would result in notAfter that is beyond the CA's")
        above = issuer.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        made = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(issuer.certificate.subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _duration(role["not_before_duration"]))
            .not_valid_after(now + ttl)
            .add_extension(x509.KeyUsage(True, False, False, False, False, False, False, False, False), True)
            .add_extension(x509.ExtendedKeyUsage(_BOTH_ENDS), False)
            .add_extension(x509.BasicConstraints(False, None), True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(above), False)
            .add_extension(
                x509.SubjectAlternativeName([*map(x509.DNSName, names), x509.UniformResourceIdentifier(uri)]), True
            )
            .sign(issuer.key, hashes.SHA256())
        )
        return {"certificate": _pem(made), "issuing_ca": _pem(issuer.certificate), "ca_chain": []}

    # --- transit

    def _transit(self, mount: str, rest: list[str], body: dict[str, Any], method: str) -> dict[str, Any] | None:
        where = f"{mount}/{rest[1]}" if len(rest) > 1 else ""
        if rest[0] == "keys" and method != "GET":
            self._change_key(where, rest[2:], body)
            return None
        key = self._keys.get(where)
        if key is None:
            what = "signing" if rest[0] == "sign" else "encryption"
            raise Refused(404) if rest[0] == "keys" else Refused(400, f"{what} key not found")
        match rest[0]:
            case "keys":
                return self._key_facts(rest[1], key)
            case "sign":
                return self._signatures(key, body)
            case "encrypt":
                return {"ciphertext": _sealed(key, body)}
            case "decrypt":
                return {"plaintext": _opened(key, body)}
        raise Refused(404, "1 error occurred:\n\t* unsupported path\n\n")

    def _change_key(self, where: str, rest: list[str], body: dict[str, Any]) -> None:
        if rest == ["rotate"]:
            key = self._keys[where]
            key.versions.append(_new_transit_key(key.kind))
        elif rest == ["config"]:
            self._keys[where].deletable = bool(body.get("deletion_allowed"))
            self._keys[where].exportable |= bool(body.get("exportable"))
            self._keys[where].least = int(body.get("min_encryption_version") or 0)
        elif where not in self._keys:
            kind = body.get("type", "aes256-gcm96")
            self._keys[where] = _TransitKey(kind, [_new_transit_key(kind)], bool(body.get("exportable")))

    def _key_facts(self, name: str, key: _TransitKey) -> dict[str, Any]:
        public = serialization.PublicFormat.SubjectPublicKeyInfo
        versions: dict[str, Any] = {}
        for number, version in enumerate(key.versions, 1):
            if isinstance(version, bytes):
                versions[str(number)] = int(time.time())
            else:
                versions[str(number)] = {"public_key": version.public_key().public_bytes(_PEM, public).decode()}
        return {
            "name": name,
            "type": key.kind,
            "keys": versions,
            "latest_version": len(key.versions),
            "exportable": key.exportable,
            "deletion_allowed": key.deletable,
            "allow_plaintext_backup": False,
            "auto_rotate_period": 0,
            "derived": False,
            "imported_key": False,
            "min_encryption_version": key.least,
            "supports_signing": not key.kind.startswith("aes"),
            "supports_encryption": key.kind.startswith("aes") or key.kind.startswith("rsa"),
        }

    def _signatures(self, key: _TransitKey, body: dict[str, Any]) -> dict[str, Any]:
        number = int(body.get("key_version") or len(key.versions))
        why = ""
        if number > len(key.versions):
            why = "requested version for signing is higher than the latest key version"
        elif number < key.least:
            why = "requested version for signing is less than the minimum encryption key version"
        if "batch_input" not in body:
            if why:
                raise Refused(500, f"1 error occurred:\n\t* {why}\n\n")
            return _signature(key.versions[number - 1], number, body, body.get("input", ""))
        if why:
            return {"batch_results": [{"key_version": 0, "error": why} for _ in body["batch_input"]]}
        private = key.versions[number - 1]
        return {"batch_results": [_signature(private, number, body, item["input"]) for item in body["batch_input"]]}


def _signature(private: Any, number: int, body: dict[str, Any], text: str) -> dict[str, Any]:
    digest, algorithm = base64.b64decode(text), utils.Prehashed(_HASHES[body.get("hash_algorithm", "sha2-256")])
    if isinstance(private, rsa.RSAPrivateKey):
        made = private.sign(digest, padding.PKCS1v15(), algorithm)
    else:
        made = private.sign(digest, ec.ECDSA(algorithm))
    return {"signature": f"vault:v{number}:{base64.b64encode(made).decode()}", "key_version": number}


def _new_transit_key(kind: str) -> Any:
    match kind:
        case "ecdsa-p256":
            return ec.generate_private_key(ec.SECP256R1())
        case "ecdsa-p384":
            return ec.generate_private_key(ec.SECP384R1())
        case "rsa-2048" | "rsa-3072" | "rsa-4096":
            return rsa.generate_private_key(65537, int(kind[4:]))
        case _:
            return secrets.token_bytes(32)


def _sealed(key: _TransitKey, body: dict[str, Any]) -> str:
    nonce, number = secrets.token_bytes(12), len(key.versions)
    extra = base64.b64decode(body.get("associated_data") or "")
    made = AESGCM(key.versions[-1]).encrypt(nonce, base64.b64decode(body["plaintext"]), extra or None)
    return f"vault:v{number}:{base64.b64encode(nonce + made).decode()}"


def _opened(key: _TransitKey, body: dict[str, Any]) -> str:
    try:
        prefix, version, text = body["ciphertext"].split(":", 2)
        raw = base64.b64decode(text, validate=True)
        extra = base64.b64decode(body.get("associated_data") or "")
        plain = AESGCM(key.versions[int(version[1:]) - 1]).decrypt(raw[:12], raw[12:], extra or None)
        assert prefix == "vault"
    except Exception:
        raise Refused(400, "cipher: message authentication failed") from None
    return base64.b64encode(plain).decode()


def _certificate(
    subject: x509.Name,
    issuer: x509.Name,
    public: Any,
    key: Any,
    now: datetime,
    ttl: timedelta,
    length: int | None,
    uris: list[x509.UniformResourceIdentifier],
    backdate: int,
    above: x509.Certificate | None = None,
) -> x509.Certificate:
    key_id = x509.SubjectKeyIdentifier.from_public_key(public)
    above_id = above.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value if above else key_id
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(seconds=backdate))
        .not_valid_after(now + ttl)
        .add_extension(x509.BasicConstraints(True, length), True)
        .add_extension(x509.KeyUsage(False, False, False, False, False, True, True, False, False), True)
        .add_extension(key_id, False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(above_id), False)
    )
    if uris:
        builder = builder.add_extension(x509.SubjectAlternativeName(uris), False)
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return builder.sign(key, None)
    return builder.sign(key, hashes.SHA384() if getattr(key, "key_size", 0) == 384 else hashes.SHA256())


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(_PEM).decode().strip()


def _role_facts(role: dict[str, Any]) -> dict[str, Any]:
    """As Vault gives a role back: durations in seconds."""
    durations = {
        name: int(_duration(role[name]).total_seconds()) for name in role if name.endswith(("ttl", "duration"))
    }
    return {**role, **durations}


def _duration(text: object) -> timedelta:
    if isinstance(text, int):
        return timedelta(seconds=text)
    units = {"s": 1, "m": 60, "h": 3600}
    written = str(text)
    return timedelta(seconds=float(written[:-1]) * units[written[-1]] if written[-1] in units else float(written))


def _policy(text: str) -> dict[str, list[str]]:
    """Of HCL just what our own policies are written in."""
    found: dict[str, list[str]] = {}
    for block in text.split("path ")[1:]:
        path = block.split('"')[1]
        found[path] = [one.strip().strip('"') for one in block.split("[")[1].split("]")[0].split(",")]
    return found


__all__ = ["VaultDouble"]

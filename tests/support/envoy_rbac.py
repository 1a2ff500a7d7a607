"""An Envoy that enforces compiled policies, many sets at once, and a client that asks it and the engine the same.

Each case (policies, mesh, workload) is a TCP listener of its own, for HTTP or for plain TCP, behind the PROXY protocol
(which states client and destination, ports too) and a TLS inspector: mTLS, TLS without a certificate, and plaintext on
one port.
"""

from __future__ import annotations

import base64
import json
import socket
import ssl
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.x509.oid import NameOID

from citadel.authz import HttpRequest, PolicySet, Request, compile, load_text  # noqa: A004
from citadel.authz.envoy import compile_filters
from citadel.spiffe import SpiffeId
from tests.support import authz_cases as cases
from tests.support.envoys import Envoy, wait_for

Doc = dict[str, Any]
_TYPE = "type.googleapis.com/envoy.extensions."
# what Istio sets in the connection manager (MeshConfig.pathNormalization)
MANAGER: dict[str, Doc] = {
    "NONE": {"normalize_path": False},
    "BASE": {"normalize_path": True},
    "MERGE_SLASHES": {"normalize_path": True, "merge_slashes": True},
    "DECODE_AND_MERGE_SLASHES": {
        "normalize_path": True,
        "merge_slashes": True,
        "path_with_escaped_slashes_action": "UNESCAPE_AND_FORWARD",
    },
}
MESH: Doc = {
    "trust_domain": "td1",
    "aliases": [],
    "root": "root",
    "normalization": "BASE",
    "providers": {},
    "several_providers": False,
    "space_delimited": ["scope"],
}
TIMEOUT = 10.0


def _b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


# --- who calls


class Authority:
    """A root for peers of any trust domain, a server certificate, and a key that signs tokens."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "peers")])
        self.root = self._sign(self._name, self._key, x509.BasicConstraints(ca=True, path_length=None), None)
        self._root_file = folder / "root.pem"
        self._root_file.write_bytes(self.root.public_bytes(serialization.Encoding.PEM))
        self.server = self.files("server", None)
        self._contexts: dict[str | None, ssl.SSLContext] = {}
        self._jwt_key = ec.generate_private_key(ec.SECP256R1())
        self._tokens: dict[str, str] = {}

    def files(self, name: str, uri: str | None) -> tuple[Path, Path]:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._sign(x509.Name([]), key, x509.BasicConstraints(ca=False, path_length=None), uri)
        paths = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        paths[1].write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return paths

    def _sign(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, constraints: x509.BasicConstraints, uri: str | None
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        name = x509.UniformResourceIdentifier(uri) if uri else x509.DNSName("server")
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(hours=1))
            .add_extension(constraints, critical=True)
            .add_extension(x509.SubjectAlternativeName([name]), critical=not subject)
            .sign(self._key, hashes.SHA256())
        )

    def context(self, peer: str | None) -> ssl.SSLContext:
        """TLS of a client that is `peer`, or that has no certificate."""
        if peer not in self._contexts:
            made = ssl.create_default_context(cafile=str(self._root_file))
            made.check_hostname = False
            if peer is not None:
                certificate, key = self.files(f"peer-{len(self._contexts)}", peer)
                made.load_cert_chain(certificate, key)
            self._contexts[peer] = made
        return self._contexts[peer]

    def transport_socket(self) -> Doc:
        certificate, key = self.server
        return {
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": f"{_TYPE}transport_sockets.tls.v3.DownstreamTlsContext",
                "common_tls_context": {
                    "tls_certificates": [
                        {"certificate_chain": {"filename": str(certificate)}, "private_key": {"filename": str(key)}}
                    ],
                    "validation_context": {"trusted_ca": {"filename": str(self._root_file)}},
                },
            },
        }

    @cached_property
    def jwks(self) -> str:
        numbers = self._jwt_key.public_key().public_numbers()
        x, y = (_b64(number.to_bytes(32, "big")) for number in (numbers.x, numbers.y))
        return json.dumps({"keys": [{"kty": "EC", "crv": "P-256", "alg": "ES256", "x": x, "y": y}]})

    def token(self, payload: Doc) -> str:
        body = json.dumps(payload)
        if body not in self._tokens:
            signed = _unsigned(body)
            r, s = decode_dss_signature(self._jwt_key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
            self._tokens[body] = f"{signed}.{_b64(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"
        return self._tokens[body]


def _unsigned(body: str) -> str:
    head = _b64(json.dumps({"alg": "ES256"}).encode())
    return f"{head}.{_b64(body.encode())}"


# --- what is asked


@dataclass(frozen=True)
class Connection:
    """How somebody comes: `tls` with or without a certificate, or in plaintext."""

    tls: bool
    peer: str | None
    sni: str
    source_ip: str
    remote_ip: str
    destination_ip: str
    port: int

    def open(self, port: int, authority: Authority) -> socket.socket:
        made = socket.create_connection(("127.0.0.1", port), TIMEOUT, (self.source_ip, 0))
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        version = "TCP4" if ip_address(self.remote_ip).version == 4 else "TCP6"
        made.sendall(f"PROXY {version} {self.remote_ip} {self.destination_ip} 4000 {self.port}\r\n".encode())
        if not self.tls:
            return made
        return authority.context(self.peer).wrap_socket(made, server_hostname=self.sni or None)

    def request(self, http: HttpRequest | None, metadata: Doc) -> Request:
        return Request(
            self.port,
            None if self.peer is None else SpiffeId.parse(self.peer),
            ip_address(self.source_ip),
            ip_address(self.remote_ip),
            ip_address(self.destination_ip),
            self.sni,
            http,
            metadata,
        )


@dataclass(frozen=True)
class Case:
    """Policies for a workload, and what is asked of them: HTTP requests, or with `http` False connections."""

    name: str
    documents: list[Doc]
    mesh: Doc
    asked: list[tuple[Connection, list[Doc]]]
    http: bool = True
    metadata: Doc = field(default_factory=dict)
    workload: Doc = field(
        default_factory=lambda: {"namespace": "a", "labels": {}, "kind": "workload", "gateway": "", "services": []}
    )

    def policies(self, jwks: str) -> PolicySet:
        facts = cases.to_facts(self.mesh)
        documents = [*self.documents, *([_request_authentication(jwks)] if self.http else [])]
        return compile(load_text(cases.to_text(documents)), facts)


ISSUERS = ("a", "b", "a/b", "ab", "*")


def _request_authentication(jwks: str) -> Doc:
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": "RequestAuthentication",
        "metadata": {"name": "users", "namespace": "a"},
        "spec": {"jwtRules": [{"issuer": issuer, "jwks": jwks} for issuer in ISSUERS]},
    }


@dataclass(frozen=True)
class Difference:
    case: Case
    connection: Connection
    http: Doc | None
    engine: str
    envoy: str

    def to_json(self) -> str:
        """All that it takes to ask again."""
        return json.dumps(
            {
                "documents": self.case.documents,
                "mesh": self.case.mesh,
                "metadata": self.case.metadata,
                "connection": self.connection.__dict__,
                "http": self.http,
                "engine": self.engine,
                "envoy": self.envoy,
            },
            indent=2,
        )

    @staticmethod
    def case_of(text: str) -> Case:
        """The case that `to_json` wrote down."""
        found = json.loads(text)
        http = found["http"]
        asked = [(Connection(**found["connection"]), [] if http is None else [http])]
        return Case("replayed", found["documents"], found["mesh"], asked, http is not None, found["metadata"])


# --- the Envoy


@dataclass(frozen=True)
class Answered:
    """What came back: `details` say why Envoy itself answered, for what was not let through."""

    status: int
    headers: dict[str, str]
    details: str

    @property
    def last(self) -> bool:
        return self.headers.get("connection") == "close"

    def dry_run(self, action: str) -> str | None:
        """The policy in dry run that matched, of what was let through."""
        found = self.headers.get(f"x-dry-run-{action}", "-")
        return None if found == "-" else found


class Enforcer:
    """One Envoy for many cases, and for each normalisation a listener without policies."""

    def __init__(
        self, folder: Path, all_cases: Sequence[Case], clusters: Sequence[Doc] = (), authority: Authority | None = None
    ) -> None:
        self.authority = authority or Authority(folder)
        self.sets = {case.name: case.policies(self.authority.jwks) for case in all_cases}
        listeners = [self._listener(f"control-{mode}", self._http(manager, [])) for mode, manager in MANAGER.items()]
        for case in all_cases:
            filters: Any = compile_filters(self.sets[case.name], cases.to_workload(case.workload)).to_dict()
            chain = (
                self._http(
                    MANAGER[case.mesh["normalization"]], [*_set_metadata(case.metadata), *filters["http_filters"]]
                )
                if case.http
                else [*filters["network_filters"], _ECHO]
            )
            listeners.append(self._listener(case.name, chain))
        self.envoy = Envoy(folder, "rbac", {"static_resources": {"listeners": listeners, "clusters": list(clusters)}})
        self.ports: dict[str, int] = {}

    def start(self) -> None:
        self.envoy.start()
        wait_for("Envoy", self.envoy.ready, 60)
        found = json.loads(self.envoy._get("/listeners?format=json"))["listener_statuses"]
        self.ports = {one["name"]: one["local_address"]["socket_address"]["port_value"] for one in found}

    def end(self) -> None:
        self.envoy.end()

    def _http(self, manager: Doc, filters: list[Doc]) -> list[Doc]:
        shadow = "%DYNAMIC_METADATA(envoy.filters.http.rbac:citadel_dry_run_{}_shadow_effective_policy_id)%"
        shown = [
            {"header": {"key": f"x-dry-run-{action}", "value": shadow.format(action)}} for action in ("allow", "deny")
        ]
        answer = {"match": {"prefix": ""}, "direct_response": {"status": 200}, "response_headers_to_add": shown}
        config = {
            "@type": f"{_TYPE}filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "in",
            "codec_type": "HTTP1",
            "use_remote_address": True,
            "local_reply_config": {"body_format": {"text_format": "%RESPONSE_CODE_DETAILS%"}},
            "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [answer]}]},
            "http_filters": [
                *filters,
                {"name": "router", "typed_config": {"@type": f"{_TYPE}filters.http.router.v3.Router"}},
            ],
            **manager,
        }
        return [{"name": "http", "typed_config": config}]

    def _listener(self, name: str, filters: list[Doc]) -> Doc:
        return {
            "name": name,
            "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
            "listener_filters": [
                {
                    "name": "envoy.filters.listener.proxy_protocol",
                    "typed_config": {"@type": f"{_TYPE}filters.listener.proxy_protocol.v3.ProxyProtocol"},
                },
                {
                    "name": "envoy.filters.listener.tls_inspector",
                    "typed_config": {"@type": f"{_TYPE}filters.listener.tls_inspector.v3.TlsInspector"},
                },
            ],
            "filter_chains": [
                {
                    "filter_chain_match": {"transport_protocol": "tls"},
                    "filters": filters,
                    "transport_socket": self.authority.transport_socket(),
                },
                {"filter_chain_match": {"transport_protocol": "raw_buffer"}, "filters": filters},
            ],
        }

    # --- asking

    def http_status(self, name: str, connection: Connection, asked: Sequence[Doc]) -> Iterator[int]:
        return (answer.status for answer in self.http_answers(name, connection, asked))

    def http_answers(self, name: str, connection: Connection, asked: Sequence[Doc]) -> Iterator[Answered]:
        """The answer to each request; over one connection as long as it holds."""
        opened: socket.socket | None = None
        for http in asked:
            wire = self._wire(http)
            for attempt in (1, 2):
                if opened is None:
                    opened = connection.open(self.ports[name], self.authority)
                try:
                    opened.sendall(wire)
                    answer = read_answer(opened)
                except (ConnectionError, ssl.SSLError):
                    opened.close()
                    opened = None
                    assert attempt == 1, f"{name}: no answer to {wire!r}"
                    continue
                if answer.last:
                    opened.close()
                    opened = None
                break
            yield answer
        if opened is not None:
            opened.close()

    def _wire(self, http: Doc) -> bytes:
        lines = [f"{http['method']} {http['path']} HTTP/1.1", f"host: {http['authority']}", "content-length: 0"]
        lines += [f"{name}: {value}" for name, values in http["headers"].items() for value in values]
        if http["jwt"] is not None:
            lines.append(f"authorization: Bearer {self.authority.token(http['jwt'])}")
        return "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape")

    def tcp_echoed(self, name: str, connection: Connection) -> bool:
        opened = connection.open(self.ports[name], self.authority)
        try:
            opened.sendall(b"no TLS record: the inspector wants more than a byte to say so")
            return opened.recv(1) == b"n"
        except (ConnectionError, ssl.SSLError):
            return False
        finally:
            with suppress(OSError):
                opened.close()


_ECHO = {"name": "echo", "typed_config": {"@type": f"{_TYPE}filters.network.echo.v3.Echo"}}


def _set_metadata(metadata: Doc) -> list[Doc]:
    if not metadata:
        return []
    entries = [{"metadata_namespace": name, "value": value} for name, value in metadata.items()]
    config = {"@type": f"{_TYPE}filters.http.set_metadata.v3.Config", "metadata": entries}
    return [{"name": "metadata", "typed_config": config}]


def read_answer(opened: socket.socket) -> Answered:
    found = b""
    while b"\r\n\r\n" not in found:
        received = opened.recv(65536)
        if not received:
            raise ConnectionResetError
        found += received
    head, _, body = found.partition(b"\r\n\r\n")
    lines = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
    left = int(lines.get(b"content-length", b"0")) - len(body)
    while left > 0 and (received := opened.recv(left)):
        body += received
        left -= len(received)
    headers = {name.decode(): value.decode("latin-1") for name, value in lines.items()}
    return Answered(int(head.split()[1]), headers, body.decode("latin-1"))

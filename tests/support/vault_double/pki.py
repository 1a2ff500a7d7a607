"""The double's PKI engine: issuers, roles, and what they sign."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.support.vault_double.answers import PEM, Refused, duration, pem, role_facts
from tests.support.vault_double.certificates import ca_certificate

_BOTH_ENDS = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]


@dataclass
class Issuer:
    certificate: x509.Certificate
    key: Any
    chain: list[x509.Certificate]
    name: str = ""
    usage: str = "crl-signing,issuing-certificates,ocsp-signing,read-only"
    revoked: bool = False
    key_id: str = field(default_factory=lambda: str(uuid.uuid4()))


class PkiMounts:
    """All mounts of the engine. `leases` are the longest of each mount, `issuers` those of each mount by their ids."""

    def __init__(self, leases: dict[str, timedelta]) -> None:
        self.issuers: dict[str, dict[str, Issuer]] = {}
        self._leases = leases
        self._roles: dict[str, dict[str, Any]] = {}
        self._defaults: dict[str, str] = {}  # of each mount; the first issuer, unless it was told
        self._waiting_keys: dict[str, list[Any]] = {}  # of intermediates that are not signed yet

    def answer(self, method: str, mount: str, rest: list[str], body: dict[str, Any]) -> dict[str, Any] | None:
        issuers = self.issuers.setdefault(mount, {})
        match method, rest:
            case _, ["root", "generate", "internal"]:
                return self._new_root(mount, body)
            case _, ["root", "generate", "existing"]:
                known = next(one for one in issuers.values() if one.key_id == body["key_ref"])
                return self._new_root(mount, body, known)
            case "GET", ["config", "issuers"]:
                return {"default": self._default(mount)}
            case _, ["config", "issuers"]:
                self._defaults[mount] = body["default"]
                return {"default": body["default"]}
            case "LIST", ["issuers"]:
                if not issuers:
                    raise Refused(404)
                info = {
                    one: {"issuer_name": issuer.name, "is_default": one == self._default(mount)}
                    for one, issuer in issuers.items()
                }
                return {"keys": list(issuers), "key_info": info}
            case "GET", ["issuer", reference, "json"]:
                issuer = self._issuer(mount, reference)
                chain = [pem(issuer.certificate), *map(pem, issuer.chain)]
                return {"certificate": pem(issuer.certificate), "ca_chain": chain, "issuer_id": self._id(mount, issuer)}
            case "GET", ["issuer", reference]:
                return self._facts(mount, self._issuer(mount, reference))
            case "PATCH", ["issuer", reference]:
                issuer = self._issuer(mount, reference)
                issuer.usage = ",".join(body["usage"]) if isinstance(body["usage"], list) else body["usage"]
                return self._facts(mount, issuer)
            case _, ["issuer", reference, "revoke"]:
                issuer = self._issuer(mount, reference)
                issuer.revoked = True
                issuer.usage = "crl-signing,ocsp-signing,read-only"
                return self._facts(mount, issuer)
            case _, ["intermediate", "generate", "internal"]:
                return self._new_intermediate(mount, body)
            case _, ["intermediate", "set-signed"]:
                return self._set_signed(mount, body)
            case "GET", ["roles", name]:
                if (role := self._roles.get(f"{mount}/{name}")) is None:
                    raise Refused(404)
                return role_facts(role)
            case "DELETE", ["roles", name]:
                self._roles.pop(f"{mount}/{name}", None)
                return None
            case _, ["roles", name]:
                self._roles[f"{mount}/{name}"] = dict(body)
                return role_facts(body)
            case _, ["issuer", reference, "sign", name]:
                return self.sign_leaf(mount, self._issuer(mount, reference), name, body)
            case "DELETE", ["issuer", reference]:
                issuers.pop(next(one for one, i in issuers.items() if reference in (one, i.name)))
                return None
            case _, ["issuer", reference, "sign-intermediate"]:
                return self._sign(mount, self._issuer(mount, reference), body)
        raise Refused(404, "1 error occurred:\n\t* unsupported path\n\n")

    def _default(self, mount: str) -> str:
        return self._defaults.get(mount) or next(iter(self.issuers.get(mount, {})), "")

    def _id(self, mount: str, issuer: Issuer) -> str:
        return next(one for one, known in self.issuers[mount].items() if known is issuer)

    def _facts(self, mount: str, issuer: Issuer) -> dict[str, Any]:
        return {
            "certificate": pem(issuer.certificate),
            "ca_chain": [pem(issuer.certificate), *map(pem, issuer.chain)],
            "issuer_id": self._id(mount, issuer),
            "issuer_name": issuer.name,
            "key_id": issuer.key_id,
            "usage": issuer.usage,
            "revoked": issuer.revoked,
        }

    def _issuer(self, mount: str, reference: str) -> Issuer:
        for one, issuer in self.issuers.get(mount, {}).items():
            if reference in (one, issuer.name):
                return issuer
        raise Refused(500, f"1 error occurred:\n\t* unable to find PKI issuer for reference: {reference}\n\n")

    def _new_root(self, mount: str, body: dict[str, Any], existing: Issuer | None = None) -> dict[str, Any]:
        bits = int(body.get("key_bits") or 0)
        kind = body.get("key_type", "rsa")
        key: Any = (
            existing.key
            if existing is not None
            else ed25519.Ed25519PrivateKey.generate()
            if kind == "ed25519"
            else (
                ec.generate_private_key(ec.SECP384R1() if bits == 384 else ec.SECP256R1())
                if kind == "ec"
                else rsa.generate_private_key(65537, bits or 2048)
            )
        )
        now = datetime.now(UTC)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, body["common_name"])])
        ttl = min(duration(body.get("ttl") or "768h"), self._leases[mount])
        length = int(body.get("max_path_length", -1))
        certificate = ca_certificate(
            name, name, key.public_key(), key, now, ttl, length if length >= 0 else None, [], 30
        )
        made = str(uuid.uuid4())
        issuer = Issuer(certificate, key, [], body.get("issuer_name", ""))
        if existing is not None:
            issuer.key_id = existing.key_id
        self.issuers[mount][made] = issuer
        return {"certificate": pem(certificate), "issuer_id": made, "issuer_name": issuer.name}

    def _sign(self, mount: str, issuer: Issuer, body: dict[str, Any]) -> dict[str, Any]:
        request = x509.load_pem_x509_csr(body["csr"].encode())
        if not request.is_signature_valid:
            raise Refused(400, "request signature invalid")
        asked = duration(body["ttl"])
        ttl = min(asked, self._leases[mount])
        warnings = []
        if ttl < asked:
            warnings.append(f"TTL of {asked} is greater than the maximum of {ttl}")
        now = datetime.now(UTC)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, body["common_name"])])
        uris = [x509.UniformResourceIdentifier(one) for one in body["uri_sans"].split(",")]
        own = issuer.certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length
        if "issuing-certificates" not in issuer.usage:
            raise Refused(
                500,
                "1 error occurred:\n\t* error fetching CA certificate: requested usage issuing-certificates for issuer "
                f"[{self._id(mount, issuer)}/{issuer.name}] but only had usage {issuer.usage}\n\n",
            )
        if own == 0:
            raise Refused(
                400, "signing certificate has a max path length of zero, and cannot issue further CA certificates"
            )
        made = ca_certificate(
            name,
            issuer.certificate.subject,
            request.public_key(),
            issuer.key,
            now,
            ttl,
            int(body["max_path_length"]),
            uris,
            int(duration(body["not_before_duration"]).total_seconds()),
            issuer.certificate,
        )
        chain = [pem(issuer.certificate), *map(pem, issuer.chain)]
        answer = {"certificate": pem(made), "issuing_ca": chain[0], "ca_chain": chain}
        return {"data": answer, "warnings": warnings or None, "auth": None}

    def _new_intermediate(self, mount: str, body: dict[str, Any]) -> dict[str, Any]:
        key = ec.generate_private_key(ec.SECP256R1())
        self._waiting_keys.setdefault(mount, []).append(key)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, body["common_name"])])
        request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
        return {"csr": request.public_bytes(PEM).decode(), "key_id": str(uuid.uuid4())}

    def _set_signed(self, mount: str, body: dict[str, Any]) -> dict[str, Any]:
        own, *above = x509.load_pem_x509_certificates(body["certificate"].encode())
        made = []
        for key in self._waiting_keys.get(mount, []):
            if key.public_key() == own.public_key():
                made.append(str(uuid.uuid4()))
                self.issuers.setdefault(mount, {})[made[-1]] = Issuer(own, key, above)
        for one in above:  # what is above comes along, without its key
            if all(known.certificate != one for known in self.issuers[mount].values()):
                made.append(str(uuid.uuid4()))
                self.issuers[mount][made[-1]] = Issuer(one, None, [])
        return {"imported_issuers": made, "imported_keys": None, "existing_issuers": None, "mapping": {}}

    def sign_leaf(self, mount: str, issuer: Issuer, name: str, body: dict[str, Any]) -> dict[str, Any]:
        role = self._roles.get(f"{mount}/{name}")
        if role is None:
            raise Refused(400, f"unknown role: {name}")
        request = x509.load_pem_x509_csr(body["csr"].encode())
        key = request.public_key()
        if role["key_type"] not in ("any", "ec" if isinstance(key, ec.EllipticCurvePublicKey) else "rsa"):
            raise Refused(400, f"role requires keys of type {role['key_type']}")
        uri = body["uri_sans"]
        if not any(re.fullmatch(re.escape(one).replace(r"\*", ".*"), uri) for one in role["allowed_uri_sans"]):
            raise Refused(
                400, "URI Subject Alternative Names were provided via the API which are not valid for this role"
            )
        names = [one for one in body.get("alt_names", "").split(",") if one]
        if names and not role.get("allow_any_name"):
            raise Refused(400, f"subject alternate name {names[0]} not allowed by this role")
        now = datetime.now(UTC)
        ttl = min(duration(body["ttl"]), duration(role["max_ttl"]))
        if now + ttl > issuer.certificate.not_valid_after_utc:
            raise Refused(400, "cannot satisfy request, as TTL would result in notAfter that is beyond the CA's")
        above = issuer.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        made = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(issuer.certificate.subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - duration(role["not_before_duration"]))
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
        return {"certificate": pem(made), "issuing_ca": pem(issuer.certificate), "ca_chain": []}

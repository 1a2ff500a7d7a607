"""What the SDS names stand for, as Envoy's Secret messages; each content is encoded once and shared by all streams."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import lru_cache

from envoy.extensions.transport_sockets.tls.v3 import secret_pb2, tls_spiffe_validator_config_pb2
from google.protobuf.any_pb2 import Any

from citadel.errors import BadSpiffeId
from citadel.sds.ports import HeldBundle, HeldIdentity, View
from citadel.sds.stream import SECRET_TYPE, Catalog, Resource
from citadel.spiffe import SCHEME, SpiffeId

_CACHE = 8192
_SPIFFE_VALIDATOR = "envoy.tls.cert_validator.spiffe"
_VALIDATOR_TYPE = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig"


class Renderer:
    """Makes resources from what a caller holds. Share one among all streams.

    `default` is the caller's default identity; a SPIFFE ID with a path is that identity; `ROOTCA` our own bundle;
    `spiffe://<trust domain>` that domain's; `ALL` all bundles of the caller, for Envoy's SPIFFE validator.
    """

    def __init__(self) -> None:
        self._identity: Callable[[str, HeldIdentity], Resource] = lru_cache(_CACHE)(_identity)
        self._bundle: Callable[[str, HeldBundle], Resource] = lru_cache(_CACHE)(_bundle)
        self._all: Callable[[tuple[HeldBundle, ...]], Resource] = lru_cache(_CACHE)(_all_bundles)

    def catalog(self, view: View) -> Catalog:
        """What each name is for somebody who holds `view`."""
        return lambda name: self.find(view, name)

    def find(self, view: View, name: str) -> Resource | None:
        """The resource, or None if there is none by that name (now)."""
        match name:
            case "default":
                return self._identity(name, view.default) if view.default is not None else None
            case "ROOTCA":
                own = view.bundles.get(view.trust_domain)
                return self._bundle(name, own) if own is not None and own.roots else None
            case "ALL":
                bundles = tuple(b for _, b in sorted(view.bundles.items()) if b.roots)
                return self._all(bundles) if bundles else None
            case _ if name.startswith(SCHEME):
                return self._by_id(view, name)
            case _:
                return None

    def _by_id(self, view: View, name: str) -> Resource | None:
        try:
            wanted = SpiffeId.parse(name)
        except BadSpiffeId:  # one bad name never fails the others
            return None
        if not wanted.path:
            bundle = view.bundles.get(wanted.trust_domain)
            return self._bundle(name, bundle) if bundle is not None and bundle.roots else None
        return next((self._identity(name, held) for held in view.identities if held.spiffe_id == wanted), None)


def pem(label: str, ders: Iterable[bytes]) -> bytes:
    """PEM blocks, 64 characters a line (RFC 7468)."""
    out = []
    for der in ders:
        text = base64.b64encode(der).decode()
        lines = [text[i : i + 64] for i in range(0, len(text), 64)]
        out.append("\n".join([f"-----BEGIN {label}-----", *lines, f"-----END {label}-----", ""]))
    return "".join(out).encode()


def _identity(name: str, held: HeldIdentity) -> Resource:
    secret = secret_pb2.Secret(name=name)
    secret.tls_certificate.certificate_chain.inline_bytes = pem("CERTIFICATE", held.chain)
    secret.tls_certificate.private_key.inline_bytes = pem("PRIVATE KEY", [held.private_key])
    return replace(
        resource(name, secret),
        spiffe_id=held.spiffe_id.uri,
        serial=f"{held.serial:032x}",
        authority=held.authority,
        not_after=held.not_after,
    )


def _bundle(name: str, bundle: HeldBundle) -> Resource:
    secret = secret_pb2.Secret(name=name)
    secret.validation_context.trusted_ca.inline_bytes = pem("CERTIFICATE", bundle.roots)
    if bundle.crls:
        secret.validation_context.crl.inline_bytes = b"".join(bundle.crls)
    return replace(resource(name, secret), sequence=bundle.sequence)


def _all_bundles(bundles: tuple[HeldBundle, ...]) -> Resource:
    """For Envoy's SPIFFE validator: it keeps each domain's roots to that domain, which a common pool would not."""
    config = tls_spiffe_validator_config_pb2.SPIFFECertValidatorConfig()
    for bundle in bundles:
        domain = config.trust_domains.add(name=bundle.trust_domain.name)
        domain.trust_bundle.inline_bytes = pem("CERTIFICATE", bundle.roots)
    secret = secret_pb2.Secret(name="ALL")
    validator = secret.validation_context.custom_validator_config
    validator.name = _SPIFFE_VALIDATOR
    validator.typed_config.CopyFrom(Any(type_url=_VALIDATOR_TYPE, value=config.SerializeToString(deterministic=True)))
    return replace(resource("ALL", secret), sequence=max(bundle.sequence for bundle in bundles))


def resource(name: str, secret: secret_pb2.Secret) -> Resource:
    """`secret`, ready to be sent."""
    body = Any(type_url=SECRET_TYPE, value=secret.SerializeToString(deterministic=True)).SerializeToString()
    return Resource(name, hashlib.sha256(body).hexdigest()[:16], body)

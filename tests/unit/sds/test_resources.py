"""What the SDS names stand for, to whom, and in what form."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from envoy.extensions.transport_sockets.tls.v3 import secret_pb2, tls_spiffe_validator_config_pb2
from google.protobuf.any_pb2 import Any

from citadel.held import HeldBundle, HeldIdentity, View
from citadel.sds.resources import Renderer
from citadel.sds.stream import SECRET_TYPE, Resource
from citadel.spiffe import SpiffeId, TrustDomain

OURS, OTHER = TrustDomain.parse("example.org"), TrustDomain.parse("other.org")
LATER = datetime(2030, 1, 1, tzinfo=UTC)


def identity(path: str, serial: int = 1) -> HeldIdentity:
    name = SpiffeId.parse(f"spiffe://example.org/{path}")
    return HeldIdentity(
        name, (b"leaf of " + path.encode(), b"issuing"), b"key of " + path.encode(), serial, LATER, "aa"
    )


def bundle(domain: TrustDomain, *roots: bytes, crls: tuple[bytes, ...] = ()) -> HeldBundle:
    return HeldBundle(domain, roots, sequence=7, crls=crls)


def view(*identities: HeldIdentity, pending: bool = False, bundles: tuple[HeldBundle, ...] = ()) -> View:
    return View(OURS, identities, {b.trust_domain: b for b in bundles}, default_pending=pending)


def secret(resource: Resource | None) -> secret_pb2.Secret:
    assert resource is not None
    packed = Any.FromString(resource.body)
    assert packed.type_url == SECRET_TYPE
    found = secret_pb2.Secret.FromString(packed.value)
    assert found.name == resource.name, "Envoy silently ignores another name than the one it asked for"
    return found


FULL = view(identity("web"), identity("db"), bundles=(bundle(OURS, b"r1", b"r2", crls=(b"crl",)), bundle(OTHER, b"o1")))


def test_default_is_the_first_identity_and_an_id_is_that_identity() -> None:
    renderer = Renderer()
    first = secret(renderer.find(FULL, "default"))
    assert b"BEGIN CERTIFICATE" in first.tls_certificate.certificate_chain.inline_bytes
    assert first.tls_certificate == secret(renderer.find(FULL, "spiffe://example.org/web")).tls_certificate
    other = secret(renderer.find(FULL, "spiffe://example.org/db"))
    assert other.tls_certificate.private_key != first.tls_certificate.private_key


def test_another_identity_never_stands_in_for_a_default_that_is_not_there_yet() -> None:
    renderer = Renderer()
    waiting = view(identity("db"), pending=True)
    assert renderer.find(waiting, "default") is None
    assert renderer.find(waiting, "spiffe://example.org/db") is not None


@pytest.mark.parametrize(("name", "roots"), [("ROOTCA", 2), ("spiffe://example.org", 2), ("spiffe://other.org", 1)])
def test_a_validation_context_holds_the_roots_of_one_domain(name: str, roots: int) -> None:
    context = secret(Renderer().find(FULL, name)).validation_context
    assert context.trusted_ca.inline_bytes.count(b"BEGIN CERTIFICATE") == roots
    assert context.crl.inline_bytes == (b"crl" if roots == 2 else b"")


def test_all_keeps_each_domains_roots_to_that_domain() -> None:
    context = secret(Renderer().find(FULL, "ALL")).validation_context
    assert not context.HasField("trusted_ca")
    assert context.custom_validator_config.name == "envoy.tls.cert_validator.spiffe"
    config = tls_spiffe_validator_config_pb2.SPIFFECertValidatorConfig.FromString(
        context.custom_validator_config.typed_config.value
    )
    assert {one.name: one.trust_bundle.inline_bytes.count(b"BEGIN CERTIFICATE") for one in config.trust_domains} == {
        "example.org": 2,
        "other.org": 1,
    }


@pytest.mark.parametrize(
    "name",
    [
        "", "unknown", "Default", "rootca", "spiffe://", "spiffe://example.org/", "spiffe://example.org/none",
        "spiffe://unknown.org", "spiffe://EXAMPLE.org/web", "spiffe://example.org/web,spiffe://x/y", "kubernetes://x",
        "file-cert:/etc/c~/etc/k", "file-root:/etc/passwd", "x" * 3000, "\n",
    ],
)  # fmt: skip
def test_what_is_no_name_of_ours_is_nothing_and_no_error(name: str) -> None:
    assert Renderer().find(FULL, name) is None


@pytest.mark.parametrize("name", ["ROOTCA", "ALL", "spiffe://example.org"])
def test_an_empty_bundle_is_never_served(name: str) -> None:
    assert Renderer().find(view(identity("web"), bundles=(bundle(OURS),)), name) is None


@pytest.mark.parametrize("name", ["default", "ROOTCA", "ALL", "spiffe://example.org", "spiffe://example.org/web"])
def test_who_is_not_registered_has_nothing(name: str) -> None:
    assert Renderer().find(view(), name) is None


def test_versions_depend_on_content_alone_and_bytes_are_made_once() -> None:
    renderer, another = Renderer(), Renderer()
    one, two = renderer.find(FULL, "default"), another.find(FULL, "default")
    assert one == two
    assert renderer.find(view(identity("web")), "default") is one
    changed = renderer.find(view(identity("web", serial=2)), "default")
    assert one is not None
    assert changed is not None
    assert (changed.version == one.version, changed.serial == one.serial) == (True, False)
    assert renderer.find(view(identity("api")), "default") != one

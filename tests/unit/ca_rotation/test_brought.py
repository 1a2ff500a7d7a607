"""Roots from outside: everything that can be wrong with what is brought is named, and nothing is changed by it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from citadel.ca.certificates import describe, skid_of
from citadel.ca.model import Authority, AuthorityKind, AuthorityState, KeySource
from citadel.ca.roots.brought import HandedIn, Signed, handed_in, signed
from citadel.errors import InvalidInput
from citadel.spiffe import TrustDomain
from tests.support.cacerts import DAY, Ca, make_ca, private_pem, resigned_with_sha1

TD = TrustDomain.parse("example.org")
NOW = datetime.now(UTC).replace(microsecond=0)
SIGNS_NOTHING = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
NOT_OURS = "spiffe://other.org"


def known(ca: Ca, kind: AuthorityKind = AuthorityKind.ROOT, state: AuthorityState = AuthorityState.ACTIVE) -> Authority:
    skid = skid_of(ca.certificate)
    return Authority(skid, kind, state, TD, KeySource.NONE, (describe(ca.certificate),), skid, NOW, NOW)


def bring(ca: Ca, *others: Authority, key: bytes | None = None, more: bytes = b"") -> HandedIn:
    return handed_in(ca.pem + more, ca.key_pem if key is None else key, others, TD, NOW)


def sign(*line: Ca, wanted: Any = None, others: tuple[Authority, ...] = ()) -> Signed:
    public = wanted if wanted is not None else line[0].key.public_key()
    return signed(b"".join(one.pem for one in line), public, others, TD, NOW)


def line(root: Ca, **options: Any) -> tuple[Ca, Ca]:
    usual: dict[str, Any] = {"path_length": 0, "ends": 30 * DAY}
    return make_ca("ca", root, **(usual | options)), root


def test_a_sound_root_is_taken() -> None:
    root = make_ca("mine", path_length=1)
    found = bring(root, known(make_ca("another")))
    assert (found.skid, found.certificate.subject) == (skid_of(root.certificate), "CN=mine")
    assert "PRIVATE" not in repr(found)
    assert "key=" not in repr(found)


OLD = make_ca("old")
OLD_RSA = make_ca("rsa", key=rsa.generate_private_key(65537, 2048))
ODD_CURVE = ec.generate_private_key(ec.SECP256K1())
EDWARDS = ed25519.Ed25519PrivateKey.generate()
RSA_1024 = rsa.generate_private_key(65537, 1024)
BAD_ROOTS: list[tuple[str, Callable[[], Any], str]] = [
    ("expired", lambda: bring(make_ca("r", begins=-9 * DAY, ends=-DAY)), "it expired at"),
    ("not yet valid", lambda: bring(make_ca("r", begins=DAY)), "it is not valid before"),
    ("a wrong key", lambda: bring(make_ca("r"), key=make_ca("x").key_pem), "the key is not its key"),
    ("no key", lambda: bring(make_ca("r"), key=b"nonsense"), "private key in PEM"),
    ("an encrypted key", lambda: bring(OLD, key=private_pem(OLD.key, b"secret")), "it is encrypted"),
    ("a certificate for a key", lambda: bring(OLD, key=OLD.pem), "only the private key belongs here"),
    ("a key for a certificate", lambda: handed_in(OLD.key_pem, OLD.key_pem, (), TD, NOW), "only certificates belong"),
    ("two of them", lambda: bring(OLD, more=make_ca("b").pem), "holds 2 certificates"),
    ("nothing", lambda: handed_in(b"", OLD.key_pem, (), TD, NOW), "holds 0 certificates"),
    ("its key in use", lambda: bring(OLD, known(OLD)), "its key is that of the root authority"),
    (
        "the key of an issuing CA",
        lambda: bring(OLD, known(OLD, AuthorityKind.ISSUING, AuthorityState.REMOVED)),
        "its key is that of the issuing authority",
    ),
    (
        "its name in use, and nothing to tell them apart",
        lambda: bring(make_ca("old", identifiers=False), known(OLD)),
        "its name is that of",
    ),
    ("no room below it", lambda: bring(make_ca("r", path_length=0)), "allows fewer than the 1 CAs under it"),
    ("no CA", lambda: bring(make_ca("r", ca=False)), "CA:FALSE"),
    ("no basic constraints", lambda: bring(make_ca("r", ca=None)), "no basic constraints"),
    ("a usage that signs nothing", lambda: bring(make_ca("r", usage=SIGNS_NOTHING)), "keyCertSign"),
    ("a weak RSA key", lambda: bring(make_ca("r", key=RSA_1024)), "is RSA with 1024 bits"),
    ("a curve that is not taken", lambda: bring(make_ca("r", key=ODD_CURVE)), "secp256k1"),
    ("an Ed25519 key", lambda: bring(make_ca("r", key=EDWARDS)), "neither an EC nor an RSA"),
    ("SHA-1", lambda: bring(resigned_with_sha1(OLD_RSA, OLD_RSA)), "signed itself with sha1"),
    ("another trust domain", lambda: bring(make_ca("r", uri=NOT_OURS)), "not our trust domain"),
    ("no root", lambda: bring(make_ca("ca", OLD)), "it did not sign itself"),
]  # fmt: skip


@pytest.mark.parametrize(("bring_it", "why"), [(b, w) for _, b, w in BAD_ROOTS], ids=[name for name, _, _ in BAD_ROOTS])
def test_a_root_that_cannot_be_used_is_refused_and_told_why(bring_it: Callable[[], Any], why: str) -> None:
    with pytest.raises(InvalidInput, match=why):
        bring_it()


def test_everything_that_is_wrong_is_told_at_once() -> None:
    with pytest.raises(InvalidInput) as refused:
        bring(make_ca("r", ca=False, uri=NOT_OURS, ends=-DAY, begins=-9 * DAY), known(OLD), key=OLD.key_pem)
    for part in ("CA:FALSE", "not our trust domain", "it expired", "not its key"):
        assert part in refused.value.message


def test_the_same_name_with_identifiers_is_another_root() -> None:
    assert bring(make_ca("old"), known(OLD)).certificate.subject == "CN=old"


def test_what_an_offline_root_signed_is_taken_with_its_chain_in_any_order() -> None:
    root = make_ca("offline")
    between = make_ca("between", root, path_length=1)
    ca = make_ca("ca", between, path_length=0, ends=30 * DAY)
    found = sign(root, ca, between, wanted=ca.key.public_key())
    assert (found.skid, found.chain) == (skid_of(ca.certificate), (between.der,))
    assert (found.root_skid, found.root.der) == (skid_of(root.certificate), root.der)
    assert sign(ca, between, root, others=(known(root),)) == found  # the root that signs now: a renewal


def renamed(ca: Ca) -> Authority:
    """The root `ca` as it is known, with another certificate of its key."""
    return replace(known(ca), certificates=known(make_ca("offline", key=ca.key)).certificates)


ROOT = make_ca("offline")
NAMESAKE = make_ca("offline", ROOT, path_length=0, ends=30 * DAY)
TAKEN = known(ROOT, AuthorityKind.ISSUING)
TWO_KEYS = replace(make_ca("o", make_ca("o")), issuer=None)
BAD_LINES: list[tuple[str, Callable[[], Any], str]] = [
    ("for another key", lambda: sign(*line(ROOT), wanted=OLD.key.public_key()), "0 of the 2 certificates"),
    ("twice", lambda: sign((a := line(ROOT))[0], make_ca("ca", ROOT, key=a[0].key), ROOT), "2 of the 3 certificates"),
    ("without its root", lambda: sign(line(ROOT)[0]), "there is no root among the certificates"),
    ("with another root", lambda: sign(line(ROOT)[0], make_ca("offline")), "no chain of signatures leads"),
    ("without what is between", lambda: sign(line(make_ca("between", ROOT))[0], ROOT), "no chain of signatures leads"),
    ("expired", lambda: sign(*line(ROOT, begins=-9 * DAY, ends=-DAY)), "it expired at"),
    ("not yet valid", lambda: sign(*line(ROOT, begins=DAY)), "it is not valid before"),
    ("longer than its root", lambda: sign(*line(ROOT, ends=9999 * DAY)), "it outlives CN=offline"),
    ("under an expired root", lambda: sign(*line(make_ca("o", begins=-9 * DAY, ends=-DAY))), "it expired at"),
    ("no CA", lambda: sign(*line(ROOT, ca=False, path_length=None)), "CA:FALSE"),
    ("a usage that signs nothing", lambda: sign(*line(ROOT, usage=SIGNS_NOTHING)), "keyCertSign"),
    ("under a root without room", lambda: sign(*line(make_ca("o", path_length=0))), "allows fewer than the 1 CAs"),
    ("another trust domain", lambda: sign(*line(ROOT, uri=NOT_OURS)), "not our trust domain"),
    ("SHA-1", lambda: sign(resigned_with_sha1(line(OLD_RSA)[0], OLD_RSA), OLD_RSA), "signed with sha1"),
    ("under a root with SHA-1", lambda: sign(*line(resigned_with_sha1(OLD_RSA, OLD_RSA))), "signed itself with sha1"),
    ("under a root of two keys", lambda: sign(*line(TWO_KEYS)), "it did not sign itself"),
    ("under a weak root", lambda: sign(*line(make_ca("o", key=RSA_1024))), "is RSA with 1024 bits"),
    ("under the key of an issuing CA", lambda: sign(*line(ROOT), others=(TAKEN,)), "that of the issuing authority"),
    ("under a root that is known otherwise", lambda: sign(*line(ROOT), others=(renamed(ROOT),)), "another certificate"),
    ("with the name of its root", lambda: sign(NAMESAKE, ROOT), "it has the name of its root"),
]  # fmt: skip


@pytest.mark.parametrize(("sign_it", "why"), [(s, w) for _, s, w in BAD_LINES], ids=[name for name, _, _ in BAD_LINES])
def test_what_was_signed_amiss_is_refused_and_told_why(sign_it: Callable[[], Any], why: str) -> None:
    with pytest.raises(InvalidInput, match=why):
        sign_it()

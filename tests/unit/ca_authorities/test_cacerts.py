"""A plugged-in CA in Istio's layout: what is taken, and every fault named with its file, all of them at once."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, ObjectIdentifier

from citadel.ca import files
from citadel.ca.roots import cacerts
from citadel.ca.roots.cacerts import Plugged, read_cacerts
from citadel.cli.exits import Exit, exit_for
from citadel.errors import BadFile, Unavailable
from citadel.spiffe import TrustDomain
from tests.support.cacerts import DAY, Ca, make_ca, make_crl, plug, private_pem, resigned_with_sha1

TD = TrustDomain("example.org")
ROOT = make_ca("root")
CA = make_ca("ca", ROOT, path_length=0)
RSA = rsa.generate_private_key(65537, 2048)
ANOTHER = ec.generate_private_key(ec.SECP256R1())


def load(folder: Path) -> Plugged:
    return read_cacerts(folder, TD, datetime.now(UTC))


def faults(folder: Path) -> dict[str, list[str]]:
    """What is said of each file."""
    with pytest.raises(BadFile) as caught:
        load(folder)
    found: dict[str, list[str]] = {}
    for mistake in caught.value.mistakes:
        assert Path(mistake.file).parent == folder
        found.setdefault(Path(mistake.file).name, []).append(mistake.message)
    assert "docs/cacerts.md" in caught.value.sentence()
    return found


# --- what is taken


def test_a_ca_under_a_root_is_taken(tmp_path: Path) -> None:
    plug(tmp_path, CA)
    plugged = load(tmp_path)
    assert (plugged.certificate.der, plugged.chain, plugged.root.der) == (CA.der, (), ROOT.der)
    assert plugged.private_key.public_key() == CA.key.public_key()
    assert not plugged.warnings


@pytest.mark.parametrize("path_length", [None, 0, 1])
def test_a_root_that_signs_leaves_itself_is_taken_as_istio_takes_it(tmp_path: Path, path_length: int | None) -> None:
    itself = make_ca("root", path_length=path_length)
    for chain in (itself.pem, b""):  # Istio's own makes it the CA's certificate; an empty one says the same
        plug(tmp_path, itself, cert_chain=chain)
        plugged = load(tmp_path)
        assert plugged.skid == plugged.root_skid
        assert (plugged.certificate.der, plugged.chain, plugged.root.der) == (itself.der, (), itself.der)
        assert "signs leaves itself" in plugged.warnings[0]


@pytest.mark.parametrize(
    "make",
    [
        lambda: rsa.generate_private_key(65537, 2048),
        lambda: rsa.generate_private_key(65537, 4096),
        lambda: ec.generate_private_key(ec.SECP384R1()),
        lambda: ec.generate_private_key(ec.SECP521R1()),
    ],
    ids=["rsa-2048", "rsa-4096", "p-384", "p-521"],
)
def test_other_keys_that_envoy_takes_are_taken(tmp_path: Path, make: Callable[[], Any]) -> None:
    plug(tmp_path, make_ca("ca", make_ca("root", key=make()), key=make()))
    load(tmp_path)


@pytest.mark.parametrize("format_", [serialization.PrivateFormat.TraditionalOpenSSL, serialization.PrivateFormat.PKCS8])
def test_a_key_in_either_format_is_taken(tmp_path: Path, format_: serialization.PrivateFormat) -> None:
    for key in (RSA, ANOTHER):
        ca = make_ca("ca", ROOT, key=key)
        written = key.private_bytes(serialization.Encoding.PEM, format_, serialization.NoEncryption())
        plug(tmp_path, ca, ca_key=written)
        load(tmp_path)


def test_the_parameters_that_openssl_writes_before_an_ec_key_do_no_harm(tmp_path: Path) -> None:
    parameters = b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
    plug(tmp_path, CA, ca_key=parameters + CA.key_pem)
    load(tmp_path)


@pytest.mark.parametrize("reverse", [False, True])
def test_intermediates_may_stand_in_any_order_with_the_root_among_them(tmp_path: Path, reverse: bool) -> None:
    upper = make_ca("upper", ROOT)
    lower = make_ca("lower", upper, path_length=1)
    ca = make_ca("ca", lower, path_length=0)
    stranger = make_ca("stranger", make_ca("elsewhere"))
    chain = [ca.pem, lower.pem, upper.pem, ROOT.pem, stranger.pem]
    plug(tmp_path, ca, cert_chain=b"".join(reversed(chain) if reverse else chain))
    assert load(tmp_path).chain == (lower.der, upper.der)


def test_windows_line_ends_text_around_blocks_and_no_last_line_end_are_read(tmp_path: Path) -> None:
    text = b"Certificate:\n    Data:\n        Version: 3 (0x2)\n"
    plug(
        tmp_path,
        CA,
        ca_cert=CA.pem.replace(b"\n", b"\r\n"),
        ca_key=CA.key_pem.replace(b"\n", b"\r\n").rstrip(),
        root_cert=text + ROOT.pem.rstrip(),
    )
    assert load(tmp_path).root.der == ROOT.der


def test_several_roots_are_kept_the_cas_own_first_and_none_twice(tmp_path: Path) -> None:
    others = [make_ca("other"), make_ca("leaves only", path_length=0)]
    plug(tmp_path, CA, roots=[*others, ROOT])
    assert [root.der for root in load(tmp_path).roots] == [ROOT.der, *(other.der for other in others)]


def test_an_expired_root_beside_its_successor_is_left_out_and_said(tmp_path: Path) -> None:
    old = make_ca("old", begins=-9 * DAY, ends=-DAY)
    plug(tmp_path, CA, roots=[old])
    plugged = load(tmp_path)
    assert [root.der for root in plugged.roots] == [ROOT.der]
    assert plugged.warnings == ("CN=old in root-cert.pem has expired and is not used",)


def test_what_ends_soon_is_said(tmp_path: Path) -> None:
    plug(tmp_path, make_ca("brief", ROOT, begins=-9 * DAY, ends=DAY))
    (warning,) = load(tmp_path).warnings
    assert warning.startswith("CN=brief expires at")


def test_the_same_content_has_the_same_version(tmp_path: Path) -> None:
    plug(tmp_path, CA)
    first = load(tmp_path).version
    plug(tmp_path, CA)
    assert load(tmp_path).version == first
    plug(tmp_path, make_ca("ca", ROOT))
    assert load(tmp_path).version != first


@pytest.mark.openssl
def test_the_commands_of_the_documentation_make_one_that_is_taken(tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl command (Debian: apt install openssl)")
    page = (Path(__file__).parents[3] / "docs" / "cacerts.md").read_text()
    commands = page.partition("```sh\n")[2].partition("```")[0]
    subprocess.run(["sh", "-ec", commands], cwd=tmp_path, check=True, capture_output=True, timeout=60)
    assert not load(tmp_path).warnings


# --- what is not


def test_an_empty_folder_is_told_all_that_is_missing_and_that_a_crl_is_not(tmp_path: Path) -> None:
    assert faults(tmp_path) == {
        name: ["there is no such file"] for name in ("ca-cert.pem", "ca-key.pem", "cert-chain.pem", "root-cert.pem")
    }


def test_a_folder_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name, says in (("nothing", "there is no such folder"), ("file", "it is not a folder")):
        with pytest.raises(BadFile) as caught:
            load(tmp_path / name)
        assert caught.value.message == f"{tmp_path / name}: {says}"


def test_all_faults_come_at_once_each_with_its_file(tmp_path: Path) -> None:
    old = make_ca("old", ends=timedelta(0), begins=-2 * DAY)
    weak = make_ca("weak", old, ca=False, key=rsa.generate_private_key(65537, 1024))
    plug(tmp_path, weak, cert_chain=b"nothing", ca_key=private_pem(ANOTHER), ca_crl=b"rubbish")
    (tmp_path / "ca-key.pem").chmod(0o644)
    found = faults(tmp_path)
    assert set(found) == {"ca-cert.pem", "ca-key.pem", "cert-chain.pem", "root-cert.pem", "ca-crl.pem"}
    assert any("CA:FALSE" in text for text in found["ca-cert.pem"])
    assert any("1024 bits" in text for text in found["ca-cert.pem"])
    assert any("chmod 600" in text for text in found["ca-key.pem"])
    assert any("expired at" in text for text in found["root-cert.pem"])


SERVERS = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
NO_SIGNING = x509.KeyUsage(True, False, False, False, False, False, True, False, False)
STRANGE = x509.UnrecognizedExtension(ObjectIdentifier("1.2.3.4"), b"\x05\x00")
CONSTRAINED = x509.NameConstraints([x509.UniformResourceIdentifier("example.org")], None)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"ca": False}, "CA:FALSE; expected CA:TRUE"),
        ({"ca": None}, "no basic constraints; expected CA:TRUE"),
        ({"usage": NO_SIGNING}, "expected keyCertSign"),
        ({"ends": timedelta(seconds=-1), "begins": -DAY}, "expired at .*; renew it"),
        ({"begins": DAY}, "not valid before .*; check the clock"),
        ({"key": rsa.generate_private_key(65537, 1024)}, "RSA with 1024 bits; expected 2048"),
        ({"key": ec.generate_private_key(ec.SECP256K1())}, "on the curve secp256k1; expected secp256r1"),
        ({"key": ec.generate_private_key(ec.SECP192R1())}, "on the curve secp192r1"),
        ({"uri": "spiffe://other.org"}, "names spiffe://other.org, not our trust domain example.org"),
        ({"uri": "spiffe://example.org/ca"}, "the SPIFFE ID of a CA has no path"),
        ({"uri": "spiffe://example.org/%41"}, "is not a SPIFFE ID"),
        ({"more": [(SERVERS, False)]}, "does not allow both TLS servers and TLS clients"),
        ({"more": [(STRANGE, True)]}, "critical extension 1.2.3.4"),
        ({"more": [(CONSTRAINED, True)]}, "has name constraints"),
    ],
)
def test_a_ca_that_could_not_sign_what_envoy_takes_is_refused(tmp_path: Path, changes: Any, says: str) -> None:
    plug(tmp_path, make_ca("ca", ROOT, **changes))
    with pytest.raises(BadFile, match=rf"ca-cert.pem: CN=ca: .*{says}"):
        load(tmp_path)
    upper = make_ca("ca", ROOT, **changes)
    plug(tmp_path, make_ca("lower", upper))
    with pytest.raises(BadFile, match=rf"cert-chain.pem: CN=ca: .*{says}"):
        load(tmp_path)
    plug(tmp_path, make_ca("lower", make_ca("ca", **changes)))
    with pytest.raises(BadFile, match=rf"root-cert.pem: CN=ca: .*{says}"):
        load(tmp_path)


def test_sha_1_and_ed25519_are_refused(tmp_path: Path) -> None:
    root = make_ca("root", key=RSA)
    signed = resigned_with_sha1(make_ca("ca", root), root)
    plug(tmp_path, signed)
    assert any("sha1" in text for text in faults(tmp_path)["ca-cert.pem"])
    edwards = ed25519.Ed25519PrivateKey.generate()
    for identifiers in (True, False):
        plug(tmp_path, make_ca("ca", ROOT, key=edwards, identifiers=identifiers))
        found = faults(tmp_path)
        assert any("Ed25519" in text or "neither EC nor RSA" in text for text in found["ca-cert.pem"])
        assert "ca-key.pem" in found
        plug(tmp_path, make_ca("ca", make_ca("root", key=edwards, identifiers=identifiers)))
        assert "root-cert.pem" in faults(tmp_path)


def test_a_roots_own_signature_may_be_of_old_since_nobody_checks_it(tmp_path: Path) -> None:
    root = make_ca("root", key=RSA)
    old = resigned_with_sha1(root, root)
    plug(tmp_path, make_ca("ca", old))
    assert load(tmp_path).root.der == old.der


def test_path_lengths_must_leave_room(tmp_path: Path) -> None:
    plug(tmp_path, make_ca("ca", make_ca("narrow", path_length=0)))
    assert "path length 0" in faults(tmp_path)["root-cert.pem"][0]
    plug(tmp_path, make_ca("ca", make_ca("upper", make_ca("root", path_length=1))))
    assert "path length 1" in faults(tmp_path)["root-cert.pem"][0]
    plug(tmp_path, make_ca("ca", make_ca("upper", ROOT, path_length=0)))
    assert "path length 0" in faults(tmp_path)["cert-chain.pem"][0]


def test_a_key_of_another_certificate_is_refused(tmp_path: Path) -> None:
    plug(tmp_path, CA, ca_key=private_pem(ANOTHER))
    assert faults(tmp_path) == {
        "ca-key.pem": ["it is not the key of ca-cert.pem; put the two that belong together here"]
    }


def test_a_chain_that_leads_nowhere_says_where_it_ends(tmp_path: Path) -> None:
    upper = make_ca("upper", ROOT)
    ca = make_ca("ca", upper)
    plug(tmp_path, ca, cert_chain=ca.pem)
    assert "CN=ca is signed by CN=upper, which is neither in" in faults(tmp_path)["cert-chain.pem"][0]
    plug(tmp_path, ca, cert_chain=make_ca("upper", ROOT).pem)  # the same name, another key
    assert "the certificate of that name did not sign it" in faults(tmp_path)["cert-chain.pem"][0]
    plug(tmp_path, ca, root_cert=make_ca("other").pem)
    assert "CN=upper is signed by CN=root" in faults(tmp_path)["cert-chain.pem"][0]


def test_a_chain_to_a_root_that_expired_says_so(tmp_path: Path) -> None:
    old = make_ca("old", begins=-9 * DAY, ends=-DAY)
    plug(tmp_path, make_ca("ca", old), roots=[make_ca("new")])
    (fault,) = faults(tmp_path)["root-cert.pem"]
    assert fault.startswith("CN=old: it expired at")


def test_another_certificate_of_the_roots_own_key_is_refused(tmp_path: Path) -> None:
    plug(tmp_path, make_ca("ca", ROOT, key=ROOT.key))
    assert "has the key of the root CN=root" in faults(tmp_path)["ca-cert.pem"][0]
    plug(tmp_path, make_ca("root", key=ROOT.key), root_cert=ROOT.pem)
    assert "another certificate" in faults(tmp_path)["ca-cert.pem"][0]


def test_two_roots_with_one_identifier_are_refused(tmp_path: Path) -> None:
    same = x509.SubjectKeyIdentifier(b"\x01" * 20), False
    roots = [make_ca(name, identifiers=False, more=[same]) for name in ("one", "two")]
    plug(tmp_path, make_ca("ca", roots[0]), roots=[roots[1]])
    assert "same subject key identifier" in faults(tmp_path)["root-cert.pem"][0]


def test_an_intermediate_is_no_root(tmp_path: Path) -> None:
    plug(tmp_path, make_ca("ca", CA), root_cert=CA.pem)
    assert "did not sign itself" in faults(tmp_path)["root-cert.pem"][0]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("ca_cert", CA.der, "it is DER, not PEM; convert it: openssl x509 -inform DER"),
        ("root_cert", ROOT.der, "it is DER, not PEM"),
        ("ca_crl", b"\x30\x03\x02\x01\x01", "it is DER, not PEM; convert it: openssl crl"),
        ("ca_key", b"\x30\x03\x02\x01\x01", "it is DER, not PEM; convert it: openssl pkey"),
        ("ca_cert", b"", "expected one certificate, found 0"),
        ("ca_cert", CA.pem + ROOT.pem, "expected one certificate, found 2"),
        ("ca_cert", CA.pem[:200], "line 1 belongs to a block of PEM that is cut short or damaged"),
        ("ca_cert", CA.pem + ROOT.pem[: len(ROOT.pem) // 2], "cut short or damaged"),
        ("root_cert", ROOT.pem + b"".join(ROOT.pem.splitlines(keepends=True)[1:]), "cut short or damaged"),
        ("root_cert", ROOT.pem + ROOT.pem.replace(b"-----BEGIN", b"----BEGIN"), "cut short or damaged"),
        ("root_cert", ROOT.pem + ROOT.pem.replace(b"CERTIFICATE", b"certificate"), "cut short or damaged"),
        ("cert_chain", CA.pem + b"\n" + b"QUJD" * 16 + b"\n", "line 13 belongs to a block"),
        ("ca_cert", CA.pem.replace(b"M", b"!", 1), "certificate 1 of 1 in it cannot be used"),
        ("ca_cert", CA.pem.replace(b"\nM", b"\nN", 1), "certificate 1 of 1 in it cannot be used"),
        ("ca_cert", CA.key_pem, "it holds a private key; only certificates belong here"),
        ("root_cert", ROOT.pem + CA.key_pem, "it holds a private key"),
        ("root_cert", make_crl(ROOT), "it holds a X509 CRL; only certificates belong here"),
        ("cert_chain", b"certificates go here", "there is no certificate in PEM in it"),
        ("root_cert", b"\n", "there is no certificate in it"),
        ("root_cert", ROOT.pem * 70, "it holds 70 certificates; at most 64"),
        ("root_cert", b"#" * (1 << 20) + ROOT.pem, "it is larger than 1048576 bytes"),
        ("ca_key", b"", "expected one private key, found 0"),
        ("ca_key", CA.key_pem * 2, "expected one private key, found 2"),
        ("ca_key", CA.key_pem + CA.pem, "it holds a CERTIFICATE; only the private key belongs here"),
        ("ca_key", CA.key_pem[:60], "cut short or damaged"),
        ("ca_key", CA.key_pem.replace(b"MI", b"MJ", 1), "it is no private key in PEM that can be read"),
        ("ca_key", private_pem(CA.key, b"secret"), "it is encrypted; a plugged-in key must not be"),
        (
            "ca_key",
            ANOTHER.public_key().public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            ),
            "it holds a PUBLIC KEY",
        ),
        ("ca_key", b"A" * 70_000, "it is larger than 65536 bytes"),
    ],
)
def test_files_that_are_not_what_they_should_be_are_refused(
    tmp_path: Path, name: str, content: bytes, says: str
) -> None:
    replaced: Any = {name: content}
    plug(tmp_path, CA, **replaced)
    found = faults(tmp_path)[f"{name.replace('_', '-')}.pem"]
    assert any(says in text for text in found), found


def test_a_traditionally_encrypted_key_is_told_so(tmp_path: Path) -> None:
    lock = serialization.BestAvailableEncryption(b"secret")
    old = CA.key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, lock)
    assert b"Proc-Type: 4,ENCRYPTED" in old
    plug(tmp_path, CA, ca_key=old)
    assert "it is encrypted" in faults(tmp_path)["ca-key.pem"][0]


def test_no_fault_shows_anything_of_a_key(tmp_path: Path) -> None:
    body = CA.key_pem.splitlines()[1].decode()
    for damage in (CA.key_pem[:-40], CA.key_pem.replace(b"MI", b"MJ", 1), CA.key_pem * 2, CA.key_pem.lower()):
        plug(tmp_path, CA, ca_key=damage, ca_cert=damage)
        assert body[4:20] not in str(faults(tmp_path))
    plug(tmp_path, CA)
    assert body[4:20] not in repr(load(tmp_path))


# --- permissions


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o602])
def test_a_key_that_others_may_touch_is_refused_with_the_mend(tmp_path: Path, mode: int) -> None:
    plug(tmp_path, CA)
    (tmp_path / "ca-key.pem").chmod(mode)
    with pytest.raises(BadFile, match=f"run: chmod 600 {re.escape(str(tmp_path))}/ca-key.pem") as caught:
        load(tmp_path)
    assert exit_for(caught.value) is Exit.REFUSED
    (tmp_path / "cert-chain.pem").write_bytes(b"nothing")
    with pytest.raises(BadFile) as other:
        load(tmp_path)
    assert exit_for(other.value) is Exit.INVALID


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    plug(tmp_path, CA)
    (tmp_path / "root-cert.pem").chmod(0)
    assert "cannot be read by uid" in faults(tmp_path)["root-cert.pem"][0]


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_key_that_belongs_to_somebody_else_is_refused_with_the_mend(tmp_path: Path) -> None:
    plug(tmp_path, CA)
    os.chown(tmp_path / "ca-key.pem", 12345, -1)
    (fault,) = faults(tmp_path)["ca-key.pem"]
    assert "belongs to uid 12345; run: chown 0" in fault


def test_a_folder_where_everybody_may_write_is_refused(tmp_path: Path) -> None:
    plug(tmp_path / "open", CA)
    (tmp_path / "open").chmod(0o777)
    assert "chmod o-w" in faults(tmp_path / "open")["ca-key.pem"][0]


def test_a_pipe_a_folder_and_a_link_in_a_circle_do_not_hold_it_up(tmp_path: Path) -> None:
    plug(tmp_path, CA, ca_cert=None, ca_key=None, cert_chain=None)
    os.mkfifo(tmp_path / "ca-cert.pem")
    (tmp_path / "cert-chain.pem").mkdir()
    (tmp_path / "ca-key.pem").symlink_to(tmp_path / "ca-key.pem")
    found = faults(tmp_path)
    assert "not a regular file" in found["ca-cert.pem"][0]
    assert "not a regular file" in found["cert-chain.pem"][0]
    assert "symbolic link" in found["ca-key.pem"][0]


# --- files that change while they are read


def mounted(folder: Path, name: str, ca: Ca) -> None:
    """As Kubernetes mounts a secret: files are links to `..data/file`, and `..data` is one to a folder of its own."""
    plug(folder / name, ca)
    fresh = folder / "..data_tmp"
    fresh.symlink_to(name)
    fresh.rename(folder / "..data")
    for file in ("ca-cert.pem", "ca-key.pem", "cert-chain.pem", "root-cert.pem"):
        if not (folder / file).is_symlink():
            (folder / file).symlink_to(Path("..data", file))


def test_a_secret_mounted_by_kubernetes_is_read_also_after_it_was_swapped(tmp_path: Path) -> None:
    mounted(tmp_path, "..2026_1", CA)
    assert load(tmp_path).certificate.der == CA.der
    other = make_ca("ca", make_ca("another root"))
    mounted(tmp_path, "..2026_2", other)
    assert load(tmp_path).certificate.der == other.der


@pytest.mark.parametrize(("mode", "taken"), [(0o400, True), (0o440, True), (0o444, False), (0o644, False)])
def test_a_mounted_key_may_be_read_by_its_group_and_by_nobody_else(tmp_path: Path, mode: int, taken: bool) -> None:
    mounted(tmp_path, "..2026_1", CA)
    (tmp_path / "..2026_1" / "ca-key.pem").chmod(mode)
    if taken:
        load(tmp_path)
    else:
        assert "give the volume defaultMode: 0400" in faults(tmp_path)["ca-key.pem"][0]


def test_a_mounted_secret_that_is_swapped_without_end_is_never_mixed(tmp_path: Path) -> None:
    pair = [make_ca("ca", make_ca("root")) for _ in range(2)]
    for number, ca in enumerate(pair):
        mounted(tmp_path, f"..{number}", ca)
    done = threading.Event()

    def swap() -> None:
        turn = 0
        while not done.is_set():
            turn += 1
            (tmp_path / "..data_tmp").symlink_to(f"..{turn % 2}")
            (tmp_path / "..data_tmp").rename(tmp_path / "..data")

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        seen = 0
        for _ in range(60):
            try:
                assert load(tmp_path).certificate.der in {ca.der for ca in pair}
                seen += 1
            except Unavailable:
                pass  # they do not hold still; the next look finds them
    finally:
        done.set()
        thread.join()
    assert seen


def test_files_replaced_in_the_middle_of_reading_are_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plug(tmp_path, CA)
    new = make_ca("ca", make_ca("another root"))
    calls: list[Path] = []
    read = files.read_public

    def interrupted(path: Path, **named: Any) -> bytes:
        content = read(path, **named)
        calls.append(path)
        if len(calls) == 2:  # ca-cert.pem and cert-chain.pem are the old ones
            plug(tmp_path, new)
        return content

    monkeypatch.setattr(cacerts, "read_public", interrupted)
    assert load(tmp_path).certificate.der == new.der


def test_files_that_never_hold_still_are_told_to_be_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plug(tmp_path, CA)
    read = files.read_public

    def restless(path: Path, **named: Any) -> bytes:
        plug(tmp_path, CA)
        return read(path, **named)

    monkeypatch.setattr(cacerts, "read_public", restless)
    with pytest.raises(Unavailable, match="change while they are read"):
        load(tmp_path)


# --- revocation lists


def test_crls_of_every_ca_of_the_chain_are_taken(tmp_path: Path) -> None:
    plug(tmp_path, CA, crls=[make_crl(CA), make_crl(ROOT)])
    assert len(load(tmp_path).crls) == 2


def test_a_crl_of_a_ca_of_before_is_taken_if_that_ca_is_in_the_chain_file(tmp_path: Path) -> None:
    before = make_ca("before", ROOT)
    crls = [make_crl(one) for one in (CA, ROOT, before)]
    plug(tmp_path, CA, crls=crls, cert_chain=CA.pem + before.pem)
    assert len(load(tmp_path).crls) == 3
    plug(tmp_path, CA, crls=crls)
    assert "CN=before is not signed by" in faults(tmp_path)["ca-crl.pem"][0]


@pytest.mark.parametrize(
    ("crls", "says"),
    [
        ([make_crl(CA)], "there is no CRL of CN=root"),
        ([make_crl(CA), make_crl(ROOT, signed_by=CA)], "the CRL of CN=root is not signed by a CA of this chain"),
        ([make_crl(CA), make_crl(ROOT), make_crl(make_ca("x"))], "the CRL of CN=x is not signed by a CA of this chain"),
        ([make_crl(CA), make_crl(ROOT, ends=-DAY / 2)], "the CRL of CN=root expired at"),
        ([make_crl(CA, begins=DAY), make_crl(ROOT)], "the CRL of CN=ca is not valid before"),
        ([ROOT.pem], "expected CRLs in PEM"),
        ([make_crl(CA)[:80]], "cut short or damaged"),
    ],
)
def test_crls_that_would_make_envoys_refuse_everybody_are_refused(tmp_path: Path, crls: list[bytes], says: str) -> None:
    plug(tmp_path, CA, crls=crls)
    assert any(says in text for text in faults(tmp_path)["ca-crl.pem"])


def test_a_crl_that_ends_soon_is_said(tmp_path: Path) -> None:
    plug(tmp_path, CA, crls=[make_crl(CA, ends=DAY / 24, begins=-9 * DAY), make_crl(ROOT)])
    assert "from then on Envoys refuse everybody" in load(tmp_path).warnings[0]

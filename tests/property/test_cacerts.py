"""Whatever is in the plugged-in files, reading them gives a CA that may sign, or says what is wrong with which file."""

from __future__ import annotations

import base64
import shutil
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from citadel.ca.roots.cacerts import Plugged, read_cacerts
from citadel.errors import BadFile
from citadel.spiffe import TrustDomain
from tests.support.cacerts import make_ca, make_crl, plug

TD = TrustDomain("example.org")
ROOT = make_ca("root", key=rsa.generate_private_key(65537, 2048))
CA = make_ca("ca", make_ca("upper", ROOT))
FILES = {
    "ca-cert.pem": CA.pem,
    "ca-key.pem": CA.key_pem,
    "cert-chain.pem": CA.pem + CA.issuer.pem if CA.issuer else b"",
    "root-cert.pem": ROOT.pem,
    "ca-crl.pem": b"".join(make_crl(one) for one in (CA, CA.issuer, ROOT) if one),
}

# The library warns of some malformed names and numbers; the server only logs that, so it is no finding here.
pytestmark = pytest.mark.filterwarnings("ignore::Warning")


@st.composite
def damaged(draw: st.DrawFn) -> dict[str, bytes]:
    """Sound files, one or two of which are damaged: in their DER (PEM made anew around it), or as text."""
    files = dict(FILES)
    for name in draw(st.lists(st.sampled_from(sorted(files)), min_size=1, max_size=2, unique=True)):
        content = files[name]
        if draw(st.integers(0, 3)):
            label, body = content.split(b"-----")[1].removeprefix(b"BEGIN "), content.split(b"-----")[2]
            der = bytearray(base64.b64decode(body))
            _damage(draw, der)
            lines = base64.encodebytes(der)
            rest = b"-----".join(content.split(b"-----")[4:]).lstrip(b"\n")
            files[name] = b"-----BEGIN %s-----\n%s-----END %s-----\n%s" % (label, lines, label, rest)
        else:
            text = bytearray(content)
            _damage(draw, text)
            files[name] = bytes(text)
    return files


def _damage(draw: st.DrawFn, data: bytearray) -> None:
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        match draw(st.sampled_from(["flip", "set", "insert", "remove", "cut"])):
            case "flip" if data:
                data[at] ^= 1 << draw(st.integers(0, 7))
            case "set" if data:
                data[at] = draw(st.integers(0, 255))
            case "insert":
                data[at:at] = draw(st.binary(min_size=1, max_size=8))
            case "remove":
                del data[at : at + draw(st.integers(1, 8))]
            case "cut" if draw(st.booleans()):
                del data[at:]


@given(damaged())
@settings(max_examples=400, deadline=None)
def test_damaged_files_are_named_or_do_no_harm(files: dict[str, bytes]) -> None:
    folder = Path(tempfile.mkdtemp(prefix="citadel-"))
    try:
        plug(folder, CA)
        for name, content in files.items():
            (folder / name).write_bytes(content)
        found: Plugged | BadFile
        try:
            found = read_cacerts(folder, TD, datetime.now(UTC))
        except BadFile as error:
            found = error
    finally:
        shutil.rmtree(folder)
    if isinstance(found, BadFile):
        assert found.mistakes
        assert all(Path(mistake.file).name in FILES for mistake in found.mistakes)
        assert all(len(mistake.message) < 1000 for mistake in found.mistakes)
    else:  # what was damaged did not matter: text around a block, for example
        assert found.certificate.der == CA.der
        assert found.private_key.public_key() == CA.key.public_key()

"""Real Envoys under load while the plugged-in CA, with CRLs, is changed below their feet: nothing fails."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.interop.test_rotation import SETTINGS
from tests.support import desk
from tests.support.cacerts import DAY, Ca, make_ca, make_crl, plug
from tests.support.envoys import CHURN, WAIT_SECONDS, Mesh, Pair, mesh, wait_for
from tests.support.load import Load

pytestmark = pytest.mark.envoy


def signed_by(made: Mesh, ca: Ca) -> bool:
    """Whether it is `ca` that signs now."""
    signing = [a for a in made.up.json("ca", "list") if a["state"] == "active"]
    kinds = {a["kind"]: a["subject"] for a in signing}
    return bool(kinds.get("issuing", kinds["root"]) == ca.certificate.subject.rfc4514_string())


def two_renewals(pair: Pair) -> None:
    before = {envoy.name: envoy.renewals for envoy in pair.both}
    end = time.monotonic() + WAIT_SECONDS
    while any(envoy.renewals < before[envoy.name] + 2 for envoy in pair.both):
        assert time.monotonic() < end, "no renewal"
        for envoy in pair.both:
            envoy.look()
        time.sleep(0.2)


def test_a_plugged_in_ca_is_changed_under_load_with_crls_and_no_request_fails() -> None:
    root = make_ca("root", key=rsa.generate_private_key(65537, 2048), begins=-2 * DAY)
    renewed = Ca(make_ca("root", key=root.key).certificate, root.key)  # the same key: a renewal, not a rotation
    first, second = make_ca("first", root), make_ca("second", make_ca("upper", root))
    assert second.issuer is not None
    with tempfile.TemporaryDirectory(prefix="ca-", dir="/tmp") as folder:
        cacerts = Path(folder) / "cacerts"
        plug(cacerts, first, crls=[make_crl(first), make_crl(root)])
        settings = f'[root]\nkind = "cacerts"\ncacerts_dir = "{cacerts}"\n[jobs]\nplugged_ca = "1s"\n'
        with mesh(settings + SETTINGS) as made:
            pair = made.pair("p")
            with Load(pair.listeners, per_second=15) as load:
                two_renewals(pair)
                plug(cacerts, second, crls=[make_crl(one) for one in (second, second.issuer, root)])
                wait_for("the second CA signs", lambda: signed_by(made, second))
                two_renewals(pair)
                plug(cacerts, root, crls=[make_crl(root)])
                wait_for("the root signs itself", lambda: signed_by(made, root))
                two_renewals(pair)
                third = make_ca("third", renewed)
                plug(cacerts, third, roots=[root], crls=[make_crl(third), make_crl(root)])
                wait_for("a CA under the renewed root signs", lambda: signed_by(made, third))
                two_renewals(pair)
                assert len(pair.client.roots()) == 2
                assert made.up.json("status")["waiting"] == []
                made.up.run("root", "rotate", "--to", "disk", "--detach")  # to one of which there is no CRL
                wait_for("it waits", lambda: "Envoys have CRLs, but none of" in str(desk.rotations(made.up)))
                assert signed_by(made, third)
                (cacerts / "ca-crl.pem").unlink()
                wait_for("the end of it", lambda: not desk.rotations(made.up), 60)
                two_renewals(pair)
            assert load.failed == {}
            assert pair.failures() == {}
            assert min(tally.ok for tally in load.tallies.values()) > 100


def test_a_leaf_that_its_ca_revoked_is_refused_within_seconds() -> None:
    ca = make_ca("ca", make_ca("root"))
    assert ca.issuer is not None
    with tempfile.TemporaryDirectory(prefix="ca-", dir="/tmp") as folder:
        cacerts = Path(folder) / "cacerts"
        plug(cacerts, ca, crls=[make_crl(ca), make_crl(ca.issuer)])
        settings = f'[root]\nkind = "cacerts"\ncacerts_dir = "{cacerts}"\n[jobs]\nplugged_ca = "1s"\n'
        with mesh(settings) as made:
            pair = made.pair("p", ways=[CHURN], ttl="1h")
            pair.server.look()
            with Load(pair.listeners, per_second=20) as load:
                wait_for("requests", lambda: load.tallies[CHURN].ok > 20)
                assert load.failed == {}
                serial = int(pair.server.serials[-1], 16)
                plug(cacerts, ca, crls=[make_crl(ca, revoked=[serial]), make_crl(ca.issuer)])
                wait_for("the revoked server is refused", lambda: load.tallies[CHURN].failed > 10)
            assert pair.client.total(".ssl.fail_verify_error", f"cluster.{CHURN}") > 10

"""What happens to a mesh under load when something of it goes away, comes late, or is revoked."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509

from citadel.sds.bootstrap import Address, Inbound, Plan, Variant, bootstrap
from citadel.spiffe import TrustDomain
from tests.support.cacerts import Ca, make_ca, make_crl, plug
from tests.support.envoys import CHURN, KEEP, Mesh, Pair, mesh, renewed, wait_for
from tests.support.load import Load

pytestmark = pytest.mark.envoy
LONG = "16s"  # lives long enough that no certificate runs out while a Citadel starts on a busy machine


@pytest.fixture(scope="module")
def one_mesh() -> Iterator[Mesh]:
    with mesh() as made:
        yield made


@pytest.fixture(scope="module")
def pairs(one_mesh: Mesh) -> dict[str, Pair]:
    return {v.value: one_mesh.pair(v.value, v, ttl=LONG) for v in (Variant.SOTW, Variant.DELTA_ADS)}


def listeners(pairs: dict[str, Pair]) -> dict[str, Path]:
    return {f"{name}/{way}": path for name, pair in pairs.items() for way, path in pair.listeners.items()}


def test_an_unregistered_envoy_gets_nothing_and_serves_once_it_is_registered(one_mesh: Mesh) -> None:
    pair = one_mesh.unregistered("late", ways=[CHURN])
    for envoy in pair.both:
        envoy.start()
    wait_for("streams", lambda: all(envoy.answers() and envoy.streams() >= 2 for envoy in pair.both))
    for envoy in pair.both:
        envoy.look()
        assert (envoy.serials, envoy.roots()) == ([], set())
        assert not envoy.ready()
    began = time.monotonic()
    pair.register(one_mesh.up, "1h")
    for envoy in pair.both:
        wait_for(f"listener of {envoy.name}", envoy.ready, seconds=10)  # and not after initial_fetch_timeout
    print(f"two registrations by command line to both ready: {time.monotonic() - began:.2f} s")
    with Load(pair.listeners, per_second=20) as load:
        load.wait_for(20)
    assert (load.failed, pair.failures()) == ({}, {})


def test_an_envoy_that_is_restarted_serves_again_and_disturbs_nobody_else(pairs: dict[str, Pair]) -> None:
    restarted, other = pairs["sotw"], pairs["delta-ads"]
    before = other.failures()
    for envoy in restarted.both:
        with Load(listeners(pairs), per_second=15) as load:
            load.wait_for(10)
            assert load.failed == {}
            envoy.end(signal.SIGKILL)
            wait_for("the loss is seen", lambda: load.failed)
            envoy.start()
            wait_for(f"Envoy {envoy.name}", envoy.ready)
            load.wait_for(5)  # what was under way has ended
            failed = load.failed
            load.wait_for(20)
            assert load.failed == failed
        assert all(name.startswith("sotw/") for name in failed)
    assert other.failures() == before


def test_citadel_restarted_under_load_fails_nothing_and_renewals_go_on(one_mesh: Mesh, pairs: dict[str, Pair]) -> None:
    envoys = [envoy for pair in pairs.values() for envoy in pair.both]
    before = {name: pair.failures() for name, pair in pairs.items()}
    with Load(listeners(pairs), per_second=15) as load:
        streams = {envoy.name: envoy.streams() for envoy in envoys}
        left = time.monotonic()
        assert one_mesh.up.end() == 0
        wait_for("the streams end", lambda: not any(envoy.streams() for envoy in envoys))
        load.wait_for(10)
        one_mesh.up.start()
        began = time.monotonic()
        wait_for("the streams are back", lambda: all(envoy.streams() == streams[envoy.name] for envoy in envoys))
        print(f"streams back {time.monotonic() - began:.2f} s after Citadel listened; it was {began - left:.2f} s away")
        renewed(envoys, times=2)
    assert load.failed == {}
    assert {name: pair.failures() for name, pair in pairs.items()} == before


def test_a_revoked_certificate_is_refused_the_moment_the_crl_is_there(tmp_path: Path) -> None:
    root = make_ca("root")
    issuing, folder = make_ca("issuing", root, path_length=0), tmp_path / "ca"
    plug(folder, issuing)
    whole = make_crl(root)
    (folder / "ca-crl.pem").write_bytes(whole + make_crl(issuing))
    settings = f'[root]\nkind = "cacerts"\ncacerts_dir = "{folder}"\n[jobs]\nplugged_ca = "1s"\n'
    with mesh(settings) as own:
        pair = own.pair("revoked", ways=[CHURN, KEEP], ttl="1h")
        pair.client.look()
        with Load(pair.listeners, per_second=20) as load:
            load.wait_for(20)
            assert (load.failed, pair.failures()) == ({}, {})
            began = time.monotonic()
            (tmp_path / "new").write_bytes(whole + make_crl(issuing, revoked=[int(pair.client.serials[0], 16)]))
            (tmp_path / "new").rename(folder / "ca-crl.pem")
            wait_for("refusals", lambda: load.tallies[CHURN].failed >= 5, seconds=15)
            print(f"CRL written to fifth refusal: {time.monotonic() - began:.2f} s")
        assert pair.server.total(".ssl.fail_verify_error") > 0


def leaf(name: str) -> Ca:
    usage = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
    return make_ca(name, ca=False, usage=usage)


def test_a_certificate_from_files_is_served_and_its_change_pushed(tmp_path: Path) -> None:
    folder = tmp_path / "tls"
    folder.mkdir()

    def put(pair: Ca) -> str:
        """New files in the place of old ones; the certificate's serial, as Envoy writes it."""
        for name, content in (("key", pair.key_pem), ("crt", pair.pem)):
            (tmp_path / name).write_bytes(content)
            (tmp_path / name).chmod(0o600)
            (tmp_path / name).rename(folder / name)
        return f"{pair.certificate.serial_number:x}"

    first = put(leaf("first"))
    with mesh(f'[files]\nenabled = true\ndirectories = ["{folder}"]\n') as own:
        plan = Plan(
            TrustDomain.parse("example.org"),
            "files",
            str(own.up.workload_socket),
            inbound=Inbound(Address.unix(str(own.folder / "in")), Address.unix(str(own.folder / "app.sock"))),
            identity=f"file-cert:{folder}/crt~{folder}/key",
        )
        envoy = own.envoy("files", bootstrap(plan))
        envoy.start()
        wait_for("streams", lambda: envoy.answers() and envoy.streams() >= 2)
        envoy.look()
        assert envoy.serials == [], "nobody unregistered gets files"
        own.up.register("/files", envoy.selector)
        wait_for("the first certificate", lambda: envoy.ready() and envoy.total(".ssl_context_update_by_sds"))
        envoy.look()
        second = put(leaf("second"))
        renewed([envoy])
        assert [serial.lstrip("0") for serial in envoy.serials] == [first, second]

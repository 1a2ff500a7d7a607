"""Repeated headers as the RBAC filter of a real Envoy sees them: joined with a comma, or each by itself."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from citadel.authz import HttpRequest, MeshFacts, Request
from citadel.authz.headers import JOINED_HEADERS
from citadel.authz.subject import Subject
from citadel.spiffe import TrustDomain
from tests.support.envoys import Envoy, wait_for
from tests.support.raw_http import RawClient, listener, rbac

pytestmark = [pytest.mark.envoy, pytest.mark.skipif(shutil.which("envoy") is None, reason="needs envoy")]

# Envoy removes, overwrites or refuses these before a filter sees them, unless it is told otherwise.
NEVER_SEEN = frozenset(
    """
    connection content-length keep-alive proxy-connection te transfer-encoding upgrade x-envoy-expected-rq-timeout-ms
    x-envoy-force-trace x-envoy-hedge-on-per-try-timeout x-envoy-internal x-envoy-ip-tags x-envoy-max-retries
    x-envoy-retriable-header-names x-envoy-retriable-status-codes x-envoy-retry-grpc-on x-envoy-retry-on
    x-envoy-upstream-alt-stat-name x-envoy-upstream-rq-per-try-timeout-ms x-envoy-upstream-rq-timeout-alt-response
    x-envoy-upstream-rq-timeout-ms x-envoy-upstream-stream-duration-ms x-forwarded-client-cert
    """.split()  # noqa: SIM905  (easier to read)
)
SINGLE = """
    accept-language b3 cookie dnt forwarded from if-x proxy-authorization range traceparent tracestate x-api-key
    x-b3-traceid x-custom x-envoy-foo x-forwarded-user x-real-ip x-requested-with x-tenant
    """.split()  # noqa: SIM905  (easier to read)
NAMES = sorted((JOINED_HEADERS - NEVER_SEEN) | set(SINGLE))
VALUES = ("a", "b", "a,b")


@pytest.fixture(scope="module")
def clients(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, RawClient]]:
    """One per value: its listener lets through what has that value in the header that `x-test` names."""
    folder = tmp_path_factory.mktemp("e")
    envoy = Envoy(folder, "headers", {"static_resources": {"listeners": [_wanting(folder, one) for one in VALUES]}})
    envoy.start()
    found = {value: RawClient(folder / str(VALUES.index(value))) for value in VALUES}
    try:
        wait_for("Envoy", envoy.ready)
        yield found
    finally:
        for client in found.values():
            client.close()
        envoy.end()


def _wanting(folder: Path, value: str) -> dict[str, object]:
    policies = {}
    for name in NAMES:
        both = [("x-test", name), (name, value)]
        ids = [{"header": {"name": one, "string_match": {"exact": text}}} for one, text in both]
        policies[name] = {"permissions": [{"any": True}], "principals": [{"and_ids": {"ids": ids}}]}
    rules = {"action": "ALLOW", "policies": policies}
    return listener(folder / str(VALUES.index(value)), filters=[rbac(rules)])


@pytest.mark.parametrize("name", NAMES)
def test_repeated_headers_are_joined_or_not_as_in_envoy(clients: dict[str, RawClient], name: str) -> None:
    lines = [f"{one}: {text}".encode() for one, text in (("x-test", name), (name, "a"), (name, "b"))]
    seen = [value for value in VALUES if clients[value].get(b"/", *lines)[0] == 200]
    assert seen == (["a,b"] if name in JOINED_HEADERS else ["a", "b"])


@pytest.mark.parametrize(
    ("sent", "seen"), [(("", "a"), "a"), (("a", ""), "a"), (("a", "", "b"), "a,b"), (("", "a,b", ""), "a,b")]
)
def test_nothing_is_joined_for_an_empty_value(clients: dict[str, RawClient], sent: tuple[str, ...], seen: str) -> None:
    lines = [b"x-test: accept", *(f"accept: {text}".encode() for text in sent)]
    assert [value for value in VALUES if clients[value].get(b"/", *lines)[0] == 200] == [seen]
    request = Request(80, http=HttpRequest("GET", "/", "a", {"accept": sent}))
    assert Subject(request, MeshFacts(TrustDomain("td"))).header("accept") == (seen,)

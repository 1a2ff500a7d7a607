"""X-Forwarded-Client-Cert: what a proxy that writes it alone saw of its client's certificate. Pure.

Source: Envoy, "x-forwarded-client-cert": elements between commas, each of `key=value` between semicolons; values with
such characters in them are quoted, and quotes in those escaped by a backslash. Not so a URI SAN, which Envoy 1.40
writes as it is (measured): the CA of another trust domain can put `,URI=` into one.
"""

from __future__ import annotations

import re

from citadel.authz.doors.joined import BadAttributes

HEADER = "x-forwarded-client-cert"
_KEY = re.compile(r"[A-Za-z]+")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
_PLAIN = re.compile(r'[^",;]*')


def only_uri(value: str) -> str:
    """The URI SAN of the one element; empty: the certificate has none. Raises BadAttributes."""
    uris: list[str] = []
    at = 0
    while True:
        key, text, at = _pair(value, at)
        if key.lower() == "uri":
            uris.append(text)
        if at == len(value):
            break
        if value[at] == ",":
            raise BadAttributes(f"{HEADER} has more than one element: a proxy without SANITIZE_SET, or a forged URI")
        if value[at] != ";":
            raise BadAttributes(f"{HEADER} cannot be read")
        at += 1
    if len(uris) > 1:
        raise BadAttributes(f"{HEADER} has more than one URI: a certificate has one SPIFFE ID")
    return uris[0] if uris else ""


def _pair(value: str, at: int) -> tuple[str, str, int]:
    key = _KEY.match(value, at)
    if key is None or value[key.end() : key.end() + 1] != "=":
        raise BadAttributes(f"{HEADER} cannot be read")
    start = key.end() + 1
    quoted = _QUOTED.match(value, start)
    if quoted is not None:
        return key[0], re.sub(r"\\(.)", r"\1", quoted[1]), quoted.end()
    plain = _PLAIN.match(value, start)
    assert plain is not None  # it matches nothing, too
    return key[0], plain[0], plain.end()

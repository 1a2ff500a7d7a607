"""A RequestAuthentication's `spec`, read and checked as Istio's CRD and webhook check it."""

from __future__ import annotations

import json
import re
from typing import Any

from citadel.authz.load import values
from citadel.authz.load.findings import Findings, Refusal, quoted
from citadel.authz.load.shared import selector, targets
from citadel.authz.load.tree import Path, Value
from citadel.authz.model import ClaimToHeader, HeaderLocation, JwtRule, Metadata, RequestAuthentication

MAX_JWT_RULES = 4096
MAX_SPACE_DELIMITED = 64
MAX_JWKS = 1024 * 1024

_SPEC = ("selector", "targetRefs", "targetRef", "jwtRules")
_JWT_RULE = (
    "issuer",
    "audiences",
    "jwksUri",
    "jwks_uri",
    "jwks",
    "fromHeaders",
    "fromParams",
    "fromCookies",
    "outputPayloadToHeader",
    "outputClaimToHeaders",
    "forwardOriginalToken",
    "timeout",
    "spaceDelimitedClaims",
)
_KEYS = ("jwksUri", "jwks_uri", "jwks")
_STRICT_HEADER = re.compile(r"[-_A-Za-z0-9]+")
# what a public key of each type has (RFC 7518, 6.2.1 and 6.3.1; RFC 8037, 2)
_PUBLIC = {"RSA": ("n", "e"), "EC": ("crv", "x", "y"), "OKP": ("crv", "x"), "oct": ("k",)}


def request_authentication(findings: Findings, spec: Value, path: Path, metadata: Metadata) -> RequestAuthentication:
    fields = findings.mapping(spec, path, _SPEC, "the spec of a RequestAuthentication")
    at = (*path, "jwtRules")
    rules = findings.items(fields.get("jwtRules", []), at, "rules", most=MAX_JWT_RULES)
    return RequestAuthentication(
        metadata=metadata,
        jwt_rules=tuple(_jwt_rule(findings, rule, (*at, index)) for index, rule in enumerate(rules)),
        selector=selector(findings, fields["selector"], (*path, "selector")) if "selector" in fields else None,
        target_refs=targets(findings, fields, path),
    )


def _jwt_rule(findings: Findings, value: Value, path: Path) -> JwtRule:
    fields = findings.mapping(value, path, _JWT_RULE, "a rule of jwtRules")
    present = [key for key in _KEYS if key in fields]
    if len(present) > 1:
        findings.mistake((*path, present[1]), f"only one of {' and '.join(present)} may be there")
    if isinstance(value, dict) and "issuer" not in fields and not {"jwksUri", "jwks_uri"} & fields.keys():
        findings.mistake(path, "it has neither issuer nor jwksUri")
    uri = "jwks_uri" if "jwks_uri" in fields else "jwksUri"
    return JwtRule(
        issuer=findings.full_text(fields["issuer"], (*path, "issuer")) if "issuer" in fields else "",
        audiences=_texts(findings, fields, "audiences", path),
        jwks_uri=_one(findings, fields, uri, path, values.http_url),
        jwks=_jwks(findings, fields["jwks"], (*path, "jwks")) if "jwks" in fields else "",
        from_headers=_from_headers(findings, fields, path),
        from_params=_texts(findings, fields, "fromParams", path),
        from_cookies=_texts(findings, fields, "fromCookies", path),
        output_payload_to_header=_output_payload(findings, fields, path),
        output_claim_to_headers=_claims_to_headers(findings, fields, path),
        forward_original_token=findings.boolean(
            fields.get("forwardOriginalToken", False), (*path, "forwardOriginalToken")
        ),
        timeout=_one(findings, fields, "timeout", path, values.duration) or None,
        space_delimited_claims=_texts(findings, fields, "spaceDelimitedClaims", path, most=MAX_SPACE_DELIMITED),
    )


def _texts(findings: Findings, fields: dict[str, Value], field: str, path: Path, *, most: int = 0) -> tuple[str, ...]:
    return findings.texts(fields[field], (*path, field), most=most) if field in fields else ()


def _one(findings: Findings, fields: dict[str, Value], field: str, path: Path, read: Any) -> Any:
    """What `read` makes of the text in this field; empty if it is not there, or wrong."""
    if field not in fields:
        return ""
    text = findings.full_text(fields[field], (*path, field))
    made = read(text) if text else ""
    if isinstance(made, Refusal):
        findings.mistake((*path, field), made.message)
        return ""
    return made


def _output_payload(findings: Findings, fields: dict[str, Value], path: Path) -> str:
    if fields.get("outputPayloadToHeader") == "":
        return ""  # the same as leaving it out
    _one(findings, fields, "outputPayloadToHeader", path, _plain_header)
    value = fields.get("outputPayloadToHeader")
    return value if isinstance(value, str) else ""


def _plain_header(text: str) -> str | Refusal:
    if text.startswith(":"):
        return Refusal(f"{quoted(text)} is a pseudo-header, which cannot be set")
    return values.header_name(text)


def _from_headers(findings: Findings, fields: dict[str, Value], path: Path) -> tuple[HeaderLocation, ...]:
    at = (*path, "fromHeaders")
    found = []
    for index, item in enumerate(findings.items(fields.get("fromHeaders", []), at, "headers")):
        place = (*at, index)
        inner = findings.mapping(item, place, ("name", "prefix"), "an item of fromHeaders")
        if isinstance(item, dict) and "name" not in inner:
            findings.mistake(place, "it has no name")
        _one(findings, inner, "name", place, values.header_name)
        prefix = findings.text(inner.get("prefix", ""), (*place, "prefix"))
        if any(c in prefix for c in "\r\n\0"):
            findings.mistake((*place, "prefix"), "a prefix cannot contain a line break")
        name = inner.get("name")
        found.append(HeaderLocation(name if isinstance(name, str) else "", prefix))
    return tuple(found)


def _claims_to_headers(findings: Findings, fields: dict[str, Value], path: Path) -> tuple[ClaimToHeader, ...]:
    at = (*path, "outputClaimToHeaders")
    found = []
    for index, item in enumerate(findings.items(fields.get("outputClaimToHeaders", []), at, "claims")):
        place = (*at, index)
        inner = findings.mapping(item, place, ("header", "claim"), "an item of outputClaimToHeaders")
        for field in ("header", "claim"):
            if isinstance(item, dict) and field not in inner:
                findings.mistake(place, f"it has no {field}")
        header = findings.full_text(inner["header"], (*place, "header")) if "header" in inner else ""
        if header and not _STRICT_HEADER.fullmatch(header):
            findings.mistake((*place, "header"), f"{quoted(header)}: only letters, digits, - and _ may be in this name")
        claim = findings.full_text(inner["claim"], (*place, "claim")) if "claim" in inner else ""
        found.append(ClaimToHeader(header, claim))
    return tuple(found)


def _jwks(findings: Findings, value: Value, path: Path) -> str:
    """An inline JSON Web Key Set (RFC 7517, 5), as text. Empty is the same as leaving it out."""
    if isinstance(value, dict):
        findings.mistake(path, "expected the key set as text: put | behind the colon, and JSON below")
        return ""
    text = findings.text(value, path, most=MAX_JWKS)
    if not text:
        return ""
    try:
        keys = json.loads(text)
    except (ValueError, RecursionError) as error:
        where = f" (line {error.lineno}, column {error.colno})" if isinstance(error, json.JSONDecodeError) else ""
        findings.mistake(path, f"it is not JSON{where}")
        return ""
    keys = keys.get("keys") if isinstance(keys, dict) else None
    if not isinstance(keys, list):
        findings.mistake(path, 'expected a JSON Web Key Set: {"keys": [...]}')
        return ""
    for number, key in enumerate(keys):
        _check_key(findings, key, number, path)
    return text


def _check_key(findings: Findings, key: Any, number: int, path: Path) -> None:
    kind = key.get("kty") if isinstance(key, dict) else None
    needed = _PUBLIC.get(kind) if isinstance(kind, str) else None
    if needed is None:
        findings.mistake(path, f"key {number} of the set has no kty, or one that is not {', '.join(_PUBLIC)}")
        return
    if missing := [name for name in needed if not isinstance(key.get(name), str) or not key[name]]:
        findings.mistake(path, f"key {number} of the set is {kind} and lacks {', '.join(missing)}")
    if "d" in key or kind == "oct":
        findings.warn(
            "private-key-in-jwks",
            path,
            f"key {number} of the set is secret, and everybody who reads this policy has it; only public keys are used",
        )

"""Keys that verify tokens: JSON Web Key Sets (RFC 7517, RFC 7518), of which only what fits is used.

A key is not used, and it is said why, if it is secret (`oct`), too weak (RSA below 2048 bits, another curve), meant for
something else (`use`, `key_ops`), or of another kind than its `alg`. The others in its set still are. The signature
itself is PyJWT's work, which is told exactly one key and one algorithm.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from citadel.authz.tokens.compact import UnverifiedToken
from citadel.authz.tokens.refusals import BadKeySet, Reason, TokenRefused, shown
from citadel.authz.tokens.strict_json import parse_object

MAX_KEY_SET = 1024 * 1024  # bytes
MAX_KEYS = 256
MAX_TRIED = 32
"""So many keys are tried on one token; who has more must name them by `kid`."""
RSA_BITS = range(2048, 8192 + 1)

PublicKey = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey

_RSA = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
_CURVES = {("EC", "P-256"): "ES256", ("EC", "P-384"): "ES384", ("EC", "P-521"): "ES512", ("OKP", "Ed25519"): "EdDSA"}
_PUBLIC_MEMBERS = ("kty", "crv", "x", "y", "n", "e")
_SIGNATURES = jwt.PyJWS()


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """A public key, and the algorithms that it is for."""

    kid: str
    algorithms: frozenset[str]
    public: PublicKey = field(repr=False)

    @classmethod
    def of(cls, member: Any) -> VerificationKey:
        """Read one member of a set. Raises BadKeySet with the reason why it cannot be used."""
        if not isinstance(member, dict):
            raise BadKeySet("it is not a JSON object")
        kid = member.get("kid", "")
        if not isinstance(kid, str):
            raise BadKeySet("its kid is not a string")
        algorithms = _algorithms(member)
        try:
            algorithm = _SIGNATURES.get_algorithm_by_name(min(algorithms))
            public = algorithm.from_jwk({name: member[name] for name in _PUBLIC_MEMBERS if name in member})
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError) as error:
            raise BadKeySet(f"its members make no key: {shown(str(error))}") from None
        if not isinstance(public, PublicKey):
            raise BadKeySet("its members make no public key")
        if isinstance(public, RSAPublicKey):
            _check_rsa(public)
        return cls(kid, algorithms, public)

    def verifies(self, token: UnverifiedToken) -> bool:
        """Whether this key made the token's signature, by the algorithm that the token names."""
        try:
            _SIGNATURES.decode_complete(token.text, self.public, algorithms=[token.algorithm])
        except (jwt.PyJWTError, ValueError, TypeError):
            return False
        return True


@dataclass(frozen=True, slots=True)
class KeySet:
    """The keys of one issuer, as one document holds them."""

    keys: tuple[VerificationKey, ...]
    unused: tuple[str, ...] = ()
    """Of each key that cannot be used, a sentence that says why."""

    @classmethod
    def parse(cls, text: bytes) -> KeySet:
        """Read a key set. Raises BadKeySet if it is none, or has no key that can be used."""
        if len(text) > MAX_KEY_SET:
            raise BadKeySet(f"the key set has more than {MAX_KEY_SET} bytes")
        try:
            members = parse_object(text).get("keys")
        except ValueError as error:
            raise BadKeySet(f"the key set: {error}") from None
        if not isinstance(members, list):
            raise BadKeySet('the key set has no list "keys"')
        if len(members) > MAX_KEYS:
            raise BadKeySet(f"the key set has more than {MAX_KEYS} keys")
        keys, unused = [], []
        for number, member in enumerate(members):
            try:
                keys.append(VerificationKey.of(member))
            except BadKeySet as why:
                unused.append(f"key {number}: {why.message}")
        if not keys:
            raise BadKeySet("; ".join(["the key set has no key that can be used", *unused[:3]]))
        return cls(tuple(keys), tuple(unused))

    def knows(self, kid: str) -> bool:
        """Whether a token that names `kid` may be one of these keys'."""
        return not kid or any(key.kid == kid for key in self.keys) or not any(key.kid for key in self.keys)

    def verify(self, token: UnverifiedToken) -> None:
        """Raises TokenRefused: UNKNOWN_KEY if no key fits the token, BAD_SIGNATURE if none of those made it."""
        fitting = list(self._fitting(token))
        if not fitting:
            raise TokenRefused(
                Reason.UNKNOWN_KEY, f"no key of the issuer is named {shown(token.kid)} and is for {token.algorithm}"
            )
        if len(fitting) > MAX_TRIED:
            raise TokenRefused(Reason.UNKNOWN_KEY, f"more than {MAX_TRIED} keys would have to be tried: it needs a kid")
        if not any(key.verifies(token) for key in fitting):
            raise TokenRefused(Reason.BAD_SIGNATURE, "the signature is not one of the issuer's keys'")

    def _fitting(self, token: UnverifiedToken) -> Iterator[VerificationKey]:
        """As Envoy chooses: keys with the token's kid, and where either names none, all of the right algorithm."""
        for key in self.keys:
            if token.algorithm in key.algorithms and (not token.kid or key.kid in ("", token.kid)):
                yield key


def _algorithms(member: dict[str, Any]) -> frozenset[str]:
    kind, curve, algorithm = (member.get(name, "") for name in ("kty", "crv", "alg"))
    if not all(isinstance(one, str) for one in (kind, curve, algorithm)):
        raise BadKeySet("kty, crv and alg are strings")
    if member.get("use", "sig") != "sig":
        raise BadKeySet("its use is not sig")
    operations = member.get("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations:
        raise BadKeySet("its key_ops do not have verify")
    if kind == "RSA":
        possible = _RSA
    elif (kind, curve) in _CURVES:
        possible = frozenset({_CURVES[kind, curve]})
    else:
        raise BadKeySet(f"keys of the kind {shown(f'{kind} {curve}'.strip())} are not used")
    if algorithm and algorithm not in possible:
        raise BadKeySet(f"its alg {shown(algorithm)} is not one for {shown(f'{kind} {curve}'.strip())}")
    return frozenset({algorithm}) if algorithm else possible


def _check_rsa(key: RSAPublicKey) -> None:
    exponent = key.public_numbers().e
    if key.key_size not in RSA_BITS:
        raise BadKeySet(f"an RSA key of {key.key_size} bits; expected {RSA_BITS[0]} to {RSA_BITS[-1]}")
    if exponent < 3 or exponent % 2 == 0 or exponent.bit_length() > 32:
        raise BadKeySet("an RSA key with an exponent that nobody uses")

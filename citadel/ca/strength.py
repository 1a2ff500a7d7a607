"""Which public keys are strong enough to certify, and what is wrong with those that are not."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa

_EXPONENT = 65537
_FERMAT_ROUNDS = 100  # finds primes that share their upper half or so (as ACME CAs check it)


@dataclass(frozen=True, slots=True)
class KeyPolicy:
    """The kinds of key that are let in. Ed25519 is not among them: Envoy takes no such certificate."""

    curves: frozenset[str] = field(default=frozenset({"secp256r1", "secp384r1"}))
    rsa_bits: tuple[int, int] = (2048, 4096)  # both included


def _is_prime(number: int) -> bool:
    return not any(number % divisor == 0 for divisor in range(2, math.isqrt(number) + 1))


_PRIMES = [number for number in range(3, 752) if _is_prime(number)]
_PRODUCT = math.prod(_PRIMES)


def weakness(key: object, policy: KeyPolicy) -> str:
    """What is wrong with a public key, as the end of a sentence that starts with the key; empty if nothing is."""
    if isinstance(key, ec.EllipticCurvePublicKey):
        if key.curve.name in policy.curves:
            return ""
        return f"is on the curve {key.curve.name}; expected {' or '.join(sorted(policy.curves))}"
    if isinstance(key, rsa.RSAPublicKey):
        return _rsa_weakness(key, policy)
    return f"is {_kind(key)}; expected EC ({' or '.join(sorted(policy.curves))}) or RSA"


def _kind(key: object) -> str:
    match key:
        case ed25519.Ed25519PublicKey():
            return "Ed25519"
        case ed448.Ed448PublicKey():
            return "Ed448"
        case dsa.DSAPublicKey():
            return "DSA"
        case _:
            return "of a kind that signs nothing here"


def _rsa_weakness(key: rsa.RSAPublicKey, policy: KeyPolicy) -> str:
    least, most = policy.rsa_bits
    numbers = key.public_numbers()
    if not least <= key.key_size <= most:
        return f"is RSA with {key.key_size} bits; expected {least} to {most}"
    if numbers.e != _EXPONENT:
        shown = str(numbers.e) if numbers.e < 2**64 else f"of {numbers.e.bit_length()} bits"  # a caller chose it
        return f"is RSA with the public exponent {shown}; expected {_EXPONENT}"
    if numbers.n % 2 == 0 or math.gcd(numbers.n, _PRODUCT) != 1:
        return "is RSA with a modulus that has a small factor"
    if _has_roca_fingerprint(numbers.n):
        return "is RSA made by hardware with the ROCA defect (CVE-2017-15361)"
    if _has_close_primes(numbers.n):
        return "is RSA with primes so close together that it can be factored"
    return ""


def _powers(prime: int) -> frozenset[int]:
    """The residues modulo `prime` that are powers of 65537."""
    powers, power = set(), 1
    while power not in powers:
        powers.add(power)
        power = power * _EXPONENT % prime
    return frozenset(powers)


# ROCA (Nemec and others, "The Return of Coppersmith's Attack", CCS 2017, section 2.3): the primes of the defective
# library are powers of 65537 modulo each of the first primes, so the modulus is one too. A random modulus passes for
# one of theirs with a probability below 2^-150.
_ROCA = {prime: _powers(prime) for prime in _PRIMES if prime < 704}


def _has_roca_fingerprint(modulus: int) -> bool:
    return all(modulus % prime in powers for prime, powers in _ROCA.items())


def _has_close_primes(modulus: int) -> bool:
    """Fermat's method: n = a² - b² with a just above the root of n. A square is one prime twice."""
    root = math.isqrt(modulus)
    if root * root == modulus:
        return True
    a = root + 1
    for _ in range(_FERMAT_ROUNDS):
        square = a * a - modulus
        # squares end in one of four hexadecimal digits; this spares three roots of four
        if square & 15 in (0, 1, 4, 9) and math.isqrt(square) ** 2 == square:
            return True
        a += 1
    return False

"""RSA keys that can be factored are recognised."""

from __future__ import annotations

import math

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from citadel.ca import keys
from citadel.ca.strength import KeyPolicy, weakness

SOUND = rsa.generate_private_key(65537, 2048)
PRIME = SOUND.private_numbers().p


def public(modulus: int) -> rsa.RSAPublicKey:
    return rsa.RSAPublicNumbers(65537, modulus).public_key()


def is_probably_prime(number: int) -> bool:
    return all(pow(base, number - 1, number) == 1 for base in (2, 3, 5, 7))


def prime_after(number: int, step: int = 2) -> int:
    while not is_probably_prime(number):
        number += step
    return number


@pytest.mark.parametrize("kind", list(keys.KeyType))
def test_a_fresh_key_has_no_weakness(kind: keys.KeyType) -> None:
    assert weakness(keys.generate(kind).public_key(), KeyPolicy()) == ""


def test_a_modulus_with_a_small_factor_is_found() -> None:
    modulus = 751 * prime_after((1 << 2040) + 1)
    assert weakness(public(modulus), KeyPolicy()) == "is RSA with a modulus that has a small factor"


def test_primes_that_are_close_together_are_found() -> None:
    modulus = PRIME * prime_after(PRIME + 2)
    assert "primes so close together" in weakness(public(modulus), KeyPolicy())


def test_primes_of_the_roca_defect_are_found() -> None:
    """Such a prime is k * M + (65537**a mod M), M the product of the first 126 primes."""
    first = [
        number for number in range(2, 702) if all(number % divisor for divisor in range(2, math.isqrt(number) + 1))
    ]
    product = math.prod(first)
    assert len(first) == 126

    def prime(exponent: int) -> int:
        rest = pow(65537, exponent, product)
        k = (1 << 1023) // product + exponent
        return prime_after(k * product + rest, step=product)

    modulus = prime(123456789) * prime(987654321)
    assert modulus.bit_length() >= 2047
    assert "ROCA" in weakness(public(modulus), KeyPolicy(rsa_bits=(2040, 4096)))

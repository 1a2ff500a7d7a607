"""What all engines of the double answer with: refusals, and values as Vault writes them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization

PEM = serialization.Encoding.PEM


class Refused(Exception):
    def __init__(self, status: int, *errors: str) -> None:
        self.status, self.errors = status, errors


def pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(PEM).decode().strip()


def role_facts(role: dict[str, Any]) -> dict[str, Any]:
    """As Vault gives a role back: durations in seconds."""
    durations = {name: int(duration(role[name]).total_seconds()) for name in role if name.endswith(("ttl", "duration"))}
    return {**role, **durations}


def duration(text: object) -> timedelta:
    if isinstance(text, int):
        return timedelta(seconds=text)
    units = {"s": 1, "m": 60, "h": 3600}
    written = str(text)
    return timedelta(seconds=float(written[:-1]) * units[written[-1]] if written[-1] in units else float(written))

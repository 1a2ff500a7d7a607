"""How a provider is reached."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ProviderTls:
    """TLS to a provider, whose certificate must be valid for its host."""

    roots: bytes | None = None
    """PEM. None: the system's."""

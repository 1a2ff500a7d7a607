"""The clusters that the filters send to: who runs the Envoy must define them under these names."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Cluster:
    """An upstream of a filter, to be defined in the bootstrap or by CDS."""

    name: str
    host: str
    port: int
    tls: bool = False
    """Its certificate must be verified for `host`."""
    http2: bool = False
    """gRPC."""

    def to_json(self) -> dict[str, str | int | bool]:
        return {"name": self.name, "host": self.host, "port": self.port, "tls": self.tls, "http2": self.http2}

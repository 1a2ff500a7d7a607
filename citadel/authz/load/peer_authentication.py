"""A PeerAuthentication's `spec`, read and checked as Istio's CRD and webhook check it."""

from __future__ import annotations

from citadel.authz.load import values
from citadel.authz.load.findings import Findings, found
from citadel.authz.load.shared import selector
from citadel.authz.load.tree import Path, Value, key_text
from citadel.authz.model import Metadata, MtlsMode, PeerAuthentication

_SPEC = ("selector", "mtls", "portLevelMtls")
_MODES = tuple(mode.value for mode in MtlsMode)


def peer_authentication(findings: Findings, spec: Value, path: Path, metadata: Metadata) -> PeerAuthentication:
    fields = findings.mapping(spec, path, _SPEC, "the spec of a PeerAuthentication")
    chosen = selector(findings, fields["selector"], (*path, "selector")) if "selector" in fields else None
    at = (*path, "portLevelMtls")
    ports = _ports(findings, fields["portLevelMtls"], at) if "portLevelMtls" in fields else ()
    if ports and (chosen is None or not chosen.match_labels):
        findings.mistake(at, "it needs a selector with labels: ports belong to workloads, not to a namespace or mesh")
    return PeerAuthentication(
        metadata=metadata,
        mtls=_mode(findings, fields["mtls"], (*path, "mtls")) if "mtls" in fields else MtlsMode.UNSET,
        port_level_mtls=ports,
        selector=chosen,
    )


def _ports(findings: Findings, value: Value, path: Path) -> tuple[tuple[int, MtlsMode], ...]:
    if not isinstance(value, dict):
        findings.mistake(path, f"expected a mapping from ports to modes{found(value)}")
        return ()
    if not value:
        findings.mistake(path, "it is empty; leave it out, or name a port")
    ports: dict[int, MtlsMode] = {}
    for key, inner in value.items():
        text = key_text(key)
        at = (*path, text)
        number = values.port(text)
        if not isinstance(number, int) or number == 0:
            findings.mistake(at, f'"{text[:40]}" is not a port: expected a number from 1 to 65535')
            continue
        if number in ports:
            findings.mistake(at, f"port {number} is there twice")
        ports[number] = _mode(findings, inner, at)
    return tuple(sorted(ports.items()))


def _mode(findings: Findings, value: Value, path: Path) -> MtlsMode:
    inner = findings.mapping(value, path, ("mode",), "mTLS settings")
    if "mode" not in inner:
        return MtlsMode.UNSET
    return MtlsMode(findings.one_of(inner["mode"], (*path, "mode"), _MODES) or MtlsMode.UNSET)

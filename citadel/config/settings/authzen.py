"""`[authorization.authzen]`: OpenID AuthZEN's Authorization API."""

from __future__ import annotations

from typing import Literal

from citadel.config.settings.section import Section, setting
from citadel.config.values import (
    Callers,
    FileMode,
    OptionalGroup,
    OptionalHttpsDocument,
    OptionalHttpsUrl,
    OptionalListen,
    OptionalPath,
    OptionalSocketPath,
    OptionalSpiffeId,
    Size,
    TrustDomainNames,
)


class AuthzenSettings(Section):
    """OpenID AuthZEN's Authorization API, for applications and gateways: see docs/authzen.md."""

    socket: OptionalSocketPath = setting("", "Unix socket that it listens on. Empty: none.")
    socket_mode: FileMode = setting("0660", "Its file mode, in octal.")
    socket_group: OptionalGroup = setting("", "Name or number of the group that owns it. Empty: that of the process.")
    address: OptionalListen = setting(
        "",
        "Address and port that it listens on, by TLS; every client must show a certificate, or bring an access "
        "token (`bearer_issuer`). Empty: none.",
    )
    tls_cert: OptionalPath = setting(
        "", "For `address`: PEM file of our certificate with its chain. Read when it changes."
    )
    tls_key: OptionalPath = setting("", "For `address`: PEM file of its key.")
    client_ca: OptionalPath = setting(
        "", "For `address`: PEM file of the CAs that signed the clients' certificates. Empty: our own trust bundle."
    )
    client_ca_trust_domains: TrustDomainNames = setting(
        [],
        "The trust domains that the CAs of `client_ca` speak for: SPIFFE IDs of others name nobody. Must be set with "
        "`client_ca`; our own trust bundle speaks for our own trust domain.",
    )
    allow: Callers = setting(
        [],
        "Who may ask: `uid:NAME` and `gid:NAME` on the socket, SPIFFE IDs at the address, `sub:NAME` of access tokens. "
        "Nobody else.",
        reload=True,
    )
    bearer_issuer: OptionalHttpsDocument = setting(
        "",
        "Issuer of access tokens (JWT) that callers may bring as `Authorization: Bearer`; then clients at the address "
        "need no certificate. Empty: none are taken.",
    )
    bearer_audience: str = setting("", "What must be in their `aud`. Empty: `url`.")
    bearer_jwks_url: OptionalHttpsDocument = setting(
        "", "Where the issuer's keys are. Empty: OpenID discovery says so."
    )
    claims_from: Callers = setting(
        [],
        "Whose `subject.properties` count as claims, in the same form; for others only the directory's.",
        reload=True,
    )
    workload: OptionalSpiffeId = setting(
        "", "Whose policies are asked where a question does not say (`resource.properties.workload`)."
    )
    entities: OptionalPath = setting(
        "", "File of entities, which fills in what questions leave out. Empty: none, and there is no search."
    )
    entities_source: Literal["file", "store"] = setting(
        "file",
        "Where the entities come from: `file`, the one that `entities` names; `store`, those that `citadel entity "
        "apply` put into the database. One or the other.",
    )
    url: OptionalHttpsUrl = setting(
        "", "How clients call this decision point, in its metadata: `https://host`. Empty: `https://` and the address."
    )
    answers_say_why: bool = setting(False, "Whether answers carry a `context` with reason, policy and version.")
    max_body: Size = setting("1MiB", "The largest body that is read.")

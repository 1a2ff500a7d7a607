"""Every setting that there is: its name, kind, default, and what it is for. docs/configuration.md is made from this."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from citadel.config.providers import ExtensionProviders
from citadel.config.values import (
    AbsolutePath,
    Callers,
    Command,
    Duration,
    FileMode,
    Groups,
    HeaderLines,
    HeaderNames,
    HostNames,
    Kek,
    KeyTypeName,
    Networks,
    NodeName,
    OptionalGroup,
    OptionalHttpsUrl,
    OptionalListen,
    OptionalPath,
    OptionalSecret,
    OptionalSocketPath,
    OptionalSpiffeId,
    Part,
    Paths,
    Quiet,
    Size,
    SocketPath,
    SpiffeIds,
    Steps,
    TimeZone,
    TrustDomainName,
    TrustDomainNames,
    Urls,
    Users,
    VaultPath,
    WebhookUrl,
)


def setting(default: Any, description: str, *, reload: bool = False, **limits: Any) -> Any:
    """A setting with its default as a user would write it. `reload`: SIGHUP takes a changed value into use."""
    return Field(
        default, description=description, validate_default=True, json_schema_extra={"reload": reload}, **limits
    )


def required(description: str) -> Any:
    return Field(description=description, json_schema_extra={"reload": False})


class Section(BaseModel):
    """A table of settings: frozen, and unknown keys are mistakes. A section that is not there has its defaults."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _absent_sections_have_defaults(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        return {name: {} for name in cls.sections()} | given  # {} and not an instance: defaults need the context

    @classmethod
    def sections(cls) -> dict[str, type[Section]]:
        """The sections right below this one, by name."""
        found = {}
        for name, field in cls.model_fields.items():
            kind = field.annotation
            if isinstance(kind, type) and issubclass(kind, Section):
                found[name] = kind
        return found


class StoreSettings(Section):
    """Where everything that must last is written."""

    url: SecretStr = setting(
        "",
        "Database. Empty: SQLite in `DATA_DIR/db/citadel.db`. Otherwise `sqlite:////absolute/path`, or "
        "`postgresql://user@host:port/name` for several servers. A password in it is taken from the environment "
        "(`CITADEL_STORE__URL`) only, never from the file: use `store.password_file`.",
    )
    password_file: OptionalSecret = setting(
        "", "Password of the database user: `file:PATH` (mode 0600) or `credential:NAME` (systemd's LoadCredential=)."
    )
    pool_size: int = setting(10, "Connections to PostgreSQL that are held open.", ge=1, le=1000)
    timeout: Duration = setting(
        "10s",
        "How long to wait for the database: for a connection to it, for a lock, for its answer to one statement.",
    )


class AdminSocketSettings(Section):
    """The unix socket that the command line talks to: who reaches it can make identities."""

    path: SocketPath = setting("DATA_DIR/run/admin.sock", "Where the admin socket is.")
    mode: FileMode = setting("0660", "Its file mode, in octal.")
    group: OptionalGroup = setting("", "Name or number of the group that owns it. Empty: that of the process.")
    allow_uids: Users = setting(
        [],
        "Names or numbers of users who are let in, besides root and the user that Citadel runs as.",
        reload=True,
    )
    allow_gids: Groups = setting([], "Names or numbers of groups whose members are let in.", reload=True)


class WorkloadSocketSettings(Section):
    """The unix socket that workloads and Envoys talk to. Open to all on the machine; each caller is attested."""

    path: SocketPath = setting("DATA_DIR/run/workload.sock", "Where the workload socket is.")
    mode: FileMode = setting("0666", "Its file mode, in octal.")
    quota_connections_per_uid: int = setting(1024, "Connections that one user may hold open.", reload=True, ge=1)
    quota_streams_per_uid: int = setting(
        4096, "Streams that one user may hold open, and (but at least 100) open within ten seconds.", reload=True, ge=1
    )
    quota_clients_per_process: int = setting(
        64,
        "Envoy node ids that one process may go by. Each is a client that a rotation of the root waits for, as long as "
        "the process lives and may hold something valid.",
        reload=True,
        ge=1,
    )
    quota_clients_per_uid: int = setting(4096, "The same, of all processes of one user together.", reload=True, ge=1)
    max_connections: int = setting(16384, "Connections of all users together.", reload=True, ge=1)
    max_resources_per_stream: int = setting(256, "Resources that one stream may subscribe to.", ge=1, le=100_000)


class SocketsSettings(Section):
    """The two unix sockets."""

    admin: AdminSocketSettings
    workload: WorkloadSocketSettings


class FilesSettings(Section):
    """Certificates from files that an Envoy names itself, as with Istio: `file-cert:CERT~KEY` and `file-root:CERTS`."""

    enabled: bool = setting(False, "Whether such names are served.")
    directories: Paths = setting(
        [],
        "The folders that files may lie in, links followed. A caller gets only what it could read itself by the "
        "file's owner, group and mode; a key that everybody can read is refused.",
    )


class HttpSettings(Section):
    """`/livez`, `/readyz` and `/metrics`, without authentication: keep it on loopback or a management network."""

    address: OptionalListen = setting("127.0.0.1:8476", "Address and port to listen on. Empty: off.")


class KeysSettings(Section):
    """How private keys are protected at rest."""

    kek: Kek = setting(
        "file:DATA_DIR/keys/kek",
        "The key that encrypts private keys at rest: `file:PATH` (mode 0600), `credential:NAME` (systemd's "
        "LoadCredential=), or `vault-transit:MOUNT/NAME`, a key of Vault's transit engine (see docs/vault.md).",
    )


class RootSettings(Section):
    """The root of trust."""

    kind: Literal["disk", "cacerts", "vault"] = setting(
        "disk",
        "`disk`: made by Citadel and kept encrypted in its store. `cacerts`: your own files, in Istio's layout. "
        "`vault`: a CA in Vault or OpenBao, which signs the issuing CAs; see `[vault]` and docs/vault.md.",
    )
    cacerts_dir: OptionalPath = setting(
        "",
        "For `cacerts`: the folder with `ca-cert.pem`, `ca-key.pem`, `cert-chain.pem`, `root-cert.pem` and, if there "
        "is one, `ca-crl.pem`.",
    )
    vault_mount: VaultPath = setting("pki", "For `vault`: where the PKI secrets engine is mounted.")
    vault_issuer: VaultPath = setting(
        "",
        "For `vault`: id or name of the issuer in that mount. An id is safer: who may write to the mount can give a "
        "name to another issuer. Empty: the only one there is; with several it must be set.",
    )
    ttl: Duration = setting("10y", "Lifetime of a root that Citadel makes.")
    key_type: KeyTypeName = setting("ec-p256", "Key of a root that Citadel makes.")


class VaultAuthSettings(Section):
    """How Citadel signs in to Vault. Every file is read again at each login."""

    method: Literal["token", "approle", "kubernetes", "jwt", "cert"] = setting(
        "token", "`token`: one from a file; `approle`, `kubernetes`, `jwt`; `cert`: `vault.client_cert`."
    )
    mount: VaultPath = setting("", "Where the method is mounted, below `auth/`. Empty: a mount of the method's name.")
    role: VaultPath = setting("", "For `kubernetes` and `jwt`: the role. For `cert`: its name; empty: Vault finds it.")
    role_id: VaultPath = setting("", "For `approle`: the role id.")
    token_file: OptionalSecret = setting("", "For `token`: `file:PATH` (mode 0600) or `credential:NAME`.")
    secret_id_file: OptionalSecret = setting("", "For `approle`: `file:PATH` (mode 0600) or `credential:NAME`.")
    wrapped: bool = setting(
        False,
        "For `token` and `approle`: the file holds the token of a wrapping, which opens once: each start needs one.",
    )
    jwt_file: OptionalPath = setting(
        "", "For `kubernetes` and `jwt`: the file with the JWT. Empty: a Kubernetes pod's own token."
    )


class VaultSettings(Section):
    """Vault or OpenBao, for what is to be kept there. See docs/vault.md."""

    addresses: Urls = setting(
        [], "Where it is, such as `https://vault.example.org:8200`; several of one cluster, the preferred one first."
    )
    namespace: VaultPath = setting("", "The namespace, if there are any.")
    ca_file: OptionalPath = setting("", "PEM file of the CAs that signed Vault's TLS certificate. Empty: the system's.")
    client_cert: OptionalPath = setting("", "PEM file of the client certificate that is shown to it.")
    client_key: OptionalPath = setting("", "PEM file of the key of `client_cert`.")
    timeout: Duration = setting("10s", "How long one call to one address may take.")
    check: Duration = setting("30s", "How often it is asked whether all is well, and what its issuer is now.")
    auth: VaultAuthSettings


class CaSettings(Section):
    """The issuing CA: it signs the workloads' certificates, and the root signs it."""

    ttl: Duration = setting("7d", "Lifetime of an issuing CA. It is renewed well before it would cut a leaf short.")
    key_type: KeyTypeName = setting("ec-p256", "Key of an issuing CA.")


class SignerSettings(Section):
    """What signs the workloads' certificates: where the issuing CA's key is. See docs/vault.md."""

    kind: Literal["disk", "vault-transit", "vault-pki"] = setting(
        "disk",
        "`disk`: a key that Citadel makes and keeps encrypted in its store. `vault-transit`: one in Vault's transit "
        "engine, which never leaves it. `vault-pki`: Vault's PKI engine makes each certificate.",
    )
    vault_mount: VaultPath = setting(
        "",
        "For `vault-transit`: where a transit engine is mounted that is for this Citadel alone. For `vault-pki`: where "
        "the PKI engine with the issuing CA is mounted.",
    )
    vault_issuer: VaultPath = setting(
        "",
        "For `vault-pki`: id of the issuing CA in that mount, an intermediate under the root. Empty: the only one.",
    )
    vault_role: VaultPath = setting("", "For `vault-pki`: the role by which certificates are made.")


class ScheduleSettings(Section):
    """Planned rotation: what Citadel replaces by itself, and when. `citadel root plan` shows what comes of it."""

    root_at: Part = setting("80%", "At which part of its life the root is replaced. 0: never by itself.")
    issuing_at: Part = setting("50%", "At which part of its life an issuing CA is replaced.")
    approval: bool = setting(True, "Whether a planned rotation of the root waits for `citadel root approve` to begin.")
    quiet_hours: Quiet = setting(
        [],
        "When no planned step is taken: `Mon-Fri 08:00-18:00`, `Sat,Sun 00:00-24:00`, `22:00-06:00`. What an operator "
        "asks for, an emergency, and an issuing CA that is about to end, do not wait for them.",
    )
    time_zone: TimeZone = setting("UTC", "By whose clocks: a name such as `Europe/Berlin`.")


class HookSettings(Section):
    """Checks of your own that a rotation has to pass: before a root is prepared, before it signs, before the old one is
    removed. A no holds the step (`citadel root status`); `--force` overrides it. An emergency asks nobody."""

    command: Command = setting(
        [],
        "A program and its arguments, run without a shell: it reads JSON on its standard input, and exit status 0 lets "
        "the rotation pass. Empty: none.",
    )
    webhook: WebhookUrl = setting(
        "", "An HTTPS address that the same JSON is posted to: an answer of 2xx lets the rotation pass. Empty: none."
    )
    webhook_secret: OptionalSecret = setting(
        "", "The key that signs what is posted (standard-webhooks.com): `file:PATH` (mode 0600) or `credential:NAME`."
    )
    webhook_ca: OptionalPath = setting("", "PEM file of the CAs of the webhook's certificate. Empty: the system's.")
    steps: Steps = setting(["prepare", "activate", "remove"], "The steps that are asked about.")
    timeout: Duration = setting("10s", "How long an answer may take.")
    again: Duration = setting("1m", "After a no, how long until it is asked again.")


class RotationSettings(Section):
    """Rotation of the root: for whom it waits, and for how long. See docs/rotation.md."""

    reconnect_window: Duration = setting(
        "30s", "After a start, and after each new bundle, clients have this long to connect before a gate opens."
    )
    grace: Duration = setting(
        "1h", "A client that is silent or gone for this long is recorded, and no longer waited for."
    )
    assumed_after: Duration = setting(
        "5m", "How long those who cannot acknowledge a bundle are given to read it again: their refresh hint, or more."
    )
    session_life: Duration = setting(
        "1h", "How long connections live at most: `max_connection_duration` of your Envoys. The old root stays for it."
    )
    emergency_gate: Duration = setting(
        "60s", "How long a compromised root goes on signing for those who have not acknowledged the new one."
    )
    clock_skew: Duration = setting("60s", "How far the clocks of the mesh may differ.")
    reissue_per_second: float = setting(
        50.0, "How many certificates of the old root are replaced each second.", gt=0, le=100_000
    )
    approval: bool = setting(
        False, "Whether activation waits for `citadel root activate`, even if all have acknowledged."
    )
    plugged: Literal["command", "automatic"] = setting(
        "command",
        "Whether a root that was plugged in waits for `citadel root rotate`, or a rotation to it begins by itself.",
    )
    check: Duration = setting("1s", "How often a rotation is looked at, besides whenever something changes.")
    schedule: ScheduleSettings
    hooks: HookSettings


class SvidSettings(Section):
    """The workloads' certificates."""

    default_ttl: Duration = setting("1h", "Lifetime where an entry does not say.", reload=True)
    min_ttl: Duration = setting("1m", "Shortest lifetime that an entry may ask for.", reload=True)
    max_ttl: Duration = setting("24h", "Longest lifetime that an entry may ask for.", reload=True)
    backdate: Duration = setting("60s", "How far notBefore lies back, for machines whose clocks lag.", reload=True)
    key_type: KeyTypeName = setting("ec-p256", "Kind of the keys that are made for workloads.")


class BundleSettings(Section):
    """The trust bundle."""

    refresh_hint: Duration = setting("5m", "How often those who cannot be pushed to should read the bundle again.")


class UnixAttestorSettings(Section):
    """`unix:` selectors, from the kernel."""

    discover_path: bool = setting(
        False,
        "Whether `unix:path` and `unix:sha256` are found out, by `/proc/PID/exe`; this needs root or ptrace rights.",
    )
    max_hash_size: Size = setting("256MiB", "Programs larger than this get no `unix:sha256`. 0: none get one.")


class SystemdAttestorSettings(Section):
    """`systemd:` selectors: the unit that a process belongs to."""

    enabled: bool = setting(True, "Whether to ask systemd, on machines that run it.")


class DockerAttestorSettings(Section):
    """`docker:` selectors: the container that a process runs in."""

    enabled: bool = setting(True, "Whether to ask Docker, on machines that have its socket.")
    socket: AbsolutePath = setting("/var/run/docker.sock", "Docker's API socket.")


class AttestorsSettings(Section):
    """How workloads are told apart."""

    timeout: Duration = setting("2s", "How long one attestor may take; then its selectors are left out.")
    recheck: Duration = setting("10s", "How often a caller with an open stream is looked at again.")
    unix: UnixAttestorSettings
    systemd: SystemdAttestorSettings
    docker: DockerAttestorSettings


class JobsSettings(Section):
    """How often things are done by the clock."""

    renew_ca: Duration = setting("1m", "Looks whether the issuing CA is to be renewed.")
    plugged_ca: Duration = setting("10s", "Looks for changed files in `root.cacerts_dir`.")
    expire_entries: Duration = setting("5s", "Deletes registration entries whose time is over.")
    planned_rotation: Duration = setting("1m", "Looks whether a planned rotation is due.")
    prune: Duration = setting("1h", "Deletes what is older than `[retention]` says.")
    audit_checkpoint: Duration = setting("5m", "Signs how far the audit log goes, if there is anything new in it.")


class LogSettings(Section):
    """The log, on standard error."""

    level: Literal["debug", "info", "warning", "error"] = setting("info", "What is logged.", reload=True)
    format: Literal["auto", "json", "console"] = setting(
        "auto", "`json`: one object a line. `console`: for people. `auto`: console on a terminal, else json."
    )


class AuditSettings(Section):
    """The audit log: who did what, chained by hashes."""

    writer: NodeName = setting("local", "Name of this server's own chain. Servers that share a database differ in it.")
    checkpoint_records: int = setting(
        10_000, "A checkpoint is signed whenever so many records came since the last one.", ge=100, le=10_000_000
    )


class RetentionSettings(Section):
    """How long records are kept."""

    issuance: Duration = setting("90d", "Records of certificates, after these have expired.", reload=True)
    audit: Duration = setting(
        "1y", "Records of the audit log. Its checkpoints stay, so that the rest can be verified.", reload=True
    )
    clients: Duration = setting("30d", "What clients acknowledged, after they were last heard of.", reload=True)
    batch: int = setting(1000, "Rows that one deleting transaction takes.", reload=True, ge=1, le=100_000)


class ApplySettings(Section):
    """Registration entries from a folder of files that is watched, as `citadel entry apply` would."""

    directory: OptionalPath = setting("", "The folder of `*.yaml`, `*.yml` and `*.json` files. Empty: off.")
    set: str = setting(
        "default", "Name of the apply set that its entries belong to.", pattern=r"^[A-Za-z0-9._-]{1,63}\z"
    )
    prune: bool = setting(False, "Whether entries of the set that are in no file any more are deleted.")


_NAMESPACE = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\z"


class AuthorizationKeysSettings(Section):
    """Where keys of token issuers may be fetched (`jwksUri`, OpenID discovery). See docs/authorization-tokens.md."""

    plain_http_hosts: HostNames = setting(
        [], "Hosts, without port, that may be asked without TLS. All others are asked by https only."
    )
    refused_networks: Networks = setting(
        ["127.0.0.0/8", "::1/128"],
        "Networks in which nobody is asked for keys. Besides, always: link-local, multicast, reserved, cloud metadata.",
    )


class AuthzenSettings(Section):
    """OpenID AuthZEN's Authorization API, for applications and gateways: see docs/authzen.md."""

    socket: OptionalSocketPath = setting("", "Unix socket that it listens on. Empty: none.")
    socket_mode: FileMode = setting("0660", "Its file mode, in octal.")
    socket_group: OptionalGroup = setting("", "Name or number of the group that owns it. Empty: that of the process.")
    address: OptionalListen = setting(
        "", "Address and port that it listens on, by TLS; every client must show a certificate. Empty: none."
    )
    tls_cert: OptionalPath = setting(
        "", "For `address`: PEM file of our certificate with its chain. Read when it changes."
    )
    tls_key: OptionalPath = setting("", "For `address`: PEM file of its key.")
    client_ca: OptionalPath = setting(
        "", "For `address`: PEM file of the CAs that signed the clients' certificates. Empty: our own trust bundle."
    )
    allow: Callers = setting(
        [],
        "Who may ask: `uid:NAME` and `gid:NAME` on the socket, SPIFFE IDs at the address. Nobody else.",
        reload=True,
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
    url: OptionalHttpsUrl = setting(
        "", "How clients call this decision point, in its metadata: `https://host`. Empty: `https://` and the address."
    )
    answers_say_why: bool = setting(False, "Whether answers carry a `context` with reason, policy and version.")
    max_body: Size = setting("1MiB", "The largest body that is read.")


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


class DecisionLogSettings(Section):
    """What was decided: every denial, and some of what was allowed. See docs/authorization-doors.md."""

    path: OptionalPath = setting(
        "DATA_DIR/decisions/decisions.jsonl", "The file that decisions are logged to, a line of JSON each. Empty: none."
    )
    mode: FileMode = setting("0600", "Mode of the file.")
    size: Size = setting("64MiB", "The file is rotated before it is larger.")
    files: int = setting(4, "How many files are kept, the one that is written to included.", ge=1, le=100)
    stream: bool = setting(True, "Whether decisions are in the log on standard error, too.")
    allows: float = setting(0.0, "Which share of the allowed requests is logged, from 0 to 1.", ge=0, le=1)
    masked_headers: HeaderNames = setting(
        [], "Headers whose values are never logged, besides those that hold secrets by their names."
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


class AuthorizationSettings(Section):
    """Who may call what, by Istio's policies: see docs/authorization-doors.md."""

    source: Literal["files", "store"] = setting(
        "files",
        "Where the policies come from: `files`, those in `policies`; `store`, those that `citadel policy apply` put "
        "into the database. One or the other, never both.",
    )
    policies: OptionalPath = setting(
        "", "The file or folder of policies that is followed. Empty: every check is denied as `not-loaded`."
    )
    trust_domain_aliases: TrustDomainNames = setting(
        [], "Other names of the trust domain: principals of one of them mean the same workload in all."
    )
    root_namespace: str = setting(
        "istio-system", "Policies of this namespace apply to all namespaces.", pattern=_NAMESPACE
    )
    default_namespace: str = setting(
        "default",
        "The namespace of documents that have none, and of workloads whose SPIFFE ID is not `/ns/NAMESPACE/...`.",
        pattern=_NAMESPACE,
    )
    path_normalization: Literal["NONE", "BASE", "MERGE_SLASHES", "DECODE_AND_MERGE_SLASHES"] = setting(
        "DECODE_AND_MERGE_SLASHES",
        "How paths are normalised before they are matched, in Istio's names. It must be what your listeners do; those "
        "that Citadel generates do the default.",
    )
    trusted_proxies: int = setting(
        0,
        "How many proxies of yours stand before the Envoy that asks: the client's address is taken from as far back in "
        "`X-Forwarded-For`. 0: it is that of the direct peer.",
        ge=0,
        le=100,
    )
    claims_from: SpiffeIds = setting(
        [],
        "SPIFFE IDs of the local proxies whose dynamic metadata counts: the claims of tokens that they have verified "
        "(`envoy.filters.http.jwt_authn`), and `experimental.envoy.filters.*`. If there is a token in the request as "
        "well, only that counts, and is verified here.",
    )
    path_normalized: bool = setting(
        False,
        "Whether all listeners that ask have normalised the path already. Then a path that they cannot have left is "
        "refused, instead of being normalised once more.",
    )
    denial_headers: HeaderLines = setting(
        [],
        "Headers for the client whose request is denied, such as `x-denied-by: {policy}`; `{reason}`, `{policy}`, "
        "`{id}` (of the decision) and `{version}` (of the policies) are filled in.",
    )
    providers: ExtensionProviders = setting(
        [],
        "Whom CUSTOM policies ask, a table `[[authorization.providers]]` for each: see docs/authorization-doors.md. A "
        "policy that names another one denies what it matches.",
    )
    several_providers: bool = setting(
        False,
        "Whether CUSTOM policies of one workload may name different providers, all of which must allow. Otherwise, as "
        "in Istio, such policies deny what they match.",
    )
    keys: AuthorizationKeysSettings
    authzen: AuthzenSettings
    tcp: ExtAuthzSettings
    decision_log: DecisionLogSettings
    http: ExtAuthzHttpSettings


class Settings(Section):
    """All settings. Made by `load` and `parse`; what is in one has been checked, each value and one against another."""

    trust_domain: TrustDomainName = required("The trust domain, such as `example.org`. It cannot be changed later.")
    data_dir: AbsolutePath = required("Where Citadel keeps its database, keys and sockets.")
    node_name: NodeName = setting("local", "Name of this machine's node, below which workloads are registered.")
    store: StoreSettings
    sockets: SocketsSettings
    files: FilesSettings
    http: HttpSettings
    keys: KeysSettings
    root: RootSettings
    vault: VaultSettings
    ca: CaSettings
    signer: SignerSettings
    rotation: RotationSettings
    svid: SvidSettings
    bundle: BundleSettings
    attestors: AttestorsSettings
    jobs: JobsSettings
    log: LogSettings
    audit: AuditSettings
    retention: RetentionSettings
    apply: ApplySettings
    authorization: AuthorizationSettings

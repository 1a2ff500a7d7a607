"""How settings must agree with one another: what no single value can know of itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from itertools import combinations
from urllib.parse import urlsplit

from citadel.config.durations import format_duration
from citadel.config.settings import Settings
from citadel.config.values import TransitKey
from citadel.quiet_hours import QuietHours
from citadel.spiffe import SCHEME, SpiffeId

Field = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Conflict:
    """Settings that do not fit together. `fields`: all that take part, the one to mend first."""

    fields: tuple[Field, ...]
    message: str


def conflicts(settings: Settings) -> Iterator[Conflict]:
    """Everything in which `settings` contradict themselves."""
    yield from _lifetimes(settings)
    yield from _positive(settings)
    yield from _sockets(settings)
    yield from _files(settings)
    yield from _root(settings)
    yield from _vault(settings)
    yield from _signer(settings)
    yield from _store(settings)
    yield from _policies(settings)
    yield from _workers(settings)
    yield from _authzen(settings)
    yield from _rotation(settings)


def _lifetimes(settings: Settings) -> Iterator[Conflict]:
    """An issuer must outlive what it signs, with room to be renewed: at half its life it still covers a whole leaf."""
    svid, ca, root = settings.svid, settings.ca, settings.root
    ladder = [
        (("svid", "min_ttl"), svid.min_ttl),
        (("svid", "default_ttl"), svid.default_ttl),
        (("svid", "max_ttl"), svid.max_ttl),
    ]
    for (low, shorter), (high, longer) in combinations(ladder, 2):
        if shorter > longer:
            yield Conflict(
                (low, high),
                f"{dotted(low)} ({format_duration(shorter)}) is longer than {dotted(high)} ({format_duration(longer)})",
            )
    if svid.max_ttl * 2 > ca.ttl:
        yield Conflict(
            (("svid", "max_ttl"), ("ca", "ttl")),
            f"svid.max_ttl ({format_duration(svid.max_ttl)}) is more than half of ca.ttl ({format_duration(ca.ttl)}); "
            "the issuing CA would cut such certificates short",
        )
    if root.kind == "disk" and ca.ttl * 2 > root.ttl:
        yield Conflict(
            (("ca", "ttl"), ("root", "ttl")),
            f"ca.ttl ({format_duration(ca.ttl)}) is more than half of root.ttl ({format_duration(root.ttl)})",
        )
    if svid.backdate > timedelta(hours=1):
        yield Conflict((("svid", "backdate"),), f"{format_duration(svid.backdate)} is more than 1h")


def _positive(settings: Settings) -> Iterator[Conflict]:
    for name in (
        "svid.min_ttl",
        "store.timeout",
        "attestors.timeout",
        "attestors.recheck",
        "bundle.refresh_hint",
        "rotation.check",
    ):
        section, _, field = name.partition(".")
        if getattr(getattr(settings, section), field) < timedelta(seconds=0.1):
            yield Conflict(((section, field),), "it must be at least 100ms")
    for field in type(settings.jobs).model_fields:
        if getattr(settings.jobs, field) < timedelta(seconds=1):
            yield Conflict((("jobs", field),), "it must be at least 1s")


def _sockets(settings: Settings) -> Iterator[Conflict]:
    admin, workload = ("sockets", "admin", "path"), ("sockets", "workload", "path")
    if settings.sockets.admin.path == settings.sockets.workload.path:
        yield Conflict((workload, admin), f"{settings.sockets.workload.path} is given to both sockets")
    if settings.sockets.admin.mode & 0o002:
        yield Conflict(
            (("sockets", "admin", "mode"),),
            f"{settings.sockets.admin.mode:04o} lets everybody on the machine use the admin socket; use 0660",
        )


def _files(settings: Settings) -> Iterator[Conflict]:
    """What clients name must never reach what Citadel keeps for itself."""
    directories, enabled = ("files", "directories"), ("files", "enabled")
    if settings.files.enabled and not settings.files.directories:
        yield Conflict((directories, enabled), "files.enabled is true, and no folder is allowed")
    for folder in settings.files.directories:
        if settings.data_dir.is_relative_to(folder) or folder.is_relative_to(settings.data_dir):
            yield Conflict((directories, ("data_dir",)), f"{folder} and data_dir, {settings.data_dir}, share files")


def _policies(settings: Settings) -> Iterator[Conflict]:
    log = settings.authorization.decision_log
    if log.size < 64 * 1024:
        yield Conflict((("authorization", "decision_log", "size"),), "it must be at least 64KiB")
    if log.mode & 0o137:
        yield Conflict(
            (("authorization", "decision_log", "mode"),),
            f"{log.mode:04o} lets others read or write the decisions; use 0600 or 0640",
        )
    field = ("authorization", "policies")
    if settings.authorization.source == "store" and settings.authorization.policies is not None:
        yield Conflict(
            (field, ("authorization", "source")),
            'it is set, but authorization.source is store; of the two, one decides: remove it, or set source = "files"',
        )


def _workers(settings: Settings) -> Iterator[Conflict]:
    told, section = settings.authorization.tcp, ("authorization", "tcp")
    if not told.workers:
        return
    if told.address is None:
        yield Conflict(
            ((*section, "workers"), (*section, "address")),
            "workers serve authorization.tcp.address, and it is empty; the workload socket is always served by this "
            "process, since an Envoy that hosts Python cannot attest who is at the other end of a unix socket",
        )
    if told.workers_memory < 256 << 20:
        yield Conflict(((*section, "workers_memory"),), "it must be at least 256MiB: an Envoy with Python takes 150")
    if told.workers > told.max_connections:
        yield Conflict(
            ((*section, "max_connections"), (*section, "workers")),
            f"it is divided among the workers, and {told.max_connections} is fewer than these, {told.workers}",
        )
    if "quota_connections_per_address" in told.model_fields_set:
        yield Conflict(
            ((*section, "quota_connections_per_address"), (*section, "workers")),
            "workers cannot keep to it: an Envoy does not count the connections of an address; remove it, and bound "
            "them in the firewall (docs/authorization-doors.md), or set authorization.tcp.workers = 0",
        )


def _authzen(settings: Settings) -> Iterator[Conflict]:
    told, section = settings.authorization.authzen, ("authorization", "authzen")
    for name in ("tls_cert", "tls_key"):
        given = getattr(told, name) is not None
        if given != (told.address is not None):
            why = "it must be set, since there is an address" if not given else "it is set, and there is no address"
            yield Conflict(((*section, name), (*section, "address")), why)
    if (told.address or told.socket) and not told.allow:
        field = "address" if told.address else "socket"
        yield Conflict(((*section, "allow"), (*section, field)), "it is empty, so nobody may ask")
    yield from _authzen_clients(settings)
    policies = settings.authorization.policies
    if (told.address or told.socket) and settings.authorization.source == "files" and policies is None:
        field = "address" if told.address else "socket"
        yield Conflict(
            (("authorization", "policies"), (*section, field)), "it must be set: there is nothing to decide by"
        )
    if told.bearer_issuer and not (told.bearer_audience or told.url):
        yield Conflict(
            ((*section, "bearer_audience"), (*section, "bearer_issuer")),
            "one of it and authorization.authzen.url must be set: what tokens are meant for",
        )
    for name in ("bearer_audience", "bearer_jwks_url"):
        if getattr(told, name) and not told.bearer_issuer:
            yield Conflict(((*section, name), (*section, "bearer_issuer")), "it is set, and there is no issuer")
    if told.entities is not None and told.entities_source == "store":
        yield Conflict(((*section, "entities"), (*section, "entities_source")), "they come from the store: remove it")
    if told.socket in (settings.sockets.admin.path, settings.sockets.workload.path):
        yield Conflict(((*section, "socket"), ("sockets",)), f"{told.socket} is given to another socket")


def _authzen_clients(settings: Settings) -> Iterator[Conflict]:
    """A CA proves nothing of trust domains that it does not speak for."""
    told, section = settings.authorization.authzen, ("authorization", "authzen")
    if (told.client_ca is None) != (not told.client_ca_trust_domains):
        why = "client_ca_trust_domains must say whom these CAs speak for" if told.client_ca else "there is no client_ca"
        yield Conflict(((*section, "client_ca_trust_domains"), (*section, "client_ca")), why)
        return
    if told.address is None:  # nobody shows a certificate
        return
    spoken_for = told.client_ca_trust_domains or (settings.trust_domain,)
    for name in ("allow", "claims_from"):
        ids = [SpiffeId.parse(one) for one in getattr(told, name) if one.startswith(SCHEME)]
        if strangers := [one.uri for one in ids if one.trust_domain not in spoken_for]:
            domains = ", ".join(map(str, spoken_for))
            yield Conflict(
                ((*section, name), (*section, "client_ca_trust_domains")),
                f"no client can be {strangers[0]}: the CAs of clients speak for {domains}",
            )


def _root(settings: Settings) -> Iterator[Conflict]:
    field = ("root", "cacerts_dir")
    if settings.root.kind == "cacerts" and settings.root.cacerts_dir is None:
        yield Conflict((field, ("root", "kind")), "it must be set, since root.kind is cacerts")
    if settings.root.kind != "cacerts" and settings.root.cacerts_dir is not None:
        yield Conflict(
            (field, ("root", "kind")), f'it is set, but root.kind is {settings.root.kind}; set root.kind = "cacerts"'
        )


def _vault(settings: Settings) -> Iterator[Conflict]:
    vault, auth = settings.vault, settings.vault.auth
    if settings.root.kind == "vault" and not vault.addresses:
        yield Conflict((("vault", "addresses"), ("root", "kind")), "it must be set, since root.kind is vault")
    if isinstance(settings.keys.kek, TransitKey) and not vault.addresses:
        yield Conflict((("vault", "addresses"), ("keys", "kek")), "it must be set, since keys.kek is in Vault")
    if (vault.client_cert is None) != (vault.client_key is None):
        yield Conflict((("vault", "client_cert"), ("vault", "client_key")), "one is set without the other")
    if not vault.addresses:
        return
    needed = {
        "token": ("token_file",),
        "approle": ("role_id", "secret_id_file"),
        "kubernetes": ("role",),
        "jwt": ("role", "jwt_file"),
        "cert": (),
    }
    for name in needed[auth.method]:
        if not getattr(auth, name):
            yield Conflict(
                (("vault", "auth", name), ("vault", "auth", "method")),
                f"it must be set, since vault.auth.method is {auth.method}",
            )
    if auth.method == "cert" and vault.client_cert is None:
        yield Conflict(
            (("vault", "client_cert"), ("vault", "auth", "method")), "it must be set, since vault.auth.method is cert"
        )
    if auth.wrapped and auth.method not in ("token", "approle"):
        yield Conflict(
            (("vault", "auth", "wrapped"), ("vault", "auth", "method")), f"{auth.method} has nothing that is wrapped"
        )
    if vault.timeout < timedelta(seconds=0.1):
        yield Conflict((("vault", "timeout"),), "it must be at least 100ms")
    if vault.check < timedelta(seconds=1):
        yield Conflict((("vault", "check"),), "it must be at least 1s")


def _signer(settings: Settings) -> Iterator[Conflict]:
    signer, kind = settings.signer, ("signer", "kind")
    if signer.kind == "disk":
        return
    if not settings.vault.addresses:
        yield Conflict((("vault", "addresses"), kind), f"it must be set, since signer.kind is {signer.kind}")
    if not signer.vault_mount:
        yield Conflict((("signer", "vault_mount"), kind), f"it must be set, since signer.kind is {signer.kind}")
    if signer.kind == "vault-pki" and settings.root.kind != "vault":
        yield Conflict((("root", "kind"), kind), 'it must be "vault", since signer.kind is vault-pki')
    if signer.kind == "vault-pki" and not signer.vault_role:
        yield Conflict((("signer", "vault_role"), kind), "it must be set, since signer.kind is vault-pki")
    if signer.kind == "vault-transit" and settings.root.kind == "cacerts":
        yield Conflict((kind, ("root", "kind")), "root.kind is cacerts, and that brings its own issuing CA")
    if isinstance(kek := settings.keys.kek, TransitKey) and kek.mount == signer.vault_mount:
        yield Conflict(
            (("signer", "vault_mount"), ("keys", "kek")), f"{kek.mount} is that of keys.kek too; use one for each"
        )


def _rotation(settings: Settings) -> Iterator[Conflict]:
    at, hooks = settings.rotation.schedule, settings.rotation.hooks
    quiet, issuing = ("rotation", "schedule", "quiet_hours"), ("rotation", "schedule", "issuing_at")
    if QuietHours(at.quiet_hours).always:
        yield Conflict((quiet,), "they leave no minute of the week, so that no planned rotation ever begins")
    if 0 < at.root_at < 0.1:
        yield Conflict((("rotation", "schedule", "root_at"),), "it must be 0, or at least 10%")
    if not 0.1 <= at.issuing_at <= 0.95:
        yield Conflict((issuing,), "it must be from 10% to 95%")
    timeout, again = ("rotation", "hooks", "timeout"), ("rotation", "hooks", "again")
    if not timedelta(seconds=0.1) <= hooks.timeout <= timedelta(seconds=20):
        yield Conflict((timeout,), "it must be from 100ms to 20s: a command waits for it")
    elif hooks.command and hooks.webhook and hooks.timeout > timedelta(seconds=10):
        yield Conflict((timeout,), "with a command and a webhook, asked one after the other, it must be at most 10s")
    if hooks.again < timedelta(seconds=1):
        yield Conflict((again,), "it must be at least 1s")
    for name in ("webhook_secret", "webhook_ca"):
        if getattr(hooks, name) and not hooks.webhook:
            yield Conflict((("rotation", "hooks", name), ("rotation", "hooks", "webhook")), "there is no webhook")


def _store(settings: Settings) -> Iterator[Conflict]:
    field = ("store", "url")
    url = settings.store.url.get_secret_value()
    try:
        parts = urlsplit(url)
        has_password = parts.password is not None
    except ValueError:
        yield Conflict((field,), "it is not a URL such as postgresql://user@host:5432/name")
        return
    if not url or parts.scheme == "sqlite":
        if url and not url.startswith("sqlite:////"):
            yield Conflict((field,), "SQLite needs an absolute path: sqlite:////path/to/citadel.db, with four slashes")
        if settings.store.password_file:
            yield Conflict((("store", "password_file"), field), "SQLite has no password")
        return
    if parts.scheme != "postgresql":
        yield Conflict((field,), "it must start with sqlite:/// or postgresql://")
    elif not parts.path.strip("/"):
        yield Conflict((field,), "it names no database: postgresql://user@host:5432/name")
    if has_password and settings.store.password_file:
        yield Conflict((("store", "password_file"), field), "store.url has a password already")


def dotted(field: Field) -> str:
    return ".".join(field)

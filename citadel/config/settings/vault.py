"""`[vault]`: where Vault or OpenBao is, and how Citadel signs in."""

from __future__ import annotations

from typing import Literal

from citadel.config.settings.section import Section, setting
from citadel.config.values import Duration, OptionalPath, OptionalSecret, Urls, VaultPath


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

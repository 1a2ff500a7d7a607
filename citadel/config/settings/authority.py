"""`[keys]`, `[root]`, `[ca]` and `[signer]`: the authorities, where their keys are and how they are protected."""

from __future__ import annotations

from typing import Literal

from citadel.config.settings.section import Section, setting
from citadel.config.values import Duration, Kek, KeyTypeName, OptionalPath, VaultPath


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

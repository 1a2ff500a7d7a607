"""All settings in one: the sections, and what belongs to none."""

from __future__ import annotations

from citadel.config.settings.attestors import AttestorsSettings
from citadel.config.settings.authority import CaSettings, KeysSettings, RootSettings, SignerSettings
from citadel.config.settings.authorization import AuthorizationSettings
from citadel.config.settings.operation import AuditSettings, HttpSettings, JobsSettings, LogSettings
from citadel.config.settings.rotation import RotationSettings
from citadel.config.settings.section import Section, required, setting
from citadel.config.settings.sockets import SocketsSettings
from citadel.config.settings.store import RetentionSettings, StoreSettings
from citadel.config.settings.vault import VaultSettings
from citadel.config.settings.workloads import ApplySettings, BundleSettings, FilesSettings, SvidSettings
from citadel.config.values import AbsolutePath, NodeName, TrustDomainName


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

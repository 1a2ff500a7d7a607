"""`[svid]`, `[bundle]`, `[files]` and `[apply]`: what workloads get, and their entries from a folder."""

from __future__ import annotations

from citadel.config.settings.section import Section, setting
from citadel.config.values import Duration, KeyTypeName, OptionalPath, Paths


class FilesSettings(Section):
    """Certificates from files that an Envoy names itself, as with Istio: `file-cert:CERT~KEY` and `file-root:CERTS`."""

    enabled: bool = setting(False, "Whether such names are served.")
    directories: Paths = setting(
        [],
        "The folders that files may lie in, links followed. A caller gets only what it could read itself by the "
        "file's owner, group and mode; a key that everybody can read is refused.",
    )


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


class ApplySettings(Section):
    """Registration entries from a folder of files that is watched, as `citadel entry apply` would."""

    directory: OptionalPath = setting("", "The folder of `*.yaml`, `*.yml` and `*.json` files. Empty: off.")
    set: str = setting(
        "default", "Name of the apply set that its entries belong to.", pattern=r"^[A-Za-z0-9._-]{1,63}\z"
    )
    prune: bool = setting(False, "Whether entries of the set that are in no file any more are deleted.")

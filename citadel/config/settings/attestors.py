"""`[attestors]`: how workloads are told apart."""

from __future__ import annotations

from citadel.config.settings.section import Section, setting
from citadel.config.values import AbsolutePath, Duration, Size


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

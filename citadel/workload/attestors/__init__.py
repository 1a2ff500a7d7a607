"""Workload attestors: from a process to its selectors. Nothing that the process itself says counts."""

from citadel.workload.attestors.attest import Attestor, Attestors
from citadel.workload.attestors.docker import DockerAttestor
from citadel.workload.attestors.systemd import SystemdAttestor
from citadel.workload.attestors.unix import UnixAttestor

__all__ = ["Attestor", "Attestors", "DockerAttestor", "SystemdAttestor", "UnixAttestor"]

"""The services on the admin socket: SPIRE's where they have the call, citadel.v1 for the rest, health, reflection."""

from citadel.api.admin.server import AdminParts, add_services

__all__ = ["AdminParts", "add_services"]

"""Citadel: certificate authority and identity service for service meshes."""

__version__ = "0.1.0"

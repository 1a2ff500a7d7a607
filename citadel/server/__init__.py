"""Composition of the server, and of `citadel up`, which runs server and node in one process."""

from citadel.server.running import up
from citadel.server.server import Server

__all__ = ["Server", "up"]

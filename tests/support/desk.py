"""What `citadel root status`, `citadel ca list` and `citadel status` say, asked for from within this process.

A test that waits looks many times a second, and a program a look would keep a core busy for as long as it waits.
"""

from __future__ import annotations

from typing import Any

from citadel.api.proto.citadel.v1 import admin_pb2 as admin
from citadel.api.proto.citadel.v1 import rotation_pb2 as pb
from citadel.cli import ca, documents, root_follow
from citadel.cli.client import connect
from citadel.errors import FailedPrecondition
from tests.support.up import Up


def rotations(up: Up, *, all_of_them: bool = False) -> list[Any]:
    """As `citadel root status -o json`."""
    with connect(None, up.admin_socket) as client:
        return root_follow.plans(client, all_of_them=all_of_them)


def authorities(up: Up) -> list[Any]:
    """As `citadel ca list -o json`."""
    with connect(None, up.admin_socket) as client:
        return [documents.authority(one) for one in ca.authorities(client)]


def status(up: Up) -> Any:
    """As `citadel status -o json`."""
    with connect(None, up.admin_socket) as client:
        return documents.status(client.call(client.admin.GetStatus, admin.GetStatusRequest()))


def does(up: Up, command: str, skid: str = "") -> bool:
    """Whether `citadel root activate` or `remove` is carried out now."""
    with connect(None, up.admin_socket) as client:
        method = {"activate": client.rotation.ActivateRoot, "remove": client.rotation.RemoveRoot}[command]
        try:
            client.call(method, pb.RotationCommand(skid=skid))
        except FailedPrecondition:
            return False
    return True

"""`[sockets]`: the admin socket and the workload socket."""

from __future__ import annotations

from citadel.config.settings.section import Section, setting
from citadel.config.values import FileMode, Groups, OptionalGroup, SocketPath, Users


class AdminSocketSettings(Section):
    """The unix socket that the command line talks to: who reaches it can make identities."""

    path: SocketPath = setting("DATA_DIR/run/admin.sock", "Where the admin socket is.")
    mode: FileMode = setting("0660", "Its file mode, in octal.")
    group: OptionalGroup = setting("", "Name or number of the group that owns it. Empty: that of the process.")
    allow_uids: Users = setting(
        [],
        "Names or numbers of users who are let in, besides root and the user that Citadel runs as.",
        reload=True,
    )
    allow_gids: Groups = setting([], "Names or numbers of groups whose members are let in.", reload=True)


class WorkloadSocketSettings(Section):
    """The unix socket that workloads and Envoys talk to. Open to all on the machine; each caller is attested."""

    path: SocketPath = setting("DATA_DIR/run/workload.sock", "Where the workload socket is.")
    mode: FileMode = setting("0666", "Its file mode, in octal.")
    quota_connections_per_uid: int = setting(1024, "Connections that one user may hold open.", reload=True, ge=1)
    quota_streams_per_uid: int = setting(
        4096, "Streams that one user may hold open, and (but at least 100) open within ten seconds.", reload=True, ge=1
    )
    quota_clients_per_process: int = setting(
        64,
        "Envoy node ids that one process may go by. Each is a client that a rotation of the root waits for, as long as "
        "the process lives and may hold something valid.",
        reload=True,
        ge=1,
    )
    quota_clients_per_uid: int = setting(4096, "The same, of all processes of one user together.", reload=True, ge=1)
    max_connections: int = setting(16384, "Connections of all users together.", reload=True, ge=1)
    max_resources_per_stream: int = setting(256, "Resources that one stream may subscribe to.", ge=1, le=100_000)


class SocketsSettings(Section):
    """The two unix sockets."""

    admin: AdminSocketSettings
    workload: WorkloadSocketSettings

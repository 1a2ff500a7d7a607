"""Sets of policies as operators name them: files, folders, or versions of a running Citadel's store."""

from __future__ import annotations

import re
from contextlib import ExitStack
from pathlib import Path

from citadel.api.proto.citadel.v1 import policies_pb2 as pb
from citadel.authz import PolicySet
from citadel.authz.load import SourceText, load
from citadel.authz.policyset import compile_documents
from citadel.authz.stored.model import version_number
from citadel.authz.tables import MeshBlock
from citadel.cli.client import Client, connect
from citadel.cli.policy_options import documents, mesh
from citadel.errors import NotFound

NEWEST = "store"
"""Names the newest version."""
_VERSION = re.compile(r"v[0-9]+")


class Sets:
    """Reads sets; the store is asked when a version is first named. Use as a context manager.

    The mesh is what --mesh and --trust-domain say; else, where a version of the store takes part, what that Citadel
    decides by.
    """

    def __init__(
        self, config: Path | None, socket: Path | None, mesh_file: Path | None, trust_domain: str | None
    ) -> None:
        self._config, self._socket = config, socket
        self._told = None if mesh_file is None and trust_domain is None else mesh(mesh_file, trust_domain)
        self._stack = ExitStack()
        self._client: Client | None = None

    def __enter__(self) -> Sets:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def compiled(self, *names: str) -> list[PolicySet]:
        """The sets of these names, all for the same mesh. Raises BadFile, NotFound, and what `connect` raises."""
        stored = {name: self._stored(name) for name in names if _is_version(name)}
        meshes = [MeshBlock.model_validate_json(found.mesh) for found in stored.values()]
        block = self._told or next(iter(meshes), MeshBlock())
        return [_of_store(stored[name], block) if name in stored else _of_files([name], block) for name in names]

    def of_files(self, files: list[str]) -> PolicySet:
        return _of_files(files, self._told or MeshBlock())

    def _stored(self, name: str) -> pb.ListPoliciesResponse:
        number = 0 if name == NEWEST else version_number(name)
        if self._client is None:
            self._client = self._stack.enter_context(connect(self._config, self._socket))
        found = self._client.call(self._client.policies.ListPolicies, pb.ListPoliciesRequest(version=number))
        if not found.HasField("version"):
            raise NotFound("the store has no policies yet", mend="apply some: citadel policy apply -f …")
        return found


def _is_version(name: str) -> bool:
    """A file of that name comes first."""
    return (name == NEWEST or _VERSION.fullmatch(name) is not None) and not Path(name).exists()


def _of_files(files: list[str], block: MeshBlock) -> PolicySet:
    return compile_documents(documents(files, block), block.facts())


def _of_store(found: pb.ListPoliciesResponse, block: MeshBlock) -> PolicySet:
    texts = [
        SourceText(f"store:{one.key.kind}/{one.key.namespace}/{one.key.name}", one.body.encode())
        for one in found.documents
    ]
    return compile_documents(load(texts, default_namespace=block.default_namespace), block.facts())

"""One table of decisions: a YAML file, read whole or refused with every mistake."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from citadel.authz.asking import TWO_PEERS, AskedAttributes, AskedWorkload
from citadel.authz.decision import Outcome, Reason
from citadel.authz.facts import ExtensionProvider, MeshFacts, PathNormalization, ProviderProtocol
from citadel.authz.request import Workload
from citadel.authz.sources.files import TESTS
from citadel.authz.wording import Place, findings
from citadel.errors import BadFile, BadSpiffeId, Mistake
from citadel.spiffe import SCHEME, TrustDomain

TABLE_SCHEMA = "citadel.dev/policy-test/v1"
MAX_BYTES = 8 << 20
_NO_TABLE = (
    f"it is no table of decisions: that is one document with `schema: {TABLE_SCHEMA}`; see docs/authorization-tests.md"
)

M = TypeVar("M", bound=BaseModel)
_Found = tuple[Place, str]
"""A mistake: where, and what."""


def _trust_domain(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("expected text")
    try:
        return TrustDomain.parse(value).name
    except BadSpiffeId as error:
        raise ValueError(error.message) from None


_Domain = Annotated[str, BeforeValidator(_trust_domain)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class ProviderBlock(_Part):
    """An extension provider that CUSTOM policies name. In a table each request says what it answers."""

    name: str
    protocol: Literal["grpc", "http"] = "grpc"
    service: str = "localhost"
    port: int = Field(9000, ge=1, le=65535)
    timeout: float = Field(0.6, gt=0, le=60, description="Seconds.")


class MeshBlock(_Part):
    """What the mesh knows of itself."""

    trust_domain: _Domain = "cluster.local"
    aliases: list[_Domain] = Field(default_factory=list)
    root_namespace: str = "istio-system"
    default_namespace: str = "default"
    path_normalization: Literal["NONE", "BASE", "MERGE_SLASHES", "DECODE_AND_MERGE_SLASHES"] = "BASE"
    providers: list[ProviderBlock] = Field(default_factory=list)
    several_providers: bool = False

    @classmethod
    def of(cls, facts: MeshFacts, default_namespace: str) -> MeshBlock:
        """What `facts` say, as far as it can be written here."""
        return cls(
            trust_domain=facts.trust_domain.name,
            aliases=[one.name for one in facts.aliases],
            root_namespace=facts.root_namespace,
            default_namespace=default_namespace,
            path_normalization=facts.path_normalization.value,
            providers=[
                ProviderBlock(
                    name=one.name,
                    protocol=one.protocol.value,
                    service=one.service,
                    port=one.port,
                    timeout=one.timeout.total_seconds(),
                )
                for one in facts.providers
            ],
            several_providers=facts.several_providers,
        )

    def facts(self) -> MeshFacts:
        return MeshFacts(
            TrustDomain(self.trust_domain),
            aliases=tuple(map(TrustDomain, self.aliases)),
            root_namespace=self.root_namespace,
            path_normalization=PathNormalization(self.path_normalization),
            providers=tuple(
                ExtensionProvider(
                    one.name,
                    ProviderProtocol(one.protocol),
                    one.service,
                    one.port,
                    timeout=timedelta(seconds=one.timeout),
                )
                for one in self.providers
            ),
            several_providers=self.several_providers,
        )


class Expected(_Part):
    """What must come out; what is left out may be anything."""

    outcome: Outcome
    reason: Reason | None = None
    policy: str | None = Field(None, description="The policy that decides, as namespace/name; `none`: no policy does.")
    rule: int | None = None
    dry_run_outcome: Outcome | None = None
    dry_run: list[str] | None = Field(None, description="The dry-run policies that match.")
    audited: list[str] | None = Field(None, description="The AUDIT policies that match.")


def _expected(value: Any) -> Any:
    return {"outcome": value} if isinstance(value, str) else value


class Case(AskedAttributes):
    """A request, the workload that it is for, and what must become of it."""

    name: str = Field(min_length=1)
    workload: str
    expect: Annotated[Expected, BeforeValidator(_expected)]


class TableBlock(_Part):
    """The file as it is written."""

    schema_: Literal["citadel.dev/policy-test/v1"] = Field(alias="schema")
    mesh: MeshBlock | str = Field(default_factory=lambda: MeshBlock(), description="Or the file that has it.")
    policies: list[str] = Field(default_factory=lambda: ["."], min_length=1)
    workloads: dict[str, AskedWorkload]
    identities: dict[str, str] = Field(default_factory=dict, description="SPIFFE IDs by name, for `peer`.")
    claims: dict[str, dict[str, Any]] = Field(default_factory=dict, description="Tokens by name, for `http.claims`.")
    cases: list[Case] = Field(min_length=1)


class Table(BaseModel):
    """A table, with the folder that its `policies` are relative to."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    file: str
    block: TableBlock
    mesh: MeshBlock
    policies: tuple[Path, ...]

    @property
    def workloads(self) -> dict[str, Workload]:
        return {name: one.value() for name, one in self.block.workloads.items()}


def find_tables(paths: Iterable[Path]) -> list[Path]:
    """The tables that files and folders are or hold, each once. Raises BadFile for what is not there."""
    found: dict[Path, None] = {}
    for path in paths:
        if path.is_dir():
            for name in sorted(path.rglob("*")):
                if name.name.endswith(TESTS) and not any(part.startswith(".") for part in name.relative_to(path).parts):
                    found[name] = None
        elif path.exists():
            found[path] = None
        else:
            raise BadFile([Mistake(str(path), "", "there is no such file or folder")])
    return list(found)


def read_table(path: Path) -> Table:
    """Read a table. Blocks. Raises BadFile with every mistake, those of its mesh file included."""
    data, node = _yaml(path, _NO_TABLE)
    if not isinstance(data, dict) or ("schema" not in data and "apiVersion" in data):
        raise BadFile([Mistake(str(path), "", _NO_TABLE, 1, 1)])
    mistakes = [
        _mistake(path, node, *one)
        for look in (_names_replaced, _unknown_workloads, _twice, _two_peers, _no_policies_at(path.parent))
        for one in look(data)
    ]
    block, mesh = None, MeshBlock()
    try:
        block = _validated(TableBlock, data, node, path)
    except BadFile as error:
        mistakes += error.mistakes
    try:
        if isinstance(file := data.get("mesh"), str):
            mesh = read_mesh(path.parent / file)
    except BadFile as error:
        mistakes += error.mistakes
    if block is None or mistakes:
        here = [one for one in mistakes if one.file == str(path)]
        elsewhere = [one for one in mistakes if one.file != str(path)]
        raise BadFile([*sorted(dict.fromkeys(here), key=lambda one: (one.line, one.column)), *elsewhere])
    mesh = block.mesh if isinstance(block.mesh, MeshBlock) else mesh
    return Table(file=str(path), block=block, mesh=mesh, policies=tuple(path.parent / one for one in block.policies))


def read_mesh(path: Path) -> MeshBlock:
    """Read a file with the keys of a table's `mesh`. Blocks. Raises BadFile with every mistake."""
    data, node = _yaml(path, "what the mesh is, is one document of YAML; there are several")
    return _validated(MeshBlock, data, node, path)


def _names_replaced(data: dict[str, Any]) -> Iterator[_Found]:
    """Put in, for the names of identities and claims, what they stand for."""
    for number, case in _cases(data):
        for holder, key, kind in ((case, "peer", "identities"), (case.get("http"), "claims", "claims")):
            if not isinstance(holder, dict):
                continue
            name = holder.get(key)
            if not isinstance(name, str) or name.startswith(SCHEME):
                continue
            known = data.get(kind)
            if isinstance(known, dict) and name in known:
                holder[key] = known[name]
                continue
            holder[key] = None
            where = ("cases", number, *(("http",) if key == "claims" else ()), key)
            yield where, f"{name!r} is not among the {kind} of this table"


def _unknown_workloads(data: dict[str, Any]) -> Iterator[_Found]:
    workloads = data.get("workloads")
    if not isinstance(workloads, dict):
        return
    for number, case in _cases(data):
        name = case.get("workload")
        if isinstance(name, str) and name not in workloads:
            known = ", ".join(sorted(map(str, workloads))[:20])
            yield ("cases", number, "workload"), f"there is no workload {name!r}; there are: {known}"


def _twice(data: dict[str, Any]) -> Iterator[_Found]:
    seen: set[str] = set()
    for number, case in _cases(data):
        name = case.get("name")
        if isinstance(name, str) and name in seen:
            yield ("cases", number, "name"), f"there are two cases of the name {name!r}"
        elif isinstance(name, str):
            seen.add(name)


def _two_peers(data: dict[str, Any]) -> Iterator[_Found]:
    """A case's own validation says the same, but only where nothing else is wrong with it."""
    for number, case in _cases(data):
        if case.get("peer") is not None and case.get("unknown_peer") is not None:
            yield ("cases", number), TWO_PEERS


def _no_policies_at(folder: Path) -> Callable[[dict[str, Any]], Iterator[_Found]]:
    def look(data: dict[str, Any]) -> Iterator[_Found]:
        listed = data.get("policies")
        for number, name in enumerate(listed if isinstance(listed, list) else ()):
            if isinstance(name, str) and not _is_there(folder / name):
                yield ("policies", number), f"there is no such file or folder: {folder / name}"

    return look


def _is_there(path: Path) -> bool:
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError, ValueError):  # the last: a zero byte, which no path has
        return False
    except OSError:  # whoever reads it says why it cannot be read
        pass
    return True


def _cases(data: dict[str, Any]) -> Iterator[tuple[int, dict[Any, Any]]]:
    """What could be cases: before validation, which says what is none."""
    cases = data.get("cases")
    for number, case in enumerate(cases if isinstance(cases, list) else ()):
        if isinstance(case, dict):
            yield number, case


class _Loader(yaml.SafeLoader):
    """Safe, without aliases (so that a small file stays small) and with every key once."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(None, None, "aliases are not taken here", event.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if str(key.value) in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} is there twice", key.start_mark)
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


def _yaml(path: Path, several: str) -> tuple[Any, yaml.Node]:
    """`several`: what to say of a file with more than one document."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise BadFile([Mistake(str(path), "", f"it cannot be read: {error.strerror}")]) from None
    except ValueError:
        raise BadFile([Mistake(str(path), "", "no file has a name with a zero byte")]) from None
    if len(content) > MAX_BYTES:
        raise BadFile([Mistake(str(path), "", f"it is larger than {MAX_BYTES >> 20} MiB")])
    try:
        loader = _Loader(content)
        try:
            node = loader.get_single_node()
            data = None if node is None else loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line, column = (mark.line + 1, mark.column + 1) if mark is not None else (0, 0)
        problem = several if error.problem == "but found another document" else error.problem or "it is no YAML"
        raise BadFile([Mistake(str(path), "", problem, line, column)]) from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise BadFile([Mistake(str(path), "", f"it is no YAML: {' '.join(str(error).split())[:200]}")]) from None
    if node is None:
        raise BadFile([Mistake(str(path), "", "it is empty")])
    return data, node


def _validated(kind: type[M], data: Any, node: yaml.Node, path: Path) -> M:
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        raise BadFile([_mistake(path, node, *one) for one in findings(error, kind)]) from None


def _mistake(path: Path, node: yaml.Node, where: tuple[int | str, ...], message: str) -> Mistake:
    """A mistake at its place, or at the place of what it is missing from."""
    mark = node.start_mark
    for part in where:
        child = _child(node, part)
        if child is None:
            break
        node, mark = child, child.start_mark
    field = ".".join(map(str, where)).replace(SCHEME, "")
    return Mistake(str(path), field, message, mark.line + 1, mark.column + 1)


def _child(node: yaml.Node, part: int | str) -> yaml.Node | None:
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        found: yaml.Node = node.value[part]
        return found
    if isinstance(node, yaml.MappingNode):
        return next((value for key, value in node.value if key.value == str(part)), None)
    return None


def table_schema() -> dict[str, Any]:
    """The JSON Schema of a table. Names of identities and claims stand where it has what they stand for."""
    return {"$id": TABLE_SCHEMA, **TableBlock.model_json_schema(by_alias=True)}

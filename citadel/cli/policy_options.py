"""Options of requests and policies that `citadel policy` commands share, and what they stand for."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from citadel.authz import PolicyDocuments, PolicySet
from citadel.authz.asking import Asked
from citadel.authz.policyset import compile_documents
from citadel.authz.sources import load_paths
from citadel.authz.tables import MeshBlock, read_mesh
from citadel.cli.mistakes import Mistakes
from citadel.cli.run import say
from citadel.errors import InvalidInput
from citadel.spiffe import SpiffeId, TrustDomain

NOTHING_READ = "there is no policy in what was given; see what is read: docs/policies.md"

FilesOption = Annotated[
    list[str],
    typer.Option(
        "--file", "-f", help="File or folder of policies, or - for standard input; may be repeated.", metavar="PATH"
    ),
]
MaybeFilesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--file", "-f", help="File or folder of policies, or - for standard input; may be repeated.", metavar="PATH"
    ),
]
MeshOption = Annotated[
    Path | None,
    typer.Option("--mesh", help="YAML file with what the mesh is, as a table's `mesh`.", metavar="FILE"),
]
TrustDomainOption = Annotated[
    str | None, typer.Option("--trust-domain", help="Of the mesh (default: cluster.local).", metavar="NAME")
]
NamespaceOption = Annotated[str, typer.Option("--namespace", "-n", help="Namespace of the workload.", metavar="NAME")]
WorkloadOption = Annotated[
    str | None,
    typer.Option(
        "--workload", help="SPIFFE ID that the workload is registered as, of a running Citadel.", metavar="ID"
    ),
]
LabelOption = Annotated[
    list[str] | None, typer.Option("--label", "-l", help="A label of the workload.", metavar="NAME=VALUE")
]
PeerOption = Annotated[str | None, typer.Option("--peer", help="SPIFFE ID of who calls.", metavar="ID")]
MethodOption = Annotated[str, typer.Option("--method", help="HTTP method.", metavar="METHOD")]
PathOption = Annotated[str, typer.Option("--path", help="HTTP path, as sent.", metavar="PATH")]
HostOption = Annotated[str | None, typer.Option("--host", help="HTTP host, as sent.", metavar="HOST")]
HeaderOption = Annotated[list[str] | None, typer.Option("--header", help="HTTP header.", metavar="NAME:VALUE")]
ClaimsOption = Annotated[
    str | None, typer.Option("--claims", help="Payload of the verified token, as JSON.", metavar="JSON")
]
PortOption = Annotated[int | None, typer.Option("--port", help="Port of the workload.", metavar="PORT")]
SourceOption = Annotated[str | None, typer.Option("--source-ip", help="Address of the peer.", metavar="IP")]
RemoteOption = Annotated[str | None, typer.Option("--remote-ip", help="Address of the client.", metavar="IP")]
SniOption = Annotated[str, typer.Option("--sni", help="Server name of the TLS hello.", metavar="NAME")]
TcpOption = Annotated[bool, typer.Option("--tcp", help="A TCP connection, not an HTTP request.")]
ProviderOption = Annotated[
    list[str] | None,
    typer.Option("--provider", help="What a provider says: allow, deny or failed.", metavar="NAME=ANSWER"),
]


def mesh(file: Path | None, trust_domain: str | None) -> MeshBlock:
    """What the mesh is. Raises BadFile, BadSpiffeId, and BadOptions for both."""
    mistakes, block, named = Mistakes(), MeshBlock(), {}
    with mistakes:
        block = MeshBlock() if file is None else read_mesh(file)
    with mistakes:
        named = {} if trust_domain is None else {"trust_domain": TrustDomain.parse(trust_domain).name}
    mistakes.tell()
    return MeshBlock.model_validate({**block.model_dump(), **named}) if named else block


def mesh_of_request(file: Path | None, trust_domain: str | None, provider: list[str] | None) -> MeshBlock:
    """What the mesh is, in which one request is decided, and `provider` said what providers say.

    Raises BadFile, BadSpiffeId, and InvalidInput for a provider that it does not have: no policy could ask that one."""
    block = mesh(file, trust_domain)
    known = {provider.name for provider in block.providers}
    if unknown := sorted(set(_pairs(provider, "--provider", Mistakes())) - known):
        raise InvalidInput(
            f"--provider: the mesh has no provider {', '.join(unknown)}",
            mend="name it under `providers` in the file of --mesh: docs/authorization-tests.md",
        )
    return block


def documents(files: list[str], block: MeshBlock) -> PolicyDocuments:
    """What the files say. Raises BadFile with every mistake."""
    return load_paths(files, stdin=sys.stdin.buffer, default_namespace=block.default_namespace)


def policies(files: list[str], block: MeshBlock) -> PolicySet:
    """What the files say, compiled; that there is nothing is said on standard error. Raises BadFile."""
    read = documents(files, block)
    if not len(read):
        say(NOTHING_READ)
    return compile_documents(read, block.facts())


def only_in_force(workload: str | None) -> None:
    """Raises InvalidInput."""
    if workload is not None:
        raise InvalidInput("--workload is one that is registered: leave out -f, or say what it is, with -n and -l")


def only_with_files(mesh_file: Path | None, trust_domain: str | None, provider: list[str] | None) -> None:
    """Raises InvalidInput."""
    told = {"--mesh": mesh_file, "--trust-domain": trust_domain, "--provider": provider}
    if given := [option for option, value in told.items() if value]:
        raise InvalidInput(
            f"without files, -f, it is the running Citadel that decides, and it knows that itself: {', '.join(given)}"
        )


_OF_ONE = (
    *("namespace", "label", "peer", "method", "path", "host", "header", "claims", "port", "source_ip", "remote_ip"),
    *("sni", "tcp", "provider"),
)


def none_of_one(context: typer.Context, why: str, *others: str) -> None:
    """Raises InvalidInput if an option was given that describes one request, or one of `others`."""
    options = {one.name: one.opts[0] for one in context.command.params}
    sources = {name: context.get_parameter_source(name) for name in (*_OF_ONE, *others)}
    given = [options[name] for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"]
    if given:
        raise InvalidInput(f"{why}: leave out {', '.join(given)}")


def of_whom(workload: str | None, namespace: str, label: list[str] | None) -> str | None:
    """The SPIFFE ID of a registered workload; None: the other options say what it is.

    Raises BadSpiffeId, InvalidInput."""
    if workload is None:
        return None
    if namespace != "default" or label:
        raise InvalidInput("--workload says whose policies are asked: leave out -n and -l")
    return SpiffeId.parse(workload).uri


def pairs(given: list[str] | None, option: str, between: str = "=") -> dict[str, str]:
    """Raises InvalidInput for what is no NAME=VALUE."""
    mistakes = Mistakes()
    found = _pairs(given, option, mistakes, between)
    mistakes.tell()
    return found


def _pairs(given: list[str] | None, option: str, mistakes: Mistakes, between: str = "=") -> dict[str, str]:
    """Those that are NAME=VALUE."""
    found: dict[str, str] = {}
    for text in given or []:
        with mistakes:
            name, sign, value = text.partition(between)
            if not (name and sign):
                raise InvalidInput(f"{option} {text!r} is not NAME{between}VALUE")
            found[name] = value
    return found


def asked(
    namespace: str,
    label: list[str] | None,
    peer: str | None,
    method: str,
    path: str,
    host: str | None,
    header: list[str] | None,
    claims: str | None,
    port: int | None,
    source_ip: str | None,
    remote_ip: str | None,
    sni: str,
    tcp: bool,
    provider: list[str] | None,
) -> Asked:
    """The request that the options describe. Raises InvalidInput with every mistake."""
    mistakes = Mistakes()
    document: dict[str, Any] = {
        "workload": {"namespace": namespace, "labels": _pairs(label, "--label", mistakes)},
        "peer": peer,
        "port": port,
        "source_ip": source_ip,
        "remote_ip": remote_ip,
        "sni": sni,
        "providers": _pairs(provider, "--provider", mistakes),
    }
    if tcp:
        http_only = {"--host": host, "--header": header, "--claims": claims}
        with mistakes:
            if given := [option for option, value in http_only.items() if value]:
                raise InvalidInput(f"--tcp is a connection without HTTP: leave out {', '.join(given)}")
    else:
        headers: dict[str, list[str]] = {}
        for text in header or []:
            for name, value in _pairs([text], "--header", mistakes, ":").items():
                headers.setdefault(name.strip().lower(), []).append(value.strip())
        payload = None
        with mistakes:
            payload = None if claims is None else _json(claims)
        document["http"] = {"method": method, "path": path, "authority": host, "headers": headers, "claims": payload}
    one = None
    with mistakes:
        one = Asked.parse(json.dumps(document))
    mistakes.tell()
    assert one is not None
    return one


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"--claims is no JSON: {error}") from None

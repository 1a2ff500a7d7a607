"""`citadel policy check` and `explain`: what policies in files make of requests."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from citadel.api.proto.citadel.v1 import decisions_pb2 as decisions
from citadel.authz import explain as explain_request
from citadel.authz.asking import Lines
from citadel.cli.client import connect
from citadel.cli.exits import Exit
from citadel.cli.options import ConfigOption, SocketOption, examples
from citadel.cli.policy_log import ExplainFormat, show_decision, show_lines
from citadel.cli.policy_options import (
    ClaimsOption,
    FilesOption,
    HeaderOption,
    HostOption,
    LabelOption,
    MaybeFilesOption,
    MeshOption,
    MethodOption,
    NamespaceOption,
    PathOption,
    PeerOption,
    PortOption,
    ProviderOption,
    RemoteOption,
    SniOption,
    SourceOption,
    TcpOption,
    TrustDomainOption,
    asked,
    mesh,
    policies,
)
from citadel.cli.requests import chunks, opened
from citadel.errors import InvalidInput

CHECK_EXAMPLES = examples(
    "citadel policy check -f policies/ -n shop -l app=cart --peer spiffe://shop.example/ns/shop/sa/web --path /cart/7",
    "citadel policy check -f policies/ --input requests.jsonl > decisions.jsonl",
)
EXPLAIN_EXAMPLES = examples(
    "citadel policy explain -f policies/ -n shop -l app=cart --method POST --path /cart/7",
    "citadel policy explain --log-id 5f0c2b7a9d3e-1a",
)


def check(
    file: FilesOption,
    lines: Annotated[
        str | None,
        typer.Option("--input", help="Requests as JSON lines, from a file or - for standard input.", metavar="FILE"),
    ] = None,
    namespace: NamespaceOption = "default",
    label: LabelOption = None,
    peer: PeerOption = None,
    method: MethodOption = "GET",
    path: PathOption = "/",
    host: HostOption = None,
    header: HeaderOption = None,
    claims: ClaimsOption = None,
    port: PortOption = None,
    source_ip: SourceOption = None,
    remote_ip: RemoteOption = None,
    sni: SniOption = "",
    tcp: TcpOption = False,
    provider: ProviderOption = None,
    mesh_file: MeshOption = None,
    trust_domain: TrustDomainOption = None,
) -> None:
    """Decide requests by policies in files.

    One request by options, or many as JSON lines; one JSON decision a line comes out. The schemas are in docs/schema. A
    line that is no request is denied, and the exit code is 4 then; options that are no request are an error, also 4.
    """
    if lines == "-" and "-" in file:
        raise InvalidInput("policies and requests cannot both come from standard input")
    door = Lines(policies(file, mesh(mesh_file, trust_domain)))
    if lines is None:
        one = asked(
            namespace, label, peer, method, path, host, header, claims, port, source_ip, remote_ip, sni, tcp, provider
        )
        sys.stdout.write(door.decided(one))
        return
    with opened(lines) as descriptor:
        for answers in door.answers(chunks(descriptor)):
            sys.stdout.write(answers)
            sys.stdout.flush()
    if door.bad:
        raise typer.Exit(Exit.INVALID)


def explain(
    file: MaybeFilesOption = None,
    log_id: Annotated[
        str | None,
        typer.Option("--log-id", help="Of a decision of the running Citadel, as its door gave it.", metavar="ID"),
    ] = None,
    namespace: NamespaceOption = "default",
    label: LabelOption = None,
    peer: PeerOption = None,
    method: MethodOption = "GET",
    path: PathOption = "/",
    host: HostOption = None,
    header: HeaderOption = None,
    claims: ClaimsOption = None,
    port: PortOption = None,
    source_ip: SourceOption = None,
    remote_ip: RemoteOption = None,
    sni: SniOption = "",
    tcp: TcpOption = False,
    provider: ProviderOption = None,
    mesh_file: MeshOption = None,
    trust_domain: TrustDomainOption = None,
    form: Annotated[ExplainFormat, typer.Option("--format", help="How to show it.")] = ExplainFormat.TREE,
    config: ConfigOption = None,
    socket: SocketOption = None,
) -> None:
    """Say what each policy makes of a request, and why.

    For what did not match: the first condition that failed, with what it wants and what the request has. With --log-id
    it is a request that was decided, explained by the policies of then; with files too, by these.
    """
    if log_id is not None:
        with connect(config, socket) as client:
            found = client.call(client.decisions.ExplainDecision, decisions.ExplainDecisionRequest(id=log_id))
        compiled = policies(file, mesh(mesh_file, trust_domain)) if file else None
        show_decision(found, compiled, form)
        return
    if not file:
        raise InvalidInput("it needs policies, -f, or a decision that was logged, --log-id")
    compiled = policies(file, mesh(mesh_file, trust_domain))
    one = asked(
        namespace, label, peer, method, path, host, header, claims, port, source_ip, remote_ip, sni, tcp, provider
    )
    explanation = explain_request(compiled, one.workload.value(), one.request(), one.answers())
    if form is ExplainFormat.JSON:
        print(json.dumps(explanation.to_json(), indent=2))
    else:
        show_lines(explanation.to_tree() if form is ExplainFormat.TREE else explanation.to_text())

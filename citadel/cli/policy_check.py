"""`citadel policy check` and `explain`: what policies make of requests: those in files, or those in force."""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from typing import Annotated

import typer

from citadel.api.proto.citadel.v1 import decisions_pb2 as decisions
from citadel.authz import explain as explain_request
from citadel.authz.asking import Lines
from citadel.authz.tables import MeshBlock
from citadel.cli.client import connect
from citadel.cli.exits import Exit
from citadel.cli.mistakes import Mistakes
from citadel.cli.options import ConfigOption, SocketOption, examples
from citadel.cli.policy_live import LiveLines, running, show_explained
from citadel.cli.policy_log import ExplainFormat, show_decision, show_lines
from citadel.cli.policy_options import (
    ClaimsOption,
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
    WorkloadOption,
    asked,
    mesh,
    mesh_of_request,
    none_of_one,
    of_whom,
    only_in_force,
    only_with_files,
    policies,
)
from citadel.cli.requests import chunks, opened
from citadel.errors import InvalidInput

CHECK_EXAMPLES = examples(
    "citadel policy check --workload spiffe://shop.example/ns/shop/sa/cart --method POST --path /cart/7",
    "citadel policy check -f policies/ -n shop -l app=cart --peer spiffe://shop.example/ns/shop/sa/web --path /cart/7",
    "citadel policy check -f policies/ --input requests.jsonl > decisions.jsonl",
)
EXPLAIN_EXAMPLES = examples(
    "citadel policy explain -n shop -l app=cart --peer spiffe://shop.example/ns/shop/sa/web --path /cart/7",
    "citadel policy explain -f policies/ -n shop -l app=cart --method POST --path /cart/7",
    "citadel policy explain --log-id 5f0c2b7a9d3e-1a",
)


def check(
    context: typer.Context,
    file: MaybeFilesOption = None,
    lines: Annotated[
        str | None,
        typer.Option("--input", help="Requests as JSON lines, from a file or - for standard input.", metavar="FILE"),
    ] = None,
    workload: WorkloadOption = None,
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
    config: ConfigOption = None,
    socket: SocketOption = None,
) -> None:
    """Decide requests by policies in files, -f, or by those in force.

    Without files the running Citadel decides, says by which version of its policies, and asks providers itself.

    One request by options, or many as JSON lines; one JSON decision a line comes out. The schemas are in docs/schema. A
    line that is no request is denied, and the exit code is 4 then; options that are no request are an error, also 4.
    """
    mistakes = Mistakes()
    one, block, registered = None, MeshBlock(), None
    with mistakes:
        if lines is not None:
            none_of_one(context, "--input has requests of its own")
        else:
            one = asked(
                *(namespace, label, peer, method, path, host, header, claims),
                *(port, source_ip, remote_ip, sni, tcp, provider),
            )
    with mistakes:
        if lines == "-" and "-" in (file or ()):
            raise InvalidInput("policies and requests cannot both come from standard input")
    if file:
        with mistakes:
            only_in_force(workload)
        with mistakes:
            block = mesh_of_request(mesh_file, trust_domain, provider if lines is None else None)
    else:
        with mistakes:
            only_with_files(mesh_file, trust_domain, provider)
        with mistakes:
            registered = of_whom(workload, namespace, label)
    mistakes.tell()
    with ExitStack() as stack:
        door: Lines | LiveLines
        if file:
            door = Lines(policies(file, block))
        else:
            door = LiveLines(stack.enter_context(running(config, socket)), registered)
        if one is not None:
            sys.stdout.write(door.decided(one))
        elif lines is not None:
            descriptor = stack.enter_context(opened(lines))
            for answers in door.answers(chunks(descriptor)):
                sys.stdout.write(answers)
                sys.stdout.flush()
    if door.bad:
        raise typer.Exit(Exit.INVALID)


def explain(
    context: typer.Context,
    file: MaybeFilesOption = None,
    log_id: Annotated[
        str | None,
        typer.Option("--log-id", help="Of a decision of the running Citadel, as its door gave it.", metavar="ID"),
    ] = None,
    workload: WorkloadOption = None,
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
    it is a request that was decided, explained by the policies of then; with files too, by these. With neither, the
    running Citadel explains, by the policies in force.
    """
    if log_id is not None:
        none_of_one(context, "--log-id names a request that was decided", "workload")
        with connect(config, socket) as client:
            found = client.call(client.decisions.ExplainDecision, decisions.ExplainDecisionRequest(id=log_id))
        compiled = policies(file, mesh(mesh_file, trust_domain)) if file else None
        show_decision(found, compiled, form)
        return
    mistakes = Mistakes()
    one, block, registered = None, MeshBlock(), None
    with mistakes:
        one = asked(
            namespace, label, peer, method, path, host, header, claims, port, source_ip, remote_ip, sni, tcp, provider
        )
    if file:
        with mistakes:
            only_in_force(workload)
        with mistakes:
            block = mesh_of_request(mesh_file, trust_domain, provider)
    else:
        with mistakes:
            only_with_files(mesh_file, trust_domain, provider)
        with mistakes:
            registered = of_whom(workload, namespace, label)
    mistakes.tell()
    assert one is not None
    if not file:
        with running(config, socket) as client:
            show_explained(client, one, registered, form)
        return
    compiled = policies(file, block)
    explanation = explain_request(compiled, one.workload.value(), one.request(), one.answers())
    if form is ExplainFormat.JSON:
        print(json.dumps(explanation.to_json(), indent=2))
    else:
        show_lines(explanation.to_tree() if form is ExplainFormat.TREE else explanation.to_text())

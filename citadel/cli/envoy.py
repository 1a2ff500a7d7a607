"""`citadel envoy`: configuration for Envoy that works as it is."""

from __future__ import annotations

import json
import os
import socket
import tempfile
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from citadel.cli.options import ConfigOption, examples, load_config
from citadel.cli.run import say
from citadel.config import parse_duration
from citadel.errors import AlreadyExists, FailedPrecondition, InvalidInput, PermissionDenied
from citadel.sds.bootstrap import Address, Inbound, Plan, Protocol, Upstream, Variant, bootstrap, fragment
from citadel.spiffe import SpiffeId, TrustDomain

app = typer.Typer(help="Configuration for Envoy.", no_args_is_help=True, rich_markup_mode=None)


class FileFormat(StrEnum):
    YAML = "yaml"
    JSON = "json"


@app.callback()
def about() -> None:
    """Configuration for Envoy."""


@app.command(
    "bootstrap",
    epilog=examples(
        "citadel envoy bootstrap --listen 0.0.0.0:8443 --app 127.0.0.1:8080 --out envoy.yaml",
        "citadel envoy bootstrap --upstream cart=127.0.0.1:9001,cart.internal:8443 \\\n"
        "      --upstream-id spiffe://example.org/shop/cart --out envoy.yaml",
    ),
)
def write_bootstrap(
    listen: Annotated[
        str | None, typer.Option("--listen", help="Take mTLS here, and pass it on to --app.", metavar="HOST:PORT")
    ] = None,
    application: Annotated[
        str | None, typer.Option("--app", help="The application behind --listen.", metavar="HOST:PORT")
    ] = None,
    caller: Annotated[
        list[str] | None,
        typer.Option("--caller-id", help="SPIFFE ID that may call (default: all of the trust domain).", metavar="ID"),
    ] = None,
    permissive: Annotated[
        bool, typer.Option("--permissive", help="Take plain connections at --listen too, while you move to mTLS.")
    ] = False,
    application_http2: Annotated[
        bool, typer.Option("--app-http2", help="Speak HTTP/2 to --app, as gRPC services need.")
    ] = False,
    authorize: Annotated[
        bool, typer.Option("--authorize", help="Ask Citadel's policies about each request at --listen.")
    ] = False,
    check_timeout: Annotated[
        str,
        typer.Option("--authorize-timeout", help="How long an answer may take; then it is a 503.", metavar="DURATION"),
    ] = "1s",
    upstream: Annotated[
        list[str] | None,
        typer.Option(
            "--upstream",
            help="A service to call: plain connections to LISTEN here become mTLS to ADDRESS.",
            metavar="NAME=LISTEN,ADDRESS",
        ),
    ] = None,
    upstream_id: Annotated[
        list[str] | None,
        typer.Option(
            "--upstream-id",
            help="SPIFFE ID that the upstream must have; NAME= may be left out if there is one upstream.",
            metavar="[NAME=]ID",
        ),
    ] = None,
    variant: Annotated[Variant, typer.Option("--variant", help="How Envoy asks for its secrets.")] = Variant.SOTW,
    identity: Annotated[
        str, typer.Option("--identity", help="Which certificate: default, or a SPIFFE ID.", metavar="NAME")
    ] = "default",
    admin: Annotated[
        str | None, typer.Option("--admin", help="Envoy's own admin address (default: none).", metavar="HOST:PORT")
    ] = None,
    node_id: Annotated[str, typer.Option("--node-id", help="Envoy's name (default: the host's).", metavar="NAME")] = "",
    longest: Annotated[
        str, typer.Option("--max-connection-duration", help="Longest life of a connection.", metavar="DURATION")
    ] = "15m",
    drain: Annotated[
        str, typer.Option("--drain-time", help="How long one that ends may finish its requests.", metavar="DURATION")
    ] = "2s",
    tls12: Annotated[bool, typer.Option("--tls12", help="Take TLS 1.2 too.")] = False,
    only_fragment: Annotated[
        bool,
        typer.Option("--fragment", help="Only SDS cluster and transport sockets, for a bootstrap of your own."),
    ] = False,
    trust_domain: Annotated[
        str | None, typer.Option("--trust-domain", help="Default: the configuration's.", metavar="NAME")
    ] = None,
    workload_socket: Annotated[
        Path | None, typer.Option("--workload-socket", help="Default: the configuration's.", metavar="PATH")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Write to this file instead.", metavar="FILE")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
    output: Annotated[FileFormat, typer.Option("--output", "-o", help="YAML or JSON.")] = FileFormat.YAML,
    config: ConfigOption = None,
) -> None:
    """Write a bootstrap that works as it is with `envoy -c`.

    Secrets come by SDS, mTLS is spoken in and out, and the SPIFFE IDs of upstreams are pinned.
    """
    domain, path = _place(trust_domain, workload_socket, config)
    plan = Plan(
        trust_domain=domain,
        node_id=node_id or socket.gethostname(),
        socket=str(path),
        admin=Address.parse(admin) if admin else None,
        inbound=_inbound(
            listen,
            application,
            caller or [],
            permissive=permissive,
            http2=application_http2,
            check=_seconds("--authorize-timeout", check_timeout) if authorize else 0.0,
        ),
        upstreams=_upstreams(upstream or [], upstream_id or []),
        variant=variant,
        identity=identity if identity == "default" else SpiffeId.parse(identity).uri,
        tls13_only=not tls12,
        max_connection_seconds=_seconds("--max-connection-duration", longest),
        drain_seconds=_seconds("--drain-time", drain),
    )
    text = _text(fragment(plan) if only_fragment else bootstrap(plan), output)
    if out is None:
        print(text, end="")
    else:
        _write(out, text, force=force)
        say(f"wrote {out}" if only_fragment else f"wrote {out}; start with: envoy -c {out}")


def _seconds(option: str, text: str) -> float:
    try:
        return parse_duration(text).total_seconds()
    except ValueError as error:
        raise InvalidInput(f"{option}: {error}") from error


def _place(trust_domain: str | None, workload_socket: Path | None, config: Path | None) -> tuple[TrustDomain, Path]:
    """Trust domain and workload socket: as said, else from the configuration (which need not be there if both are)."""
    if trust_domain is not None and workload_socket is not None:
        return TrustDomain.parse(trust_domain), workload_socket.absolute()
    settings = load_config(config).settings
    domain = TrustDomain.parse(trust_domain) if trust_domain is not None else settings.trust_domain
    return domain, workload_socket.absolute() if workload_socket else settings.sockets.workload.path


def _inbound(
    listen: str | None, application: str | None, callers: list[str], *, permissive: bool, http2: bool, check: float
) -> Inbound | None:
    if listen is None and application is None and not (callers or permissive or http2 or check):
        return None
    if listen is None or application is None:
        raise InvalidInput(
            "--listen and --app belong together", mend="give both, such as 0.0.0.0:8443 and 127.0.0.1:8080"
        )
    return Inbound(
        Address.parse(listen),
        Address.parse(application),
        tuple(map(SpiffeId.parse, callers)),
        permissive=permissive,
        protocol=Protocol.HTTP2 if http2 else Protocol.HTTP1,
        authorize_seconds=check,
    )


def _upstreams(upstreams: list[str], ids: list[str]) -> list[Upstream]:
    """Raises InvalidInput for what is not NAME=LISTEN,ADDRESS, for a name twice, and for an ID of no upstream."""
    places: dict[str, tuple[Address, Address]] = {}
    for text in upstreams:
        name, equals, rest = text.partition("=")
        listen, comma, address = rest.partition(",")
        if not (equals and comma and name):
            raise InvalidInput(f"{text!r} is not NAME=LISTEN,ADDRESS, as in cart=127.0.0.1:9001,cart.internal:8443")
        if name in places:
            raise InvalidInput(f"the upstream {name} is there twice")
        places[name] = (Address.parse(listen), Address.parse(address))
    pinned: dict[str, list[SpiffeId]] = {name: [] for name in places}
    for text in ids:
        name, equals, spiffe_id = text.partition("=")
        if not equals and len(places) == 1:
            name, spiffe_id = next(iter(places)), text
        if name not in pinned:
            raise InvalidInput(f"--upstream-id {text!r} belongs to no upstream", mend="write it as NAME=spiffe://...")
        pinned[name].append(SpiffeId.parse(spiffe_id))
    return [Upstream(name, listen, address, tuple(pinned[name])) for name, (listen, address) in places.items()]


def _text(document: dict[str, Any], form: FileFormat) -> str:
    if form is FileFormat.JSON:
        return json.dumps(document, indent=2) + "\n"
    return yaml.dump(document, Dumper=_PlainDumper, sort_keys=False)


class _PlainDumper(yaml.SafeDumper):
    """Writes what is there twice twice: Envoy's YAML reader takes anchors, people do not."""

    def choose_scalar_style(self) -> str:
        """Envoy's reader takes a bare `n` or `y` for a boolean, PyYAML takes it for text."""
        if getattr(self.event, "value", "") in ("y", "Y", "n", "N"):
            return '"'
        style: str = super().choose_scalar_style()
        return style

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - PyYAML's signature
        return True


def _write(path: Path, text: str, *, force: bool) -> None:
    """All of it or nothing, and readable by whom the umask lets: it holds no secret. Raises CitadelErrors."""
    if path.exists() and not force:
        raise AlreadyExists(f"{path} is there already", mend="say --force to overwrite it")
    try:
        with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            file.write(text)
        umask = os.umask(0)
        os.umask(umask)
        Path(file.name).chmod(0o666 & ~umask)
        Path(file.name).replace(path)
    except PermissionError as error:
        raise PermissionDenied(f"{path} cannot be written: {error.strerror}") from error
    except OSError as error:
        raise FailedPrecondition(f"{path} cannot be written: {error.strerror}") from error

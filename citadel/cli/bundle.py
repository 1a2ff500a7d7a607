"""`citadel bundle`: the roots by which certificates of a trust domain are verified."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated

import typer

from citadel.api.proto.citadel.v1 import admin_pb2 as admin
from citadel.cli.certificates import described, jwk, pem
from citadel.cli.client import connect
from citadel.cli.documents import shown
from citadel.cli.options import ConfigOption, SocketOption, examples
from citadel.cli.output import Column, Document, Format, field, show_one
from citadel.errors import InvalidInput

app = typer.Typer(help="Trust bundles.", no_args_is_help=True, rich_markup_mode=None)


class BundleFormat(StrEnum):
    PEM = "pem"
    SPIFFE = "spiffe"  # JWKS-shaped (SPIFFE Trust Domain and Bundle, section 4)
    JSON = "json"


@app.callback()
def about() -> None:
    """Trust bundles."""


@app.command(
    epilog=examples(
        "citadel bundle show > roots.pem",
        "citadel bundle show --format spiffe",
        "citadel bundle show -o table",
    )
)
def show(
    form: Annotated[
        BundleFormat | None,
        typer.Option(
            "--format",
            help="pem (the default), spiffe as bundle endpoints serve it, or json with details.",
            show_default=False,
        ),
    ] = None,
    trust_domain: Annotated[str, typer.Option("--trust-domain", help="Whose (default: our own).", metavar="NAME")] = "",
    config: ConfigOption = None,
    socket: SocketOption = None,
    output: Annotated[
        Format | None, typer.Option("--output", "-o", help="Show details instead.", show_default=False)
    ] = None,
) -> None:
    """Print a trust bundle.

    As PEM, for tools that verify; in SPIFFE's own form, as bundle endpoints serve it; or its details, with -o.
    """
    if form is not None and output is not None:
        raise InvalidInput("--format and --output exclude each other", mend="say one of them")
    with connect(config, socket) as client:
        bundle = client.call(client.admin.GetBundle, admin.GetBundleRequest(trust_domain=trust_domain))
    if output is not None or form is BundleFormat.JSON:
        show_one(_details(bundle), _rows(datetime.now(UTC)), output or Format.JSON)
    elif form is BundleFormat.SPIFFE:
        document = {
            "keys": [jwk(root) for root in bundle.roots],
            "spiffe_sequence": bundle.sequence,
            "spiffe_refresh_hint": bundle.refresh_hint,
        }
        print(json.dumps(document, indent=2))
    else:
        print("".join(map(pem, bundle.roots)), end="")


def _details(bundle: admin.Bundle) -> Document:
    return {
        "trust_domain": bundle.trust_domain,
        "sequence": bundle.sequence,
        "refresh_hint": bundle.refresh_hint,
        "roots": [described(root) for root in bundle.roots],
        "crls": [crl.decode() for crl in bundle.crls],
    }


def _rows(now: datetime) -> list[Column]:
    def roots(document: Document) -> str:
        return "\n".join(
            f"{root['fingerprint']}  {root['subject']}  until {shown(root['not_after'], now)}"
            for root in document["roots"]
        )

    return [
        field("trust domain", "trust_domain"),
        field("sequence", "sequence"),
        Column("refresh hint", lambda d: f"{d['refresh_hint']} s"),
        Column("crls", lambda d: str(len(d["crls"]))),
        Column("roots", roots),
    ]

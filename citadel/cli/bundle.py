"""`citadel bundle`: the roots by which certificates of a trust domain are verified."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated

import typer

from citadel.api.proto.citadel.v1 import admin_pb2 as admin
from citadel.cli.certificates import described, jwk, pem
from citadel.cli.client import connect
from citadel.cli.options import ConfigOption, SocketOption

app = typer.Typer(help="Trust bundles.", no_args_is_help=True, rich_markup_mode=None)


class BundleFormat(StrEnum):
    PEM = "pem"
    SPIFFE = "spiffe"  # JWKS-shaped (SPIFFE Trust Domain and Bundle, section 4)
    JSON = "json"


@app.callback()
def about() -> None:
    """Trust bundles."""


@app.command()
def show(
    form: Annotated[
        BundleFormat, typer.Option("--format", help="pem; spiffe, as bundle endpoints serve it; or json, with details.")
    ] = BundleFormat.PEM,
    trust_domain: Annotated[str, typer.Option("--trust-domain", help="Whose (default: our own).", metavar="NAME")] = "",
    config: ConfigOption = None,
    socket: SocketOption = None,
) -> None:
    """Print a trust bundle."""
    with connect(config, socket) as client:
        bundle = client.call(client.admin.GetBundle, admin.GetBundleRequest(trust_domain=trust_domain))
    match form:
        case BundleFormat.PEM:
            print("".join(map(pem, bundle.roots)), end="")
        case BundleFormat.SPIFFE:
            document = {
                "keys": [jwk(root) for root in bundle.roots],
                "spiffe_sequence": bundle.sequence,
                "spiffe_refresh_hint": bundle.refresh_hint,
            }
            print(json.dumps(document, indent=2))
        case BundleFormat.JSON:
            details = {
                "trust_domain": bundle.trust_domain,
                "sequence": bundle.sequence,
                "refresh_hint": bundle.refresh_hint,
                "roots": [described(root) for root in bundle.roots],
                "crls": [crl.decode() for crl in bundle.crls],
            }
            print(json.dumps(details, indent=2))

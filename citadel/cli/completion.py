"""`citadel completion`: what a shell needs to complete commands, options and ids."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer
from typer.completion import get_completion_script  # type: ignore[attr-defined]  # imported there for its own use

from citadel.api.proto.citadel.v1 import admin_pb2 as admin
from citadel.cli import documents
from citadel.cli.client import connect
from citadel.cli.options import examples
from citadel.errors import CitadelError

EXAMPLES = examples(
    'eval "$(citadel completion bash)"                                    # in ~/.bashrc',
    'eval "$(citadel completion zsh)"                                     # in ~/.zshrc, after compinit',
    "citadel completion fish > ~/.config/fish/completions/citadel.fish",
)
_PATIENCE = 2.0  # seconds: somebody waits behind the tab key
_MOST = 500


class Shell(StrEnum):
    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def completion(
    shell: Annotated[Shell, typer.Argument(help="Which shell.", metavar="SHELL", show_default=False)],
) -> None:
    """Print the completion script of a shell."""
    print(get_completion_script(prog_name="citadel", complete_var="_CITADEL_COMPLETE", shell=str(shell)))


def entry_ids(incomplete: str) -> list[tuple[str, str]]:
    """Ids of entries that begin so, each with its SPIFFE ID; none if nobody can be asked."""
    try:
        with connect(None, None) as client:
            request = admin.ListEntriesRequest(page_size=_MOST)
            entries = client.call(client.admin.ListEntries, request, patience=_PATIENCE).entries
    except CitadelError:
        return []
    found = ((one.entry.id, documents.spiffe_id(one.entry.spiffe_id)) for one in entries)
    return [(id_, spiffe_id) for id_, spiffe_id in found if id_.startswith(incomplete)]


def skids(incomplete: str) -> list[tuple[str, str]]:
    """SKIDs of authorities that begin so, each with what it is; none if nobody can be asked."""
    try:
        with connect(None, None) as client:
            request = admin.ListAuthoritiesRequest()
            authorities = client.call(client.admin.ListAuthorities, request, patience=_PATIENCE).authorities
    except CitadelError:
        return []
    return [(one.skid, f"{one.kind}, {one.state}") for one in authorities if one.skid.startswith(incomplete)]

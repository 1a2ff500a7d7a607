"""The tree of commands. Each noun is a module, imported when it is asked for: a command costs only what it uses."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from importlib import import_module
from typing import Annotated, Any

import typer
import typer.core
import typer.main

from citadel import __version__
from citadel.cli.options import examples

_NOUNS = (
    "init", "up", "entry", "ca", "root", "keys", "bundle", "svid", "envoy", "policy", "entity", "status", "doctor",
    "config", "vault", "audit", "backup", "demo", "completion", "version",
)  # fmt: skip


class _Modules(MutableMapping[str, Any]):
    """Name to command. `citadel.cli.NAME` has either `app`, the commands under the noun, or a function of that name."""

    def __init__(self) -> None:
        self._loaded: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._loaded:
            if name not in _NOUNS:
                raise KeyError(name)
            self._loaded[name] = _command(name)
        return self._loaded[name]

    def __setitem__(self, name: str, command: Any) -> None:
        self._loaded[name] = command

    def __delitem__(self, name: str) -> None:
        del self._loaded[name]

    def __iter__(self) -> Iterator[str]:
        return iter(_NOUNS)

    def __len__(self) -> int:
        return len(_NOUNS)


def _command(name: str) -> Any:
    module = import_module(f"citadel.cli.{name}")
    tree = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)
    tree.callback()(lambda: None)  # a tree even of one
    if isinstance(below := getattr(module, "app", None), typer.Typer):
        tree.add_typer(below, name=name)
    else:
        tree.command(name, epilog=module.EXAMPLES)(getattr(module, name))
    group = typer.main.get_command(tree)
    assert isinstance(group, typer.core.TyperGroup)
    return group.commands[name]


class _Tree(typer.core.TyperGroup):
    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = _Modules()

    def invoke(self, ctx: Any) -> Any:
        """Typer checks values by pydantic, whose words are none of the user's."""
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            error.message = error.message.removeprefix("Value error, ")
            raise


app = typer.Typer(
    name="citadel",
    cls=_Tree,
    epilog=examples(
        "citadel init --trust-domain example.org",
        "citadel up",
        "citadel entry create --spiffe-id spiffe://example.org/web --selector unix:uid:1000",
        "citadel status",
        closing="Exit codes, and what is the same everywhere: docs/cli.md",
    ),
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"citadel {__version__}")
        raise typer.Exit


@app.callback()
def citadel(
    _version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_version, is_eager=True)
    ] = False,
    _no_color: Annotated[  # taken out by cli.run, wherever it stands
        bool, typer.Option("--no-color", help="Print without colours, as NO_COLOR=1 in the environment does.")
    ] = False,
) -> None:
    """Certificate authority and identity service for service meshes."""

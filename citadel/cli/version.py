"""`citadel version`: which Citadel this is."""

from __future__ import annotations

import platform
from importlib.metadata import version as installed

from citadel import __version__
from citadel.cli.options import examples
from citadel.cli.output import Format, FormatOption, field, show_one

EXAMPLES = examples("citadel version -o json")


def version(output: FormatOption = Format.TABLE) -> None:
    """Show the version of Citadel and of what it rests on."""
    document = {
        "citadel": __version__,
        "python": platform.python_version(),
        "cryptography": installed("cryptography"),
        "grpcio": installed("grpcio"),
        "platform": platform.platform(),
    }
    show_one(document, [field(name, name) for name in document], output)

"""Steps of a rotation on the command line: what their commands share."""

from __future__ import annotations

from typing import Annotated

import typer

from citadel.api.proto.citadel.v1 import rotation_pb2 as pb
from citadel.cli.output import Format, show_one
from citadel.cli.run import printable

ReasonOption = Annotated[str, typer.Option("--reason", help="Why; it is kept in the audit log.", metavar="TEXT")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Say what would happen, and do nothing.")]


def show_step(step: pb.RotationStep, output: Format) -> None:
    if output is Format.TABLE:
        print(printable(f"would: {step.sentence}" if step.dry_run else step.sentence))
    else:
        show_one({"sentence": step.sentence, "dry_run": step.dry_run}, [], output)

"""`citadel doctor`: checks all that it can reach, whether Citadel runs or not, and says how to mend it."""

from citadel.cli.doctor.command import EXAMPLES, doctor

__all__ = ["EXAMPLES", "doctor"]

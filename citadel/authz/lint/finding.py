"""A finding of the linter: a check, where it struck, and what it struck on."""

from __future__ import annotations

from dataclasses import dataclass

from citadel.authz.lint.checks import CHECKS, Severity
from citadel.authz.load.tree import Path
from citadel.authz.model import Kind, PolicyName


@dataclass(frozen=True, slots=True)
class Strike:
    """What a check found in a document, before its place in a file is looked up."""

    code: str
    path: Path
    message: str


@dataclass(frozen=True, slots=True)
class LintFinding:
    """One thing that the linter has to say."""

    code: str
    kind: Kind
    name: PolicyName
    field: str
    """`spec.rules[0].from[0].source.principals[0]`"""
    message: str
    """A sentence about this very place."""
    file: str = ""
    """Empty where the document was not loaded from anywhere."""
    line: int = 0
    column: int = 0

    @property
    def severity(self) -> Severity:
        return CHECKS[self.code].severity

    @property
    def mend(self) -> str:
        """What to do about it."""
        return CHECKS[self.code].mend

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}: " if self.file else ""
        return (
            f"{place}{self.severity}: {self.kind} {self.name}: {self.field}: {self.message} {self.mend} [{self.code}]"
        )

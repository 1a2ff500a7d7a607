"""The linter: policies that load, and still do not do what they seem to. Every check has a stable code (`checks`).

`values` looks at single values, `rules` at a rule as a whole, `mesh` at all documents together, `covers` says what is
part of what, `linting` puts it together, `reference` writes the documentation.
"""

from citadel.authz.lint.checks import CHECKS, Check, Severity
from citadel.authz.lint.finding import LintFinding
from citadel.authz.lint.linting import lint, load_warnings

__all__ = ["CHECKS", "Check", "LintFinding", "Severity", "lint", "load_warnings"]

"""The page of all checks, docs/authorization-lint.md, made from their table."""

from __future__ import annotations

from citadel.authz.lint.checks import CHECKS, Severity

_HEAD = """\
# What the linter of policies says

Made from citadel/authz/lint/checks.py by scripts/generate-docs. Codes are stable: they are never renamed, only added.

An **error** cannot do what it was written for; a **warning** probably does something else than it seems to; a **note**
may well be meant. To silence codes for one document, name them in an annotation of it:

```yaml
metadata:
  annotations:
    citadel/lint-ignore: host-without-port, allows-everything
```
"""


def reference() -> str:
    """The whole page, as Markdown."""
    lines = [_HEAD]
    for severity in Severity:
        lines += [
            f"## {severity.value.capitalize()}s",
            "",
            "| code | what is the matter | how to mend it |",
            "|---|---|---|",
        ]
        lines += [
            f"| `{check.code}` | {_cell(check.meaning)} | {_cell(check.mend)} |"
            for check in sorted(CHECKS.values(), key=lambda check: check.code)
            if check.severity is severity
        ]
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")

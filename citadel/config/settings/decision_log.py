"""`[authorization.decision_log]`: what was decided."""

from __future__ import annotations

from citadel.config.settings.section import Section, setting
from citadel.config.values import ClaimNames, FileMode, HeaderNames, OptionalPath, Size


class DecisionLogSettings(Section):
    """What was decided: every denial, and some of what was allowed. See docs/authorization-doors.md."""

    path: OptionalPath = setting(
        "DATA_DIR/decisions/decisions.jsonl", "The file that decisions are logged to, a line of JSON each. Empty: none."
    )
    mode: FileMode = setting("0600", "Mode of the file.")
    size: Size = setting("64MiB", "The file is rotated before it is larger.")
    files: int = setting(4, "How many files are kept, the one that is written to included.", ge=1, le=100)
    stream: bool = setting(True, "Whether decisions are in the log on standard error, too.")
    allows: float = setting(0.0, "Which share of the allowed requests is logged, from 0 to 1.", ge=0, le=1)
    masked_headers: HeaderNames = setting(
        [],
        "Headers, query parameters and keys of metadata whose values are never logged, besides those that hold secrets "
        "by their names.",
    )
    masked_claims: ClaimNames = setting(
        [],
        "Claims (`email`, `address.street`) whose values are never logged, besides those that hold secrets by their "
        "names. `iss` and `sub` are logged unless they are named here.",
    )

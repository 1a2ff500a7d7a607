"""OpenID AuthZEN's Authorization API 1.0 without its transport: questions in, answers out.

`messages` is what is sent, `mapping` makes requests for the engine of it, `paging` the tokens of searches, `door` the
use cases. The directory of entities, which fills in and is searched, is authz.entities. HTTP is in api.authzen. The
guide: docs/authzen.md.
"""

from citadel.authz.doors.authzen.door import Asker, AuthzenDoor, AuthzenRules
from citadel.authz.doors.authzen.mapping import NamedWorkload
from citadel.authz.doors.authzen.messages import (
    ActionSearch,
    ActionSearchAnswer,
    Answer,
    Answers,
    Evaluation,
    Evaluations,
    ResourceSearch,
    SearchAnswer,
    SubjectSearch,
)
from citadel.authz.doors.authzen.ports import Workloads

__all__ = [
    "ActionSearch",
    "ActionSearchAnswer",
    "Answer",
    "Answers",
    "Asker",
    "AuthzenDoor",
    "AuthzenRules",
    "Evaluation",
    "Evaluations",
    "NamedWorkload",
    "ResourceSearch",
    "SearchAnswer",
    "SubjectSearch",
    "Workloads",
]

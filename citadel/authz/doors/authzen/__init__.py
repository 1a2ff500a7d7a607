"""OpenID AuthZEN's Authorization API 1.0 without its transport: questions in, answers out.

`messages` is what is sent, `mapping` makes requests for the engine of it, `entities` is the directory that fills in and
is searched, `paging` the tokens of searches, `door` the use cases. HTTP is in api.authzen. The guide: docs/authzen.md.
"""

from citadel.authz.doors.authzen.door import Asker, AuthzenDoor, AuthzenRules
from citadel.authz.doors.authzen.entities import Actor, Entity, EntityDirectory, read_entities
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
    "Actor",
    "Answer",
    "Answers",
    "Asker",
    "AuthzenDoor",
    "AuthzenRules",
    "Entity",
    "EntityDirectory",
    "Evaluation",
    "Evaluations",
    "NamedWorkload",
    "ResourceSearch",
    "SearchAnswer",
    "SubjectSearch",
    "Workloads",
    "read_entities",
]

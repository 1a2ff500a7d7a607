"""The decision log: what was decided, with what is needed to decide it again, and nothing that is secret.

`referred` says what the policies of a workload look at, `record` makes a record of a ruling, `backlog` bounds what
waits to be written, `log` writes it (and is what the decision point tells), `files` is where it goes and is found
again, `again` decides a record once more, `lookup` does so by its id.
"""

from citadel.authz.decision_log.again import Again, decide_again, logged_request
from citadel.authz.decision_log.backlog import Backlog
from citadel.authz.decision_log.files import LogFiles
from citadel.authz.decision_log.log import DecisionLog, LogMeter, Share
from citadel.authz.decision_log.lookup import FormerSets, Found, Lookup
from citadel.authz.decision_log.record import SCHEMA, Recorder

__all__ = [
    "SCHEMA",
    "Again",
    "Backlog",
    "DecisionLog",
    "FormerSets",
    "Found",
    "LogFiles",
    "LogMeter",
    "Lookup",
    "Recorder",
    "Share",
    "decide_again",
    "logged_request",
]

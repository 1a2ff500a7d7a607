"""Tables of decisions: requests and what the policies must say of them, in `*_test.yaml` files beside the policies.

`table` reads one, `trial` runs it, `coverage` says which rules and `fields` no request met, `junit` writes what CI
systems read.
"""

from citadel.authz.tables.coverage import Coverage
from citadel.authz.tables.junit import junit
from citadel.authz.tables.table import Case, MeshBlock, Table, find_tables, read_mesh, read_table
from citadel.authz.tables.trial import CaseResult, Trial, run_table

__all__ = [
    "Case",
    "CaseResult",
    "Coverage",
    "MeshBlock",
    "Table",
    "Trial",
    "find_tables",
    "junit",
    "read_mesh",
    "read_table",
    "run_table",
]

"""Where policies come from: files, and (when it is built) the store. The edge of authz that does I/O.

`files` reads files, directories and standard input. `source` follows a file or directory and says which set is in
force; `caution` is what it does not believe at once, `kept` what it remembers over a restart.
"""

from citadel.authz.sources.files import load_paths, read_paths
from citadel.authz.sources.kept import KeptPolicies
from citadel.authz.sources.source import Held, InForce, NoSourceMeter, PolicySource, SourceMeter

__all__ = [
    "Held",
    "InForce",
    "KeptPolicies",
    "NoSourceMeter",
    "PolicySource",
    "SourceMeter",
    "load_paths",
    "read_paths",
]

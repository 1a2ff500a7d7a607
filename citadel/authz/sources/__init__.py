"""Where policies come from: files, and the store. The edge of authz that does I/O.

`source` says which set is in force, by what an `origin` says: `folder` follows a file or directory (`files` reads
them), authz.stored the store. `caution` is what is not believed at once, `kept` what is remembered over a restart.
"""

from citadel.authz.sources.files import load_paths, read_paths
from citadel.authz.sources.folder import FolderOrigin
from citadel.authz.sources.kept import Kept, KeptPolicies, kept_in, take_along
from citadel.authz.sources.origin import Origin, Reading
from citadel.authz.sources.source import Held, InForce, NoSourceMeter, PolicySource, SourceMeter

__all__ = [
    "FolderOrigin",
    "Held",
    "InForce",
    "Kept",
    "KeptPolicies",
    "NoSourceMeter",
    "Origin",
    "PolicySource",
    "Reading",
    "SourceMeter",
    "kept_in",
    "load_paths",
    "read_paths",
    "take_along",
]

"""Loading: YAML and JSON to the values of `citadel.authz.model`, all mistakes at once, all or nothing. No I/O.

`text` finds the documents in a file, `tree` reads one without trusting it, `documents` says whose it is, the modules
named for a kind read its `spec`, `loading` puts a whole load together, `result` is what comes out.
"""

from citadel.authz.load.loading import SourceText, load, load_text
from citadel.authz.load.result import LoadWarning, Origin, PolicyDocuments, Skipped

__all__ = ["LoadWarning", "Origin", "PolicyDocuments", "Skipped", "SourceText", "load", "load_text"]

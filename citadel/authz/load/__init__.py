"""Loading: YAML and JSON to the values of `citadel.authz.model`, all mistakes at once, all or nothing. No I/O.

`text` finds the documents in a file, `read` and `yaml_events` make a `tree` of one without trusting it, `places` says
where in the text a value is, `documents` whose a document is. The modules named for a kind read its `spec`, `loading`
puts a whole load together, `result` is what comes out.
"""

from citadel.authz.load.loading import SourceText, load, load_text
from citadel.authz.load.result import LoadWarning, Origin, PolicyDocuments, Skipped

__all__ = ["LoadWarning", "Origin", "PolicyDocuments", "Skipped", "SourceText", "load", "load_text"]

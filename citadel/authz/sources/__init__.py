"""Where policies come from: files, and (when it is built) the store. The edge of authz that does I/O.

`files` reads files, directories and standard input.
"""

from citadel.authz.sources.files import load_paths, read_paths

__all__ = ["load_paths", "read_paths"]

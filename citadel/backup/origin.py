"""Where a backup comes from. Anybody can seal a file to a public key; whoever restores one trusts the roots in it.

So a backup carries a proof: a digest of all that is in it, sealed under the key-encryption key of the Citadel that made
it. One that is opened with a passphrase needs none: whoever sealed it knew that.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import replace

from citadel.backup.manifest import Manifest
from citadel.errors import CitadelError, FailedPrecondition, Unavailable

CONTEXT = b"citadel backup, made by the holder of this key"

Seal = Callable[[bytes], bytes]
"""A digest, sealed under the key-encryption key."""
Open = Callable[[bytes], Awaitable[bytes]]
"""The digest in what was sealed. Raises FailedPrecondition, Unavailable."""


def proved(manifest: Manifest, seal: Seal) -> Manifest:
    return replace(manifest, proof=base64.b64encode(seal(_digest(manifest))).decode())


async def refuse_unproved(manifest: Manifest, opened: Open | None) -> None:
    """Raises FailedPrecondition unless `manifest` (with the digest of the database, which was compared) is proved."""
    why = "it carries no proof of it"
    if manifest.proof and opened is None:
        why = "the key-encryption key that could tell is not here"
    elif manifest.proof and opened is not None:
        try:
            if await opened(base64.b64decode(manifest.proof, validate=True)) == _digest(manifest):
                return
            why = "its proof is of something else"
        except Unavailable as error:
            why = f"the key-encryption key that could tell cannot be asked now ({error.message})"
        except (CitadelError, ValueError):  # ValueError: no base64
            why = "its proof is not of the key-encryption key that is here"
    raise FailedPrecondition(
        f"nobody can tell whether a Citadel of yours made this backup: {why}",
        mend="put the key-encryption key that belongs to it in its place first; or, if you are sure where the file "
        "comes from, add --accept-unproved (see docs/backup.md)",
    )


def _digest(manifest: Manifest) -> bytes:
    return hashlib.sha256(replace(manifest, proof="").encode()).digest()

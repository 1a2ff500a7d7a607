"""The last good set of policies on disk: what is in force after a restart until the source gives something good."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from citadel.authz.load import SourceText
from citadel.durable import replace_file
from citadel.errors import FailedPrecondition, PermissionDenied

SCHEMA = "citadel.dev/last-good-policies/v1"


def kept_in(data_dir: Path) -> Path:
    """Where a server keeps its set: by a name that is none of a policy, since the folder of these may be around it."""
    return data_dir / "policies.last-good"


def take_along(data_dir: Path) -> None:
    """Move what former versions kept in DATA_DIR/policies to where it is kept now. Blocks; raises PermissionDenied.

    A file of that name that is somebody's own stays."""
    former = data_dir / "policies" / "last-good.json"
    try:
        with former.open("rb") as file:
            ours = SCHEMA.encode() in file.read(len(SCHEMA) + 32)
        if ours:
            former.replace(kept_in(data_dir))
    except FileNotFoundError:
        return
    except OSError as error:
        raise PermissionDenied(f"{former} cannot be moved to {kept_in(data_dir)}: {error.strerror}") from None


@dataclass(frozen=True, slots=True)
class Kept:
    """A set as it was kept, and which version of the store it is (0: not the store's)."""

    texts: Sequence[SourceText]
    number: int = 0


class KeptPolicies:
    """One file, of mode 0600, replaced whole. Its folder is made if need be. All methods block."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def save(self, texts: Sequence[SourceText], number: int = 0) -> None:
        """Keep these files instead of what was kept. On return they survive a loss of power. Raises PermissionDenied,
        and then what was kept before is kept still."""
        files = [{"name": one.name, "content": base64.b64encode(one.content).decode()} for one in texts]
        document = {"schema": SCHEMA, "stored_version": number, "files": files}
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            replace_file(self._path, json.dumps(document).encode())
        except OSError as error:
            raise PermissionDenied(f"{self._path} cannot be written: {error.strerror}") from None

    def load(self) -> Kept | None:
        """What was kept; None if nothing was. Raises FailedPrecondition if it cannot be read."""
        try:
            document = json.loads(self._path.read_bytes())
            if document["schema"] != SCHEMA:
                raise ValueError
            texts = [
                SourceText(one["name"], base64.b64decode(one["content"], validate=True)) for one in document["files"]
            ]
            return Kept(texts, int(document.get("stored_version", 0)))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise FailedPrecondition(f"{self._path} cannot be read: {error.strerror}") from None
        except (ValueError, KeyError, TypeError, RecursionError, binascii.Error):
            raise FailedPrecondition(
                f"{self._path} does not hold a set of policies",
                mend="remove it; the policies are read from their source",
            ) from None

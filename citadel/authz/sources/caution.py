"""What is not believed without being confirmed: that the policies of a mesh are gone.

Where no policy applies everything is allowed, so that a volume that was not mounted, or another one in its place, would
open the mesh.
"""

from __future__ import annotations

from collections.abc import Iterable

from citadel.authz.model import AuthorizationPolicy, Document


def doubt(before: Iterable[Document] | None, after: Iterable[Document]) -> str:
    """Why the step from `before` (None: there was nothing) to `after` waits for somebody; empty: it does not."""
    new = {one.name for one in after if isinstance(one, AuthorizationPolicy)}
    if before is None:
        return "" if new else "it has no AuthorizationPolicy at all, and where there is none everything is allowed"
    old = {one.name for one in before if isinstance(one, AuthorizationPolicy)}
    lost = old - new
    if old and not new:
        return f"it has no AuthorizationPolicy any more, and {_counted(len(old))} in force"
    if len(lost) * 2 > len(old):
        return f"of the {len(old)} policies in force {len(lost)} are not in it"
    return ""


def _counted(number: int) -> str:
    return "1 is" if number == 1 else f"{number} are"

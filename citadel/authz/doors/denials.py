"""What the client is told that is denied: the same through every door that speaks HTTP in the end."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from citadel.authz.decision import Reason
from citadel.authz.decision_point import Ruling

DENIED = b"RBAC: access denied"
_FACT = re.compile(r"\{([^{}]*)\}")


@dataclass(frozen=True, slots=True)
class DenialHeader:
    """A response header of denials. `{reason}`, `{policy}`, `{id}` and `{version}` in its text are those of the
    ruling; if one of them is empty, the header is left out."""

    name: str
    text: str

    def names(self, fact: str) -> bool:
        return fact in _FACT.findall(self.text)

    def of(self, ruling: Ruling) -> str:
        """The value; empty: there is none."""
        decision = ruling.decision
        facts = {
            "id": ruling.id,
            "reason": decision.reason.value,
            "policy": "" if decision.policy is None else str(decision.policy),
            "version": ruling.version,
        }
        if any(not facts[fact] for fact in _FACT.findall(self.text)):
            return ""
        text = _FACT.sub(lambda found: facts[found[1]], self.text)
        return "".join(one if " " <= one <= "~" else "?" for one in text)


@dataclass(frozen=True, slots=True)
class Denial:
    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


def denial(ruling: Ruling, denial_headers: Iterable[DenialHeader]) -> Denial:
    """What the client gets. A provider that denied has its own say."""
    headers = [(one.name, value) for one in denial_headers if (value := one.of(ruling))]
    if ruling.decision.reason is Reason.BAD_TOKEN and ruling.status == 401:
        headers.append(("www-authenticate", 'Bearer error="invalid_token"'))
    refusal = ruling.refusal
    if refusal is None:
        return Denial(ruling.status, tuple(headers), DENIED)
    return Denial(ruling.status, (*refusal.headers, *headers), refusal.body or DENIED)

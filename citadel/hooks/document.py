"""What a hook is told: one JSON object, whose keys stay as they are."""

from __future__ import annotations

import json

from citadel.ca.rotation.hooks import Question

MOST_SAID = 300  # characters of an answer that are kept


def document(question: Question) -> bytes:
    """`phase`: prepare, activate or remove. SKIDs are lower-case hex; empty: there is none yet."""
    return json.dumps(
        {
            "version": 1,
            "phase": str(question.step),
            "trust_domain": question.trust_domain,
            "plan": question.plan,
            "incoming": question.incoming,
            "outgoing": question.outgoing,
            "actor": question.actor,
            "reason": question.reason,
            "planned": question.planned,
        }
    ).encode()


def said(answer: bytes) -> str:
    """The beginning of what it said, on one line and without control characters."""
    text = " ".join(answer.decode(errors="replace").split())
    return "".join(c if c.isprintable() else "?" for c in text)[:MOST_SAID]

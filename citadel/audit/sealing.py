"""The private half of the key that signs checkpoints: sealed for the store, and opened from it."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_der_private_key

from citadel.audit.checkpoint import AuditKey
from citadel.audit.ports import SealedAuditKey, Sealer
from citadel.errors import FailedPrecondition


async def seal(private: Ed25519PrivateKey, kek: Sealer) -> SealedAuditKey:
    key = AuditKey.of(private.public_key())
    plain = private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    return SealedAuditKey(key, kek.id, await kek.seal(plain, _context(key)))


async def unseal(sealed: SealedAuditKey, kek: Sealer) -> Ed25519PrivateKey:
    """Raises FailedPrecondition if it was sealed under another key-encryption key, or is not what it says it is."""
    if not kek.holds(sealed.kek_id):
        raise FailedPrecondition(
            f"the audit key {sealed.key.id[:16]} is sealed under {sealed.kek_id}, and we hold {kek.id}",
            mend="put back the key file that belongs to this database",
        )
    plain = await kek.open(sealed.ciphertext, _context(sealed.key))
    try:
        private = load_der_private_key(plain, None)
    except (ValueError, TypeError):  # without the cause: it may show what was sealed
        private = None
    if not isinstance(private, Ed25519PrivateKey) or AuditKey.of(private.public_key()) != sealed.key:
        raise FailedPrecondition(
            f"what is sealed as the audit key {sealed.key.id[:16]} is another key", mend="restore a backup"
        )
    return private


def _context(key: AuditKey) -> bytes:
    return b"citadel audit key " + key.id.encode()

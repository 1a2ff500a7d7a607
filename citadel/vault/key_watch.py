"""Keys of transit, watched: the issuing CA's and the key-encryption key, as their settings say now. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from citadel.ca import keys
from citadel.errors import FailedPrecondition
from citadel.vault.findings import Finding, FindingKind
from citadel.vault.transit_keys import REPLACE, TransitKey, key_faults, public_key_of, type_of

K = FindingKind


def signing_key_findings(facts: Mapping[str, object] | None, key: TransitKey, public: keys.PublicKey) -> list[Finding]:
    """Of the key that signs for an issuing CA. `facts` None: Vault has no such key."""
    if facts is None:
        sentence = f"{key} is not there any more: nothing is signed"
        return [Finding(K.KEY_GONE, key.name, sentence, REPLACE, stops=True)]
    return list(_signing(facts, key, public))


def _signing(facts: Mapping[str, object], key: TransitKey, public: keys.PublicKey) -> Iterator[Finding]:
    if faults := key_faults(facts, type_of(public)):
        sentence = f"{key} {'; it '.join(faults)}: nothing is signed with it"
        yield Finding(K.KEY_UNFIT, key.name, sentence, f"see who may change keys in that mount; {REPLACE}", stops=True)
    least = max(_number(facts, "min_decryption_version"), _number(facts, "min_encryption_version"))
    if least > key.version:
        sentence = f"{key} permits its version {least} and later, and the issuing CA's is {key.version}"
        mend = f"lower min_decryption_version and min_encryption_version, or {REPLACE}"
        yield Finding(K.KEY_ARCHIVED, key.name, sentence, mend, stops=True)
        return
    try:
        same = public_key_of(facts, key) == public
    except FailedPrecondition:
        same = False
    if not same:
        sentence = f"{key} is another key than that of the issuing CA: it was deleted, and made anew"
        yield Finding(K.KEY_REPLACED, key.name, sentence, REPLACE, stops=True)
    elif (latest := _number(facts, "latest_version")) > key.version:
        sentence = f"{key} was rotated to its version {latest}; Citadel goes on signing with its version {key.version}"
        mend = f"see who rotated it, it is not needed; to have a new key: {REPLACE.partition(': ')[2]}"
        yield Finding(K.KEY_ROTATED, key.name, sentence, mend)


def kek_findings(
    facts: Mapping[str, object] | None, where: str, name: str, oldest: int, unfit: list[str]
) -> list[Finding]:
    """Of the key-encryption key. `oldest`: the lowest version under which something was sealed, as far as is known; 0:
    nothing is known. `unfit`: what is wrong with its kind and settings."""
    if facts is None:
        sentence = f"{where} is not there any more: what is sealed with it cannot be opened after a restart"
        return [Finding(K.KEY_GONE, name, sentence, "restore it in Vault; do not restart Citadel before", stops=True)]
    found = []
    if unfit:
        mend = "set it back in Vault (keys/NAME/config); what was exportable once stays so, and is to be replaced"
        found.append(Finding(K.KEY_UNFIT, name, f"{where} {'; it '.join(unfit)}", mend, stops=True))
    least = _number(facts, "min_decryption_version")
    if oldest and least > oldest:
        sentence = f"{where} opens nothing below its version {least}, and keys are sealed under its version {oldest}"
        found.append(Finding(K.KEY_ARCHIVED, name, sentence, "lower its min_decryption_version in Vault", stops=True))
    return found


def _number(facts: Mapping[str, object], name: str) -> int:
    found = facts.get(name)
    return found if isinstance(found, int) and not isinstance(found, bool) else 0

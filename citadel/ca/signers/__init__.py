"""Signers: where issuing keys are held and used. Each implements ports.Signer or ports.IssuingKeys."""

from citadel.ca.signers.places import KeyPlaces
from citadel.ca.signers.sealed import SealedKeys
from citadel.ca.signers.software import SoftwareSigner

__all__ = ["KeyPlaces", "SealedKeys", "SoftwareSigner"]

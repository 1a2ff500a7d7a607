"""Signers: where issuing keys are held and used. Each implements ports.Signer."""

from citadel.ca.signers.software import SoftwareSigner

__all__ = ["SoftwareSigner"]

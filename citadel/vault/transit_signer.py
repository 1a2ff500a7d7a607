"""Issuing keys in Vault's transit engine: made there, used there, never here (API docs, "Transit secrets engine").

One key per issuing CA, with a name of its own; of it, one version. Whoever can read the key's settings sees that it
cannot leave Vault: it is looked at before its first use in this process, and refused if it could.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
import secrets
from collections.abc import Callable, Mapping, Sequence

from cryptography.hazmat.primitives.asymmetric import ec, rsa

from citadel.ca import keys
from citadel.ca.certificates import parse
from citadel.ca.lint import LintedCertificate
from citadel.ca.model import Authority, KeySource
from citadel.ca.ports import IssuingKey
from citadel.ca.strength import KeyPolicy, weakness
from citadel.errors import CitadelError, FailedPrecondition, InternalFault, NotFound, Unavailable
from citadel.vault.batches import Batches
from citadel.vault.failures import LATER, shown
from citadel.vault.findings import Finding
from citadel.vault.key_watch import signing_key_findings
from citadel.vault.remote_key import digest_of, remote_private_key
from citadel.vault.session import Session
from citadel.vault.transit_keys import REPLACE, TransitKey, key_faults, public_key_of, type_of

_TYPES = {
    keys.KeyType.EC_P256: "ecdsa-p256",
    keys.KeyType.EC_P384: "ecdsa-p384",
    keys.KeyType.RSA_2048: "rsa-2048",
    keys.KeyType.RSA_3072: "rsa-3072",
    keys.KeyType.RSA_4096: "rsa-4096",
}
_HASHES = {"sha256": "sha2-256", "sha384": "sha2-384"}
_SIGNATURE = re.compile(r"vault:v(?P<version>[1-9][0-9]{0,8}):(?P<bits>[A-Za-z0-9+/]+={0,2})")
_LONGEST_SECONDS = 60.0


class TransitKeys:
    """Contract: ports.IssuingKeys. New keys are made in the mount `mount`, which is for nothing else."""

    def __init__(self, session: Session, mount: str, *, entropy: Callable[[int], bytes] = secrets.token_bytes) -> None:
        self._session = session
        self._mount = mount.strip("/")
        self._entropy = entropy

    @property
    def source(self) -> KeySource:
        return KeySource.VAULT

    def makes_such(self, authority: Authority) -> bool:
        return authority.key_source is KeySource.VAULT and authority.key_ref.startswith("transit:")

    async def make(self, kind: keys.KeyType) -> IssuingKey:
        """See ports.IssuingKeys. A key that is made and never written down stays unused in Vault."""
        key = TransitKey(self._mount, f"issuing-ca-{self._entropy(8).hex()}", 1)
        settings = {"type": _TYPES[kind], "exportable": False, "allow_plaintext_backup": False}
        await self._session.call("post", f"{key.mount}/keys/{key.name}", settings)
        facts = (await self._session.call("get", f"{key.mount}/keys/{key.name}")).data
        faults = key_faults(facts, _TYPES[kind])
        if facts.get("latest_version") != 1:
            faults.append("is not a new one")
        if faults:
            raise FailedPrecondition(
                f"{key}, made just now, {'; it '.join(faults)}", mend="see who else changes keys in that mount"
            )
        public = public_key_of(facts, key)
        fault = weakness(public, KeyPolicy())
        if fault or type_of(public) != _TYPES[kind]:  # not what Vault says it is
            raise FailedPrecondition(
                f"{key}, made just now, {fault or f'is {type_of(public)}; asked for was {_TYPES[kind]}'}",
                mend="see what answers in Vault's place",
            )
        signer = TransitSigner(self._session, key, public)
        loop = asyncio.get_running_loop()

        def sign(digest: bytes) -> bytes:
            """In a worker thread: the builders of cryptography are synchronous."""
            return asyncio.run_coroutine_threadsafe(signer.sign_digest(digest), loop).result(_LONGEST_SECONDS)

        return IssuingKey(remote_private_key(public, sign), KeySource.VAULT, key.reference)

    async def signer(self, authority: Authority) -> TransitSigner:
        public = parse(authority.certificate.der).public_key()
        assert isinstance(public, ec.EllipticCurvePublicKey | rsa.RSAPublicKey)  # no other kind was written down
        return TransitSigner(self._session, TransitKey.parse(authority.key_ref), public)


class TransitSigner:
    """Contract: ports.Signer. What many tasks want signed at once goes in one call (`batch_input`)."""

    def __init__(self, session: Session, key: TransitKey, public: keys.PublicKey) -> None:
        self._session = session
        self._key = key
        self._public = public
        self._algorithm = keys.signature_algorithm(public).hash
        self._batches = Batches(self._have_signed)
        self._fits = False
        self._turn = asyncio.Lock()

    @property
    def public_key(self) -> keys.PublicKey:
        return self._public

    @property
    def remote(self) -> bool:
        return True

    async def sign(self, certificate: LintedCertificate) -> bytes:
        """See ports.Signer. Whoever asked for the certificate can do nothing about what is wrong with Vault, so all
        that it refuses is Unavailable here: asked again later, it works when somebody has mended it."""
        try:
            return await self.sign_digest(digest_of(certificate.tbs, self._algorithm))
        except (Unavailable, InternalFault):
            raise
        except CitadelError as error:
            raise Unavailable(error.message, mend=error.mend, retry_after=LATER) from error

    async def sign_digest(self, digest: bytes) -> bytes:
        """Raises what Session.call does; FailedPrecondition if the key is not fit to be used."""
        if not self._fits:
            await self._look()
        return await self._batches.ask(digest)

    async def examine(self) -> list[Finding]:
        """What became of the key, for the watch. It is looked at again before it is used next if it became unfit.
        Raises what Session.call does."""
        try:
            facts = (await self._session.call("get", f"{self._key.mount}/keys/{self._key.name}")).data
        except NotFound:
            facts = None
        found = signing_key_findings(facts, self._key, self._public)
        if any(one.stops for one in found):
            self._fits = False
        return found

    def __repr__(self) -> str:
        return f"TransitSigner({keys.skid(self._public)})"

    async def _look(self) -> None:
        async with self._turn:
            if self._fits:
                return
            facts = await self._facts()
            faults = key_faults(facts, type_of(self._public))
            if faults:
                raise FailedPrecondition(f"{self._key} {'; it '.join(faults)}", mend=REPLACE)
            if public_key_of(facts, self._key) != self._public:
                raise FailedPrecondition(f"{self._key} is another key than that of the issuing CA", mend=REPLACE)
            self._fits = True

    async def _facts(self) -> Mapping[str, object]:
        try:
            return (await self._session.call("get", f"{self._key.mount}/keys/{self._key.name}")).data
        except NotFound as error:
            if "no handler" in error.message:  # so Vault says that there is no such mount
                raise
            raise FailedPrecondition(f"{self._key} is not there any more", mend=REPLACE) from None

    async def _have_signed(self, digests: Sequence[bytes]) -> Sequence[bytes]:
        body: dict[str, object] = {
            "batch_input": [{"input": base64.b64encode(one).decode()} for one in digests],
            "prehashed": True,
            "hash_algorithm": _HASHES[self._algorithm.name],
            "key_version": self._key.version,
        }
        if isinstance(self._public, rsa.RSAPublicKey):
            body["signature_algorithm"] = "pkcs1v15"
        else:
            body["marshaling_algorithm"] = "asn1"
        try:
            reply = await self._session.call("post", f"{self._key.mount}/sign/{self._key.name}", body)
        except FailedPrecondition as error:  # the key is gone, mostly
            raise FailedPrecondition(error.message, mend=REPLACE) from None
        results = reply.data.get("batch_results")
        if not isinstance(results, list) or len(results) != len(digests):
            raise InternalFault(f"{self._key} did not give {len(digests)} signatures when asked for them")
        return [self._bits(one) for one in results]

    def _bits(self, result: object) -> bytes:
        text = result.get("signature") if isinstance(result, Mapping) else None
        found = _SIGNATURE.fullmatch(text) if isinstance(text, str) else None
        if found is None and isinstance(result, Mapping) and result.get("error"):
            raise FailedPrecondition(f"{self._key} did not sign: {shown(str(result['error']))}", mend=REPLACE)
        if found is None:
            raise InternalFault(f"{self._key} gave something that is no signature")
        if int(found["version"]) != self._key.version:
            raise InternalFault(
                f"{self._key} signed with its version {found['version']}; the issuing CA's is {self._key.version}"
            )
        try:
            return base64.b64decode(found["bits"], validate=True)
        except binascii.Error:
            raise InternalFault(f"{self._key} gave something that is no signature") from None


__all__ = ["TransitKeys", "TransitSigner"]

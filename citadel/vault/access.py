"""How Vault is reached and how we sign in: values, with secrets read from their files anew at every login."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from citadel.ca.files import read_public, read_secret
from citadel.errors import BadFile, Mistake

#: Where Kubernetes puts a pod's own token (kubernetes.io, "Configure Service Accounts for Pods").
SERVICE_ACCOUNT_TOKEN = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")


@dataclass(frozen=True, slots=True)
class SecretFile:
    """A file that holds one secret on one line. `credential`: systemd put it there, which shows as group-readable."""

    path: Path
    credential: bool = False

    def read(self, what: str) -> str:
        """The secret. Raises NotFound, PermissionDenied, UnsafePermissions, BadFile; none of them shows it."""
        return _one_line(read_secret(self.path, what=what, links=True, group_reads=self.credential), self.path, what)


@dataclass(frozen=True, slots=True)
class Login:
    """One login: what is posted where."""

    path: str
    body: dict[str, str] = field(repr=False)


@dataclass(frozen=True, slots=True)
class TokenSignIn:
    """A token that somebody else made and, if it cannot be renewed for ever, replaces in its file. `wrapped`: what is
    in the file is the token of a wrapping, good for one use."""

    file: SecretFile
    wrapped: bool = False

    def token(self) -> str:
        return self.file.read("Vault token file")

    def __str__(self) -> str:
        return f"the token in {self.file.path}"


@dataclass(frozen=True, slots=True)
class GivenToken:
    """An operator's token, for one command. `source` says where it is from."""

    text: str = field(repr=False)
    source: str

    def token(self) -> str:
        return self.text

    def __str__(self) -> str:
        return f"the token in {self.source}"


@dataclass(frozen=True, slots=True)
class AppRoleSignIn:
    """`auth/approle`: a role id, and a secret id from a file. `wrapped`: as TokenSignIn."""

    role_id: str
    secret_id: SecretFile
    mount: str = "approle"
    wrapped: bool = False

    def login(self) -> Login:
        secret = self.secret_id.read("file of the AppRole's secret id")
        return Login(f"auth/{self.mount}/login", {"role_id": self.role_id, "secret_id": secret})

    def __str__(self) -> str:
        return f"the AppRole {self.role_id} at auth/{self.mount}"


@dataclass(frozen=True, slots=True)
class JwtSignIn:
    """`auth/jwt` and `auth/kubernetes`: a role, and a JWT that its issuer keeps replacing in its file."""

    role: str
    jwt: Path
    mount: str = "jwt"

    def login(self) -> Login:
        # Kubernetes mounts the pod's own token readable by the whole pod, so its mode says nothing.
        token = _one_line(read_public(self.jwt, what="token file"), self.jwt, "token file")
        return Login(f"auth/{self.mount}/login", {"role": self.role, "jwt": token})

    def __str__(self) -> str:
        return f"the role {self.role} at auth/{self.mount}, with the token in {self.jwt}"


@dataclass(frozen=True, slots=True)
class CertificateSignIn:
    """`auth/cert`: the client certificate of the connection itself. `name` may be empty: then Vault finds the role."""

    name: str = ""
    mount: str = "cert"

    def login(self) -> Login:
        return Login(f"auth/{self.mount}/login", {"name": self.name} if self.name else {})

    def __str__(self) -> str:
        return f"the client certificate at auth/{self.mount}"


SignIn = TokenSignIn | GivenToken | AppRoleSignIn | JwtSignIn | CertificateSignIn


@dataclass(frozen=True, slots=True)
class VaultAccess:
    """`addresses` are URLs, the preferred one first. `ca_file` None: the system's CAs. `client_certificate`: two PEM
    files, certificate and key. `timeout` is for one call to one address, from its first byte to its last."""

    addresses: tuple[str, ...]
    sign_in: SignIn
    namespace: str = ""
    ca_file: Path | None = None
    client_certificate: tuple[Path, Path] | None = None
    timeout: timedelta = timedelta(seconds=10)
    threads: int = 8


def _one_line(content: bytes, path: Path, what: str) -> str:
    try:
        text = content.decode("ascii").strip()
    except UnicodeDecodeError:
        text = ""
    if not text or not text.isprintable() or " " in text:
        raise BadFile([Mistake(str(path), "", f"this {what} must hold one line of text without spaces")])
    return text

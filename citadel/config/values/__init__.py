"""The kinds of value that settings have: each is read from text once, and is right from then on."""

from citadel.config.values.callers import Callers, Groups, OptionalGroup, Users
from citadel.config.values.headers import ClaimNames, HeaderLines, HeaderNames
from citadel.config.values.hooks import Command, Steps, WebhookUrl
from citadel.config.values.identities import NodeName, OptionalSpiffeId, SpiffeIds, TrustDomainName, TrustDomainNames
from citadel.config.values.keys import Kek, KeyTypeName
from citadel.config.values.network import (
    HostNames,
    ListenAddress,
    Networks,
    OptionalHttpsDocument,
    OptionalHttpsUrl,
    OptionalListen,
    Urls,
)
from citadel.config.values.paths import (
    DATA_DIR,
    MAX_SOCKET_PATH,
    AbsolutePath,
    FileMode,
    OptionalPath,
    OptionalSocketPath,
    Paths,
    Places,
    SocketPath,
)
from citadel.config.values.secret import OptionalSecret, SecretSource
from citadel.config.values.sizes import Size
from citadel.config.values.times import Duration, Part, Quiet, TimeZone
from citadel.config.values.vault import TransitKey, VaultPath

__all__ = [
    "DATA_DIR",
    "MAX_SOCKET_PATH",
    "AbsolutePath",
    "Callers",
    "ClaimNames",
    "Command",
    "Duration",
    "FileMode",
    "Groups",
    "HeaderLines",
    "HeaderNames",
    "HostNames",
    "Kek",
    "KeyTypeName",
    "ListenAddress",
    "Networks",
    "NodeName",
    "OptionalGroup",
    "OptionalHttpsDocument",
    "OptionalHttpsUrl",
    "OptionalListen",
    "OptionalPath",
    "OptionalSecret",
    "OptionalSocketPath",
    "OptionalSpiffeId",
    "Part",
    "Paths",
    "Places",
    "Quiet",
    "SecretSource",
    "Size",
    "SocketPath",
    "SpiffeIds",
    "Steps",
    "TimeZone",
    "TransitKey",
    "TrustDomainName",
    "TrustDomainNames",
    "Urls",
    "Users",
    "VaultPath",
    "WebhookUrl",
]

"""`[rotation]`: for whom a rotation waits, when one is planned, and who is asked."""

from __future__ import annotations

from typing import Literal

from citadel.config.settings.section import Section, setting
from citadel.config.values import (
    Command,
    Duration,
    OptionalPath,
    OptionalSecret,
    Part,
    Quiet,
    Steps,
    TimeZone,
    WebhookUrl,
)


class ScheduleSettings(Section):
    """Planned rotation: what Citadel replaces by itself, and when. `citadel root plan` shows what comes of it."""

    root_at: Part = setting("80%", "At which part of its life the root is replaced. 0: never by itself.")
    issuing_at: Part = setting("50%", "At which part of its life an issuing CA is replaced.")
    approval: bool = setting(True, "Whether a planned rotation of the root waits for `citadel root approve` to begin.")
    quiet_hours: Quiet = setting(
        [],
        "When no planned step is taken: `Mon-Fri 08:00-18:00`, `Sat,Sun 00:00-24:00`, `22:00-06:00`. What an operator "
        "asks for, an emergency, and a root or issuing CA that is about to end, do not wait for them.",
    )
    time_zone: TimeZone = setting("UTC", "By whose clocks: a name such as `Europe/Berlin`.")


class HookSettings(Section):
    """Checks of your own that a rotation has to pass: before a root is prepared, before it signs, before the old one is
    removed. A no holds the step (`citadel root status`); `--force` overrides it. An emergency asks nobody."""

    command: Command = setting(
        [],
        "A program and its arguments, run without a shell: it reads JSON on its standard input, and exit status 0 lets "
        "the rotation pass. Empty: none.",
    )
    webhook: WebhookUrl = setting(
        "", "An HTTPS address that the same JSON is posted to: an answer of 2xx lets the rotation pass. Empty: none."
    )
    webhook_secret: OptionalSecret = setting(
        "", "The key that signs what is posted (standard-webhooks.com): `file:PATH` (mode 0600) or `credential:NAME`."
    )
    webhook_ca: OptionalPath = setting("", "PEM file of the CAs of the webhook's certificate. Empty: the system's.")
    steps: Steps = setting(["prepare", "activate", "remove"], "The steps that are asked about.")
    timeout: Duration = setting("10s", "How long an answer may take.")
    again: Duration = setting("1m", "After a no, how long until it is asked again.")


class RotationSettings(Section):
    """Rotation of the root: for whom it waits, and for how long. See docs/rotation.md."""

    reconnect_window: Duration = setting(
        "30s", "After a start, and after each new bundle, clients have this long to connect before a gate opens."
    )
    grace: Duration = setting(
        "1h", "A client that is silent or gone for this long is recorded, and no longer waited for."
    )
    assumed_after: Duration = setting(
        "5m", "How long those who cannot acknowledge a bundle are given to read it again: their refresh hint, or more."
    )
    session_life: Duration = setting(
        "1h", "How long connections live at most: `max_connection_duration` of your Envoys. The old root stays for it."
    )
    emergency_gate: Duration = setting(
        "60s", "How long a compromised root goes on signing for those who have not acknowledged the new one."
    )
    clock_skew: Duration = setting("60s", "How far the clocks of the mesh may differ.")
    reissue_per_second: float = setting(
        50.0, "How many certificates of the old root are replaced each second.", gt=0, le=100_000
    )
    approval: bool = setting(
        False, "Whether activation waits for `citadel root activate`, even if all have acknowledged."
    )
    plugged: Literal["command", "automatic"] = setting(
        "command",
        "Whether a root that was plugged in waits for `citadel root rotate`, or a rotation to it begins by itself.",
    )
    check: Duration = setting("1s", "How often a rotation is looked at, besides whenever something changes.")
    schedule: ScheduleSettings
    hooks: HookSettings

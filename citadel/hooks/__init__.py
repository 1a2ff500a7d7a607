"""Hooks: how the operator's own checks of a rotation are asked. Implements ca.rotation.hooks.Hook.

A command on this machine, or a webhook. Both are told what is to happen as JSON, and answer yes or no within a stated
time; what cannot be asked says no.
"""

from citadel.hooks.command import CommandHook
from citadel.hooks.leased import LeasedHook
from citadel.hooks.webhook import Webhook, signing_key

__all__ = ["CommandHook", "LeasedHook", "Webhook", "signing_key"]

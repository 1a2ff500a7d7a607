"""The decision point (XACML's PDP): what all doors share between the protocol that they speak and the engine.

    async with CachedKeys(fetch, clock) as keys, ProviderClients(connections) as providers:
        point = DecisionPoint(lambda: source.policies, clock, keys, providers, meter=metrics, observer=decision_log)
        ruling = await point.decide(Question("my door", "who asks", workload, (request,)))

`question` is what a door asks, `ruling` what it is told, `changes` what becomes of the request; `standing` is a set of
policies ready to be asked; `point` decides; `ports` says what it needs of the world.
"""

from citadel.authz.decision_point.changes import NO_CHANGES, Changes
from citadel.authz.decision_point.point import JWT_FILTER, MOST_WAITING, MOST_WAITING_EACH, DecisionPoint
from citadel.authz.decision_point.ports import (
    DecisionMeter,
    DecisionObserver,
    NoMeter,
    NoProviders,
    ProviderReply,
    Providers,
    RetainedKeys,
)
from citadel.authz.decision_point.question import Question
from citadel.authz.decision_point.ruling import Refusal, Ruling
from citadel.authz.decision_point.standing import Standing

__all__ = [
    "JWT_FILTER",
    "MOST_WAITING",
    "MOST_WAITING_EACH",
    "NO_CHANGES",
    "Changes",
    "DecisionMeter",
    "DecisionObserver",
    "DecisionPoint",
    "NoMeter",
    "NoProviders",
    "ProviderReply",
    "Providers",
    "Question",
    "Refusal",
    "RetainedKeys",
    "Ruling",
    "Standing",
]

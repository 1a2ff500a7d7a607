"""What applications ask Citadel: may this request go through?

    async with AuthorizationClient("/run/citadel/workload.sock") as citadel:
        answer = await citadel.check(Request(8080, peer, http=HttpRequest("GET", "/cart/7")))
        if not answer:
            ...  # 403

Requests are the values of `citadel.authz`. Whatever goes wrong is a denial. docs/authorization-api.md is the guide.
"""

from citadel.authz.request import HttpRequest, Request
from citadel.client.answer import Answer, Explained, Match
from citadel.client.asking import Choice
from citadel.client.blocking import BlockingAuthorizationClient
from citadel.client.concurrent import AuthorizationClient

__all__ = [
    "Answer",
    "AuthorizationClient",
    "BlockingAuthorizationClient",
    "Choice",
    "Explained",
    "HttpRequest",
    "Match",
    "Request",
]

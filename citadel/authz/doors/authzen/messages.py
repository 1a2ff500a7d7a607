"""The messages of AuthZEN's Authorization API 1.0 (openid.net/specs/authorization-api-1_0), as they are sent.

Unknown members are ignored, as the specification wants it; a member that is required and null is a mistake, one that is
optional and null is not there.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from citadel.authz.wording import in_one_line
from citadel.errors import InvalidInput

MOST_EVALUATIONS = 1_000
MOST_RESULTS = 1_000
M = TypeVar("M", bound=BaseModel)

Text = Annotated[str, Field(min_length=1)]
Properties = dict[str, Any]


class Message(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, strict=True, hide_input_in_errors=True)


class Subject(Message):
    """Who: a workload by its SPIFFE ID, or an end user, whose issuer `type` is."""

    type: Text
    id: Text
    properties: Properties | None = Field(None, description="Claims; they count only from callers that may state them.")


class Action(Message):
    """What is to be done; its name is what `methods` of policies match."""

    name: Text
    properties: Properties | None = None


class Resource(Message):
    """What it is done to; `/type/id`, each percent-encoded, is what `paths` of policies match."""

    type: Text
    id: Text
    properties: Properties | None = Field(None, description="`workload`: whose policies are asked.")


class Typed(Message):
    """The kind of entity that is searched for. An id, if there is one, is ignored."""

    type: Text
    properties: Properties | None = None


class Evaluation(Message):
    """May this subject do this to that?"""

    subject: Subject
    action: Action
    resource: Resource
    context: Properties | None = None


class Part(Message):
    """One of several evaluations; what it leaves out is taken from the top."""

    subject: Subject | None = None
    action: Action | None = None
    resource: Resource | None = None
    context: Properties | None = None


class Options(Message):
    evaluations_semantic: Literal["execute_all", "deny_on_first_deny", "permit_on_first_permit"] = "execute_all"


class Evaluations(Part):
    """Several evaluations. Without any in `evaluations`, the one that the top states."""

    evaluations: Annotated[list[Part], Field(max_length=MOST_EVALUATIONS)] | None = None
    options: Options | None = None


class Page(Message):
    """Which part of the results is wanted."""

    token: str | None = Field(None, description="`next_token` of the page before.")
    limit: Annotated[int, Field(ge=0, description=f"At most so many results; {MOST_RESULTS} at the most.")] | None = (
        None
    )
    properties: Properties | None = Field(None, description="Ignored.")


class SubjectSearch(Message):
    """Which subjects of this type may do this to that?"""

    subject: Typed
    action: Action
    resource: Resource
    context: Properties | None = None
    page: Page | None = None


class ResourceSearch(Message):
    """To which resources of this type may this subject do this?"""

    subject: Subject
    action: Action
    resource: Typed
    context: Properties | None = None
    page: Page | None = None


class ActionSearch(Message):
    """What may this subject do to that?"""

    subject: Subject
    resource: Resource
    context: Properties | None = None
    page: Page | None = None


class Fault(BaseModel):
    """What was wrong with one of several evaluations."""

    status: int
    message: str


class AnswerContext(BaseModel):
    """Why. Only if the configuration wants it said; but what was wrong with a question is always said."""

    id: str | None = Field(None, description="Of the decision, in the decision log.")
    reason: str | None = Field(None, description="A stable code.")
    policy: str | None = Field(None, description="`namespace/name` of the policy that decided.")
    version: str | None = Field(None, description="Of the set of policies.")
    error: Fault | None = None


class Answer(BaseModel):
    decision: bool
    context: AnswerContext | None = None


class Answers(BaseModel):
    """In the order of the questions; with a semantic that stops early there are fewer."""

    evaluations: list[Answer]


class PageAnswer(BaseModel):
    next_token: str = Field(description="For the next page; empty: there is none.")
    count: int = Field(description="How many results are in this page.")


class FoundEntity(BaseModel):
    type: str
    id: str


class FoundAction(BaseModel):
    name: str


class SearchAnswer(BaseModel):
    page: PageAnswer | None = None
    results: list[FoundEntity]


class ActionSearchAnswer(BaseModel):
    page: PageAnswer | None = None
    results: list[FoundAction]


def parsed(kind: type[M], value: Any) -> M:
    """`value`, which came as JSON, as a message. Raises InvalidInput with all that is wrong with it."""
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        raise InvalidInput(in_one_line(error, kind)) from None

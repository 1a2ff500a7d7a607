"""`citadel policy check` and `explain` without files: a running Citadel is asked, by the policies in force there."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from citadel.api.authorization.messages import message_of
from citadel.api.proto.citadel.v1 import admin_pb2 as admin
from citadel.api.proto.citadel.v1 import authorization_pb2 as pb
from citadel.authz.asking import DECISION_SCHEMA, Asked, whole_lines
from citadel.authz.decision import Outcome, Reason
from citadel.cli.client import Client, connect
from citadel.cli.policy_log import ExplainFormat, show_lines
from citadel.cli.run import printable
from citadel.errors import InvalidInput, Unavailable

_MOST_QUESTIONS = 1_000
_MOST_BYTES = 8 << 20  # the admin socket takes 32 MiB


@contextmanager
def running(config: Path | None, socket: Path | None) -> Iterator[Client]:
    """As client.connect, for who may have forgotten to say which files are meant."""
    with ExitStack() as stack:
        try:
            client = stack.enter_context(connect(config, socket))
        except Unavailable as error:
            raise Unavailable(error.message, mend=f"{error.mend}; or say which files are asked, with -f") from None
        yield client


@dataclass
class LiveLines:
    """Answers requests by a running Citadel. `registered`: the SPIFFE ID of the workload, instead of what lines say."""

    client: Client
    registered: str | None = None
    asked: int = 0
    bad: int = 0

    def decided(self, one: Asked) -> str:
        """The decision of a request as a line of JSON, with a line feed. Raises InvalidInput."""
        question = self._question(one)
        answer = self.client.call(self.client.authorization.Check, question)
        return _line(one.id, answer)

    def answers(self, chunks: Iterable[bytes]) -> Iterator[str]:
        """As asking.Lines does: what has been read is answered before more is read."""
        for lines in whole_lines(chunks):
            yield from self._answered(lines)

    def _answered(self, lines: Iterable[bytes]) -> Iterator[str]:
        """In order; questions go together, those before a line that is none before that line is answered."""
        names: list[str | int | None] = []
        batch = pb.BatchCheckRequest()
        size = 0
        for line in lines:
            self.asked += 1
            try:
                one = Asked.parse(line)
                question = self._question(one)
            except InvalidInput as error:
                self.bad += 1
                yield from self._batch(names, batch)
                names, batch, size = [], pb.BatchCheckRequest(), 0
                yield _line(None, _refusal(f"line {self.asked}: {error.message}"))
                continue
            if len(names) == _MOST_QUESTIONS or size + question.ByteSize() > _MOST_BYTES:
                yield from self._batch(names, batch)
                names, batch, size = [], pb.BatchCheckRequest(), 0
            names.append(one.id)
            batch.questions.append(question)
            size += question.ByteSize()
        yield from self._batch(names, batch)

    def _batch(self, names: list[str | int | None], batch: pb.BatchCheckRequest) -> Iterator[str]:
        if names:
            came = self.client.call(self.client.authorization.BatchCheck, batch).answers
            yield "".join(_line(name, answer) for name, answer in zip(names, came, strict=True))

    def _question(self, one: Asked) -> pb.AuthorizationQuestion:
        return question_of(one, self.registered)


def question_of(one: Asked, registered: str | None) -> pb.AuthorizationQuestion:
    """Raises InvalidInput for what only files can be asked."""
    if one.providers:
        raise InvalidInput("providers: a running Citadel asks its providers itself")
    asked = one.workload
    if registered is not None:
        workload = pb.AskedWorkload(spiffe_id=registered)
    else:
        workload = pb.AskedWorkload(
            namespace=asked.namespace,
            labels=asked.labels,
            kind=asked.kind,
            gateway=asked.gateway,
            gateway_class=asked.gateway_class,
        )
    return pb.AuthorizationQuestion(request=message_of(one.request()), workload=workload)


def show_explained(client: Client, one: Asked, registered: str | None, form: ExplainFormat) -> None:
    """Ask, and show the answer with the version of the policies that gave it. Raises InvalidInput."""
    found = client.call(client.authorization.Explain, question_of(one, registered))
    status = client.call(client.admin.GetStatus, admin.GetStatusRequest()).policies
    stored = status.stored_version if status.version == found.answer.version else ""
    if form is ExplainFormat.JSON:
        document = {
            "decision": _document(found.answer),
            "stored_version": stored or None,
            "explanation": json.loads(found.json) if found.json else None,
        }
        print(json.dumps(document, indent=2))
        return
    version = found.answer.version
    if version:
        print(printable(f"policies in force: {version}{f' ({stored})' if stored else ''}; decision {found.answer.id}"))
    else:
        print(printable(f"there are no policies in force yet; decision {found.answer.id}"))
    show_lines(found.tree if form is ExplainFormat.TREE else found.text)


def _refusal(detail: str) -> pb.AuthorizationAnswer:
    return pb.AuthorizationAnswer(reason=Reason.BAD_REQUEST.value, detail=detail)


def _line(name: str | int | None, answer: pb.AuthorizationAnswer) -> str:
    return json.dumps(({} if name is None else {"id": name}) | _document(answer)) + "\n"


def _document(answer: pb.AuthorizationAnswer) -> dict[str, Any]:
    """In the schema of asking.decision_schema."""
    asked = {"version": answer.version, "http_status": answer.http_status, "log_id": answer.id} if answer.id else {}
    return {
        "schema": DECISION_SCHEMA,
        "outcome": (Outcome.ALLOW if answer.allowed else Outcome.DENY).value,
        "reason": answer.reason,
        "action": answer.action or None,
        "policy": answer.policy or None,
        "rule": answer.rule if answer.HasField("rule") else None,
        "audited": list(map(_match, answer.audited)),
        "dry_run": list(map(_match, answer.dry_run)),
        "dry_run_outcome": answer.dry_run_outcome or None,
        "detail": answer.detail,
        **asked,
    }


def _match(one: pb.PolicyMatch) -> dict[str, Any]:
    return {"policy": one.policy, "rule": one.rule, "action": one.action}

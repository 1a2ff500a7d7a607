"""Every mistake that a document can have is named, alone, at its place; and its good twin loads."""

from __future__ import annotations

import pytest

from citadel.authz import PolicyDocuments, load_text
from citadel.errors import BadFile, Mistake
from tests.unit.authz.load_cases import CASES, Case, authorization, peer


def mistakes_in(text: str, name: str = "p.yaml") -> tuple[Mistake, ...]:
    with pytest.raises(BadFile) as caught:
        load_text(text, name=name)
    return caught.value.mistakes


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_a_mistake_is_named_with_its_place_and_nothing_else_is(case: Case) -> None:
    mistakes = mistakes_in(case.bad)
    assert [m.field for m in mistakes] == [case.field], mistakes
    assert case.says in mistakes[0].message
    assert mistakes[0].file == "p.yaml"
    assert mistakes[0].line >= 1
    assert mistakes[0].column >= 1


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_its_good_twin_loads(case: Case) -> None:
    assert isinstance(load_text(case.good), PolicyDocuments)


def test_all_mistakes_of_all_documents_are_told_at_once_in_the_order_of_the_file() -> None:
    text = "---\n".join(
        [
            authorization("{acton: DENY}"),
            authorization("{action: DENY}", metadata="{name: Q}"),
            "a: [\n",
            authorization("{}", metadata="{name: fine}"),
            peer("{mtls: {mode: x}}"),
        ]
    )
    found = [(m.line, m.document, m.field) for m in mistakes_in(text)]
    assert found == [
        (4, "AuthorizationPolicy shop/p", "spec.acton"),
        (8, "AuthorizationPolicy default/Q", "metadata.name"),
        (9, "AuthorizationPolicy default/Q", "spec.rules"),
        (12, "", ""),
        (21, "PeerAuthentication shop/p", "spec.mtls.mode"),
    ]


def test_a_mistake_says_file_line_column_document_field_and_what_was_expected() -> None:
    text = authorization("\n  rules:\n  - to:\n    - operation:\n        ports: ['80', http]")
    assert str(mistakes_in(text, "shop.yaml")[0]) == (
        "shop.yaml:8:23: AuthorizationPolicy shop/p: spec.rules[0].to[0].operation.ports[1]: "
        '"http" is not a port: expected a number from 0 to 65535'
    )


def test_two_documents_of_one_name_are_a_mistake_that_names_both_places() -> None:
    mistakes = mistakes_in(
        authorization("{}") + "---\n" + authorization("{action: AUDIT}").replace("/v1\n", "/v1beta1\n")
    )
    assert [str(m) for m in mistakes] == [
        "p.yaml:8:29: AuthorizationPolicy shop/p: metadata.name: there is another one of this name, at p.yaml:3"
    ]


def test_one_name_in_two_kinds_or_two_namespaces_is_no_mistake() -> None:
    texts = [authorization("{}"), peer("{}"), authorization("{}", metadata="{namespace: other, name: p}")]
    assert len(load_text("---\n".join(texts))) == 3


def test_the_place_of_a_mistake_in_a_list_is_the_item() -> None:
    text = "apiVersion: v1\nkind: List\nitems:\n" + "".join(
        "- apiVersion: security.istio.io/v1\n  kind: PeerAuthentication\n"
        f"  metadata: {{name: p{n}}}\n  spec: {{mtls: {{mode: {mode}}}}}\n"
        for n, mode in enumerate(["STRICT", "strict"])
    )
    mistake = mistakes_in(text)[0]
    assert (mistake.line, mistake.column) == (11, 17)
    assert mistake.field == "items[1].spec.mtls.mode"
    assert mistake.document == "PeerAuthentication default/p1"


def test_reading_stops_after_two_hundred_mistakes_and_says_so() -> None:
    mistakes = mistakes_in("---\nx\n" * 1000)
    assert len(mistakes) == 201
    assert "reading stopped" in mistakes[-1].message


def test_what_a_terminal_would_act_on_is_not_repeated() -> None:
    for mistake in mistakes_in(authorization('{"\\e[31mred": x, action: "\\e]0;title\\a"}')):
        assert str(mistake).isprintable()

from __future__ import annotations

import io
import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from citadel.config import entry_files
from citadel.config.entry_files import EntryDraft, EntryFiles, parse_entries, read_entry_files
from citadel.errors import BadFile
from citadel.registry.selectors import Selector
from citadel.spiffe import SpiffeId, TrustDomain

WHOLE = """\
entries:
  - spiffe_id: spiffe://example.org/shop/cart
    parent_id: spiffe://example.org/node/a
    selectors: [unix:uid:1000, 'unix:path:/usr/bin/envoy']
    id: cart-1
    x509_ttl: 30m
    jwt_ttl: 5m
    dns_names: [cart.shop, cart]
    federates_with: [other.org]
    hint: 1.10
    admin: true
    downstream: false
    store_svid: false
    expires_at: 2027-01-31T12:00:00+02:00
    labels: {app: cart, tier: 1}
"""
SMALL = "entries:\n- spiffe_id: spiffe://example.org/{0}\n  selectors: [unix:uid:{1}]\n"


def mistakes(*paths: Path) -> list[str]:
    with pytest.raises(BadFile) as caught:
        read_entry_files(paths)
    return [str(mistake) for mistake in caught.value.mistakes]


def test_every_field_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(WHOLE)
    (draft,) = read_entry_files([tmp_path / "a.yaml"])
    assert draft == EntryDraft(
        spiffe_id=SpiffeId.parse("spiffe://example.org/shop/cart"),
        parent_id=SpiffeId.parse("spiffe://example.org/node/a"),
        selectors=frozenset({Selector("unix", "uid:1000"), Selector("unix", "path:/usr/bin/envoy")}),
        id="cart-1",
        x509_ttl=timedelta(minutes=30),
        jwt_ttl=timedelta(minutes=5),
        dns_names=("cart.shop", "cart"),
        federates_with=frozenset({TrustDomain("other.org")}),
        hint="1.10",
        admin=True,
        expires_at=datetime(2027, 1, 31, 10, tzinfo=UTC),
        labels=(("app", "cart"), ("tier", "1")),
    )
    assert (draft.file, draft.line) == (str(tmp_path / "a.yaml"), 2)


def test_json_a_bare_list_and_several_documents_are_taken(tmp_path: Path) -> None:
    document = [{"spiffe_id": "spiffe://example.org/a", "selectors": ["unix:uid:1"]}]
    (tmp_path / "a.json").write_text(json.dumps(document))
    (tmp_path / "b.yml").write_text("---\n" + SMALL.format("b", 2) + "---\n" + SMALL.format("c", 3) + "---\n")
    (tmp_path / "c.txt").write_text("not ours")
    (tmp_path / ".hidden.yaml").write_text("not ours: either")
    (tmp_path / "folder.yaml").mkdir()
    assert [draft.spiffe_id.path for draft in read_entry_files([tmp_path])] == ["/a", "/b", "/c"]


def test_all_mistakes_of_all_files_are_told_at_once_with_their_lines(tmp_path: Path) -> None:
    a, b, c = tmp_path / "a.yaml", tmp_path / "b.yaml", tmp_path / "c.yaml"
    a.write_text(
        """\
entries:
  - spiffe_id: spiffe://Example.org/x
    selectors:
      - unix:uid:1
      - nonsense
    x509_svid_ttl: 1h
  - spiffe_id: spiffe://example.org/a
    selectors: unix:uid:1
    admin: "yes"
    expires_at: tomorrow
    x509_ttl: 3600
    labels: [a]
  - spiffe_id: spiffe://example.org/b
  - just text
  - spiffe_id: spiffe://example.org/c
    spiffe_id: spiffe://example.org/d
    selectors: [unix:uid:1]
    hint: {a: b}
    expires_at: 2027-01-31T12:00:00
other: 1
"""
    )
    b.write_text("entries: [\n")
    assert mistakes(a, b, c) == [
        f"{a}:2: entries[0].spiffe_id: 'spiffe://Example.org/x' is not a SPIFFE ID: 'E' is not allowed in a trust "
        "domain, only lower-case letters, digits, '.', '-' and '_'",
        f"{a}:5: entries[0].selectors: 'nonsense' is not a selector: expected type:value, as in unix:uid:1000",
        f"{a}:6: entries[0].x509_svid_ttl: there is no such field; did you mean x509_ttl?",
        f"{a}:8: entries[1].selectors: it must be a list",
        f"{a}:9: entries[1].admin: it must be true or false, not 'yes'",
        f"{a}:10: entries[1].expires_at: 'tomorrow' is not a moment; write it as 2027-01-31T12:00:00Z",
        f"{a}:11: entries[1].x509_ttl: '3600' has no unit; write 3600s for seconds",
        f"{a}:12: entries[1].labels: it must be names with values, such as {{app: cart}}",
        f"{a}:13: entries[2]: selectors is missing",
        f"{a}:14: entries[3]: an entry has fields: spiffe_id, selectors, ...",
        f"{a}:16: entries[4].spiffe_id: it is there twice",
        f"{a}:18: entries[4].hint: it must be text",
        f"{a}:19: entries[4].expires_at: '2027-01-31T12:00:00' has no time zone; write it as 2027-01-31T12:00:00Z",
        f"{a}:20: other: there is no such field; a file has 'entries:', and below it a list",
        f"{b}:2:1: not YAML: expected the node content, but found '<stream end>'",
        f"{c}: it cannot be read: No such file or directory",
    ]


def test_the_same_workload_twice_is_a_mistake_even_across_files(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(SMALL.format("a", 1))
    (tmp_path / "b.yaml").write_text(SMALL.format("b", 1) + SMALL.format("a", 1).removeprefix("entries:\n"))
    assert mistakes(tmp_path) == [
        f"{tmp_path}/b.yaml:4: spiffe://example.org/a: spiffe_id: SPIFFE ID, parent and selectors as in "
        f"{tmp_path}/a.yaml:2"
    ]


@pytest.mark.parametrize("text", ["", "---\n", "entries:\n", "entries: []\n", "# nothing\n"])
def test_a_file_may_hold_no_entries(text: str) -> None:
    assert parse_entries(text, "f") == EntryFiles([], [], [])


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:os.system [true]",
        "[" * 5000,
        "entries: &a [*a]",
        "entries: 3",
        "\x00",
        "? [a]\n: b",
        "{a: &x [1], b: *x}",
    ],
)
def test_hostile_yaml_is_a_mistake_and_nothing_more(text: str) -> None:
    found = parse_entries(text, "f")
    drafts, wrong = found.drafts, found.mistakes
    assert drafts == []
    assert wrong


def test_too_many_entries_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entry_files, "MAX_ENTRIES", 1)
    (tmp_path / "a.yaml").write_text(SMALL.format("a", 1) + SMALL.format("b", 1).removeprefix("entries:\n"))
    assert mistakes(tmp_path) == [f"{tmp_path}/a.yaml: there are more than 1 entries"]


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["entries", "spiffe_id", "selectors", "labels", "x509_ttl", "z"]), inner)
        ),
        max_leaves=12,
    )
)
def test_any_document_is_entries_or_mistakes_with_lines(document: object) -> None:
    wrong = parse_entries(yaml.safe_dump(document), "f").mistakes
    assert all(mistake.line > 0 and mistake.message for mistake in wrong)


def test_every_wrong_item_of_a_list_is_told_and_what_is_missing_beside_what_is_wrong(tmp_path: Path) -> None:
    file = tmp_path / "e.yaml"
    file.write_text(
        "- selectors:\n  - a\n  - unix:uid:1\n  - b\n- spiffe_id: spiffe://example.org/a\n  selectors: []\n"
    )
    with pytest.raises(BadFile) as caught:
        read_entry_files([file])
    assert [(mistake.line, mistake.field) for mistake in caught.value.mistakes] == [
        (2, "entries[0].selectors"), (4, "entries[0].selectors"), (1, "entries[0]"), (6, "entries[1].selectors"),
    ]  # fmt: skip


def test_standard_input_and_pipes_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = b"- spiffe_id: spiffe://example.org/a\n  selectors: [unix:uid:1]\n"
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text)))
    reading, writing = os.pipe()
    os.write(writing, text.replace(b"/a", b"/b"))
    os.close(writing)
    try:
        drafts = read_entry_files([Path("-"), Path(f"/proc/self/fd/{reading}")])
    finally:
        os.close(reading)
    assert [(draft.spiffe_id.path, draft.file) for draft in drafts] == [
        ("/a", "<stdin>"), ("/b", f"/proc/self/fd/{reading}"),
    ]  # fmt: skip


def test_a_pipe_in_a_folder_is_waited_for_by_nobody(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.yaml")
    with pytest.raises(BadFile, match="not a regular file"):
        read_entry_files([tmp_path])

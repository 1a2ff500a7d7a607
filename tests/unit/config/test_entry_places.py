from __future__ import annotations

from pathlib import Path

from citadel.config import gather_entry_files, placed_mistakes

FILE = """entries:
- spiffe_id: spiffe://example.org/a
  selectors: [unix:uid:1]
  x509_ttl: 90d
- spiffe_id: nonsense
  selectors: [unix:uid:1]
  x509_ttl: 90d
- hint: x
  spiffe_id: spiffe://example.org/c
  selectors: [nonsense]
"""


def test_what_the_registry_says_is_told_at_the_line_of_the_field(tmp_path: Path) -> None:
    file = tmp_path / "f.yaml"
    file.write_text(FILE)
    files = gather_entry_files([file])
    assert [mistake.line for mistake in files.mistakes] == [5, 10]
    drafts = [*files.drafts, *files.broken]
    text = "\n".join(
        [
            "entries[0]: spiffe://example.org/a: x509_ttl: too long",
            "entries[0]: spiffe_id: spiffe://example.org/a is registered already; see: citadel entry show x",
            "entries[1]: spiffe://unread/unread: spiffe_id: not ours, but nobody wrote it",
            "entries[1]: spiffe://unread/unread: x509_ttl: too long",
            "entries[2]: spiffe_id: registered already, with selectors that nobody wrote",
            "entries[2]: spiffe://example.org/c: labels: there are too many",
            "entries[9]: nobody knows",
            "something else",
        ]
    )
    assert [str(mistake) for mistake in placed_mistakes(text, drafts)] == [
        f"{file}:4: spiffe://example.org/a: x509_ttl: too long",
        f"{file}:2: spiffe_id: spiffe://example.org/a is registered already; see: citadel entry show x",
        f"{file}:7: x509_ttl: too long",
        f"{file}:8: spiffe://example.org/c: labels: there are too many",
        "entries[9]: nobody knows",
        "something else",
    ]

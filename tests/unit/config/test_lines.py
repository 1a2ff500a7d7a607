from __future__ import annotations

import tomllib

from hypothesis import given
from hypothesis import strategies as st

from citadel.config.lines import key_lines, line_of

TEXT = '''\
# a comment
trust_domain = "example.org"

[sockets.admin]
# not here: mode = 1
path = "x"
allow_uids = [
  1,
  2, # mode
]
mode = "0660"
[ "http" ]
address = """
mode = 3
"""
[log]
"level" = "info"
inline = { a = 1, b.c = 2 }
[[many]]
x = 1
[[many]]
y = 2
'''


def test_each_key_is_found_at_the_line_where_its_statement_begins() -> None:
    lines = key_lines(TEXT)
    assert {".".join(path): line for path, line in lines.items()} == {
        "trust_domain": 2,
        "sockets": 4,
        "sockets.admin": 4,
        "sockets.admin.path": 6,
        "sockets.admin.allow_uids": 7,
        "sockets.admin.mode": 11,
        "http": 12,
        "http.address": 13,
        "log": 16,
        "log.level": 17,
        "log.inline": 18,
        "log.inline.a": 18,
        "log.inline.b": 18,
        "log.inline.b.c": 18,
        "many": 19,
        "many.x": 20,
        "many.y": 22,
    }


def test_a_key_that_is_not_there_has_the_line_of_its_table() -> None:
    lines = key_lines(TEXT)
    assert line_of(("sockets", "admin", "group"), lines) == 4
    assert line_of(("svid", "ttl"), lines) == 0


_key = st.text("abcxyz_-", min_size=1, max_size=5)
_value = st.sampled_from(["1", '"x"', "[\n 1,\n 2 ]", '"""\n[a]\nb = 1\n"""', "{ p = 1 }", "'''x\n'''"])


@given(st.lists(st.tuples(st.sampled_from(["", "[%s]", "# %s"]), _key, _key, _value), max_size=8))
def test_every_key_that_tomllib_reads_has_a_line_that_names_it(parts: list[tuple[str, str, str, str]]) -> None:
    text = "\n".join((head % table if head else "") + f"\n{key} = {value}" for head, table, key, value in parts)
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return  # the same key twice
    lines, rows = key_lines(text), text.split("\n")
    for name, value in tables.items():
        assert name in rows[lines[(name,)] - 1]
        for inner in value if isinstance(value, dict) else ():
            assert inner in rows[lines[(name, inner)] - 1]

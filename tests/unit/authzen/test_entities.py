"""The directory of entities as a file: read whole, with every mistake at its line; and followed."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from citadel.authz.entities import EntityDirectory, FileEntities, read_entities
from citadel.errors import BadFile

GOOD = b"""
entities:
- {type: user, id: bob, properties: {admin: true, level: 3, ratio: 0.5, teams: [a, b], none: null}}
- type: user
  id: "7"
actions: [{name: GET}, {name: PUT, resource_types: [record]}]
"""


def test_a_file_is_a_directory() -> None:
    directory = read_entities("e.yaml", GOOD)
    assert len(directory) == 2
    known = {"admin": True, "level": 3, "ratio": 0.5, "teams": ["a", "b"], "none": None}
    assert directory.properties("user", "bob") == known
    assert directory.properties("user", "eve") == directory.properties("robot", "bob") == {}
    assert [one.id for one in directory.of_type("user", None)] == ["7", "bob"]
    assert [one.id for one in directory.of_type("user", "7")] == ["bob"]
    assert [one.name for one in directory.actions_on("record", None)] == ["GET", "PUT"]
    assert [one.name for one in directory.actions_on("user", None)] == ["GET"]


def test_a_key_that_yaml_reads_as_no_text_is_meant_as_it_is_written() -> None:
    directory = read_entities("e.yaml", b"entities: [{type: user, id: a, properties: {n: 1, 7: {on: yes}}}]")
    assert directory.properties("user", "a") == {"n": 1, "7": {"on": True}}


def test_json_is_taken_too_and_so_is_nothing() -> None:
    assert len(read_entities("e.json", b'{"entities": [{"type": "user", "id": "bob", "properties": {"a": 1}}]}')) == 1
    assert len(read_entities("e.yaml", b"")) == 0


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"entities:\n- {type: user, id: 7}", "e.yaml:2:16: entities[0].id: expected text"),
        (b"entities:\n- {type: user}", "e.yaml:2:3: entities[0].id: it is missing"),
        (
            b"entities:\n- {type: user, id: a, propertys: {}}",
            "propertys: there is no such field; did you mean properties?",
        ),
        (b"entities: {}", "e.yaml:1:1: entities: expected a list"),
        (b"[]", "expected an object"),
        (b"entities:\n- {type: u, id: a}\n- {type: u, id: a}", "e.yaml:3:13: entities[1].id: entities[0] is of this"),
        (b"actions:\n- {name: a}\n- {name: a}", "e.yaml:3:4: actions[1].name: actions[0] has this name too"),
        (b"entities: [{type: u, id: a, properties: {1: a, '1': b}}]", "the key 1 is there twice"),
        (b"a: [", "e.yaml:"),
        (b"a: 1\n---\nb: 1", "several documents"),
        (b"\xff", "not UTF-8"),
        (b"x: " + b"[" * 1000, "e.yaml:"),
    ],
)
def test_a_mistake_has_its_place(text: bytes, told: str) -> None:
    with pytest.raises(BadFile) as error:
        read_entities("e.yaml", text)
    assert told in str(error.value)


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(BadFile) as error:
        read_entities("e.yaml", b"entities:\n- {type: 1}\n- {id: a}\nactions: [{}]\nmore: 1")
    assert len(error.value.mistakes) == 5


@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_whatever_a_file_holds_there_is_a_directory_or_a_mistake(content: bytes) -> None:
    with suppress(BadFile):
        assert isinstance(read_entities("e.yaml", content), EntityDirectory)


async def test_a_file_is_followed_and_a_bad_one_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "entities.yaml"
    source = FileEntities(path, heartbeat=0.05)
    await source.read()
    assert source.directory is None
    assert "cannot be read" in source.fault
    path.write_bytes(GOOD)
    task = asyncio.create_task(source.run())
    async with asyncio.timeout(20):
        while source.directory is None:
            await asyncio.sleep(0.01)
        assert source.fault == ""
        path.write_text("entities: 7")
        while not source.fault:
            await asyncio.sleep(0.01)
        assert len(source.directory) == 2
        path.write_text("entities: [{type: a, id: b}]")
        while source.fault or len(source.directory) != 1:
            await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_folder_is_no_file_of_entities(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("")
    (tmp_path / "b.yaml").write_text("")
    source = FileEntities(tmp_path)
    await source.read()
    assert "not a file" in source.fault

"""Policies from files: what of a directory is read, in which order, and what is told of what cannot be."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from citadel.authz.sources import load_paths, read_paths
from citadel.errors import BadFile
from tests.unit.authz.load_cases import authorization


def policy(name: str) -> bytes:
    return authorization("{}", metadata="{namespace: a, name: " + name + "}").encode()


def test_of_a_directory_everything_with_the_right_suffix_is_read_in_order(tmp_path: Path) -> None:
    for name in ("b.yaml", "a.yml", "sub/c.json", "z/y/d.yaml"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    for name in ("notes.md", ".hidden.yaml", "shop_test.yaml", ".git/x.yaml", "a.yaml~"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"not yaml: [")
    texts, mistakes = read_paths([tmp_path])
    assert [text.name for text in texts] == [
        str(tmp_path / name) for name in ("a.yml", "b.yaml", "sub/c.json", "z/y/d.yaml")
    ]
    assert mistakes == []


def test_files_directories_and_standard_input_load_together(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(policy("a"))
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "b.yaml").write_bytes(policy("b"))
    loaded = load_paths([tmp_path / "a", str(tmp_path / "d"), "-"], stdin=io.BytesIO(policy("c")))
    assert [one.name.name for one in loaded.authorization_policies] == ["a", "b", "c"]
    assert str(loaded.origin(loaded.authorization_policies[2])) == "<stdin>:1"


def test_a_file_that_is_named_twice_is_read_once(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(policy("a"))
    (tmp_path / "link.yaml").symlink_to("a.yaml")
    assert len(load_paths([tmp_path, tmp_path / "a.yaml"])) == 1


def test_a_kubernetes_volume_is_read_as_the_version_that_it_points_to(tmp_path: Path) -> None:
    for version in ("..1", "..2"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "p.yaml").write_bytes(policy("in" + version[2:]))
    (tmp_path / "..data").symlink_to("..2")
    (tmp_path / "p.yaml").symlink_to("..data/p.yaml")
    loaded = load_paths([tmp_path])
    assert [one.name.name for one in loaded.authorization_policies] == ["in2"]
    assert loaded.origin(loaded.authorization_policies[0]).file == str(tmp_path / "p.yaml")


def test_links_that_lead_in_a_circle_end(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "up").symlink_to(tmp_path)
    (tmp_path / "sub" / "p.yaml").write_bytes(policy("p"))
    assert len(load_paths([tmp_path])) == 1


def test_all_that_cannot_be_read_is_told_together_with_the_mistakes_of_the_rest(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.yaml")
    (tmp_path / "gone.yaml").symlink_to("nowhere")
    (tmp_path / "bad.yaml").write_bytes(b"x")
    with pytest.raises(BadFile) as caught:
        load_paths([tmp_path, tmp_path / "missing"])
    assert sorted(str(mistake).removeprefix(f"{tmp_path}/").split(",")[0] for mistake in caught.value.mistakes) == [
        "bad.yaml:1:1: expected a Kubernetes object",
        "fifo.yaml: it is not a regular file",
        "gone.yaml: it cannot be read: No such file or directory",
        "missing: it cannot be read: No such file or directory",
    ]


def test_one_file_that_cannot_be_read_keeps_all_others_from_loading(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(policy("a"))
    with pytest.raises(BadFile, match="No such file"):
        load_paths([tmp_path / "a.yaml", tmp_path / "missing.yaml"])


def test_an_empty_directory_loads_as_nothing_and_says_so_by_its_length(tmp_path: Path) -> None:
    assert len(load_paths([tmp_path])) == 0


def test_a_pipe_may_be_named_as_process_substitution_does(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.write(write, policy("a"))
    os.close(write)
    try:
        assert len(load_paths([f"/dev/fd/{read}"])) == 1
    finally:
        os.close(read)

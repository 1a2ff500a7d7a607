"""Control groups as kernels, systemd, Docker, Podman and Kubernetes write them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from citadel.errors import Unavailable
from citadel.workload.attestors import cgroup
from citadel.workload.attestors.cgroup import Container, Group, Unit

ID, OTHER = "a" * 64, "b" * 64


@pytest.mark.parametrize(
    ("text", "name", "path"),
    [
        ("0::/system.slice/cart.service\n", "cart.service", "/system.slice/cart.service"),
        ("0::/system.slice/cart.service/payload/x.service\n", "cart.service", "/system.slice/cart.service"),
        (
            "0::/user.slice/user-1000.slice/user@1000.service/app.slice/sshd.service\n",
            "user@1000.service",
            "/user.slice/user-1000.slice/user@1000.service",
        ),
        ("1:name=systemd:/system.slice/old.service\n0::/\n", "old.service", "/system.slice/old.service"),
        (
            "4:memory:/system.slice/no.service\n0::/system.slice/yes.service\n",
            "yes.service",
            "/system.slice/yes.service",
        ),
        ("0::/system.slice/_memory.service\n", "memory.service", "/system.slice/_memory.service"),
        (
            r"0::/system.slice/system-a\x2db.slice/a\x2db@1.service" + "\n",
            r"a\x2db@1.service",
            r"/system.slice/system-a\x2db.slice/a\x2db@1.service",
        ),
        ("0::/../cart.service\n", "cart.service", "/../cart.service"),
    ],
)
def test_the_unit_is_the_outermost_one_since_users_name_those_below(text: str, name: str, path: str) -> None:
    assert cgroup.systemd_unit(cgroup.parse(text)) == Unit(name, path)


@pytest.mark.parametrize(
    "text",
    ["", "0::/\n", "0::/system.slice\n", "4:memory:/system.slice/a.service\n", "0::/a b.service\n", "0::/.service\n"],
)
def test_without_a_unit_there_is_none(text: str) -> None:
    assert cgroup.systemd_unit(cgroup.parse(text)) is None


@pytest.mark.parametrize(
    ("text", "groups"),
    [
        (f"0::/system.slice/docker-{ID}.scope\n", {("", f"/system.slice/docker-{ID}.scope")}),
        (f"0::/docker/{ID}\n", {("", f"/docker/{ID}")}),
        (f"0::/docker/{ID}/init.scope\n", {("", f"/docker/{ID}")}),
        (
            f"4:memory:/docker/{ID}\n3:cpu,cpuacct:/docker/{ID}\n1:name=systemd:/docker/{ID}/system.slice/a.service\n0::/\n",
            {("memory", f"/docker/{ID}"), ("cpu,cpuacct", f"/docker/{ID}"), ("name=systemd", f"/docker/{ID}")},
        ),
        (f"0::/machine.slice/libpod-{ID}.scope/container\n", {("", f"/machine.slice/libpod-{ID}.scope")}),
        (f"0::/libpod_parent/libpod-{ID}\n", {("", f"/libpod_parent/libpod-{ID}")}),
        (f"0::/system.slice/nerdctl-{ID}.scope\n", {("", f"/system.slice/nerdctl-{ID}.scope")}),
        (
            f"0::/kubepods.slice/kubepods-podx.slice/cri-containerd-{ID}.scope\n",
            {("", f"/kubepods.slice/kubepods-podx.slice/cri-containerd-{ID}.scope")},
        ),
        (f"0::/kubepods/besteffort/pod1/{ID}\n", {("", f"/kubepods/besteffort/pod1/{ID}")}),
    ],
)
def test_a_container_is_found_under_every_drivers_name_for_it(text: str, groups: set[tuple[str, str]]) -> None:
    assert cgroup.container(cgroup.parse(text)) == Container(ID, frozenset(Group(*group) for group in groups))


@pytest.mark.parametrize(
    "text",
    [
        f"0::/docker/{ID}/docker/{OTHER}\n",
        f"4:memory:/docker/{ID}\n3:cpu:/docker/{OTHER}\n",
        "0::/system.slice/docker.service\n",
        f"0::/machine.slice/libpod-conmon-{ID}.scope\n",
        f"0::/docker/{ID[:-1]}\n",
        f"0::/docker/{ID}f\n",
        f"0::/docker/{ID.upper()}\n",
        f"0::/docker-{ID}.scopeevil\n",
        f"0::/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope\n",
        f"0::/user.slice/user-1000.slice/user@1000.service/docker-{ID}.scope\n",
    ],
)
def test_no_container_is_found_where_none_or_several_are_named_or_a_user_does_the_naming(text: str) -> None:
    assert cgroup.container(cgroup.parse(text)) is None


def test_a_process_that_is_gone_and_a_text_that_no_kernel_writes_are_no_answer(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="the control groups of process 7 cannot be read: No such file"):
        cgroup.read(7, tmp_path)
    (tmp_path / "7").mkdir()
    for text in ("garbage\n", "0:relative\n", "0::relative\n", "0::/" + "x" * 100_000):
        (tmp_path / "7" / "cgroup").write_text(text)
        with pytest.raises(Unavailable):
            cgroup.read(7, tmp_path)


def test_this_machines_own_text_is_read() -> None:
    assert cgroup.read(1)


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        groups = cgroup.parse(text)
    except Unavailable:
        return
    cgroup.systemd_unit(groups)
    cgroup.container(groups)

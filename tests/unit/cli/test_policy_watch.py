"""`citadel policy test --watch`: again at each change, through mistakes, until Ctrl-C."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

from tests.support.policies import policy
from tests.support.up import command

TABLE = """
schema: citadel.dev/policy-test/v1
workloads: {cart: {namespace: shop}}
cases:
- {name: reads, workload: cart, http: {}, expect: deny}
"""


def test_tables_are_run_again_at_each_change_until_ctrl_c(tmp_path: Path) -> None:
    given, table = tmp_path / "p" / "p.yaml", tmp_path / "t" / "shop_test.yaml"
    for one in (given, table):
        one.parent.mkdir()
    given.write_text(policy("p"))
    table.write_text(TABLE + "policies: [../p]\n")
    process = subprocess.Popen(
        command("policy", "test", table, "--watch"), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None

    def until(words: str) -> None:
        for line in process.stdout or ():
            if words in line:
                return
        raise AssertionError(f"it ended without {words!r}")

    try:
        until("1 passed, 0 failed")
        given.write_text(policy("p", "ALLOW"))
        until("0 passed, 1 failed")
        table.write_text("no: table")
        until("shop_test.yaml")
        (tmp_path / "new").write_text(TABLE.replace("deny", "allow") + "policies: [../p]\n")
        (tmp_path / "new").replace(table)
        until("1 passed, 0 failed")
        process.send_signal(signal.SIGINT)
        assert process.stdout.read() == ""
        assert process.wait(20) == 130
    finally:
        process.kill()
        process.wait()
        process.stdout.close()

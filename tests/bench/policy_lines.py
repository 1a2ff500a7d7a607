"""`citadel policy check` over JSON lines, and what the decision log costs a decision. CPU time of one thread.

The reference of a line is `json.loads` and `json.dumps` of the same bytes: what any program pays that reads and writes
such lines. A record is made beside the decision; its reference is a `json.dumps` of it, which another thread pays.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from citadel.authz import compile  # noqa: A004  (as in re.compile)
from citadel.authz.asking import Asked, Lines
from citadel.authz.decision_log import Recorder
from citadel.authz.sources import load_paths
from citadel.authz.tables import read_mesh
from tests.bench.row import Row
from tests.support.rulings import ruling

_POLICIES = Path(__file__).parents[2] / "policies"
_LINES, _ROUNDS = 10_000, 5
_GOAL = 20_000  # lines a second


def rows() -> Iterator[Row]:
    mesh = read_mesh(_POLICIES / "shop.mesh")
    policies = compile(load_paths([_POLICIES], default_namespace=mesh.default_namespace), mesh.facts())
    lines = list(_requests())
    text = b"\n".join(lines)
    rate = _LINES / _least(lambda: sum(map(len, Lines(policies).answers([text]))))
    plain = _LINES / _least(lambda: [json.dumps(json.loads(line)) for line in lines])
    goal = f"{_GOAL:,} lines/s"
    yield Row("policy check, JSON lines, per core", rate, "lines/s", plain, "loads + dumps", goal, rate >= _GOAL)
    asked = [Asked.parse(line) for line in lines[:1000]]
    rulings = [ruling(policies, one.workload.value(), one.request()) for one in asked]
    recorder = Recorder()
    records = [recorder.record(one) for one in rulings]
    made = _least(lambda: [recorder.record(one) for one in rulings]) * 1e6 / len(rulings)
    written = _least(lambda: [json.dumps(one, ensure_ascii=False) for one in records]) * 1e6 / len(records)
    yield Row("decision log, one record, beside the decision", made, "µs CPU", written, "µs for its json.dumps")


def _requests() -> Iterator[bytes]:
    dice = random.Random(1)
    for number in range(_LINES):
        request = {
            "id": number,
            "workload": {"namespace": "shop", "labels": {"app": dice.choice(["cart", "web", "catalog"])}},
            "peer": f"spiffe://shop.example/ns/shop/sa/{dice.choice(['web', 'cart', 'catalog'])}",
            "port": 8080,
            "http": {
                "method": dice.choice(["GET", "PUT", "POST"]),
                "path": f"/carts/{dice.randrange(1000)}",
                "authority": "cart.shop:8080",
                "headers": {"x-a": "b"},
            },
        }
        yield json.dumps(request).encode()


def _least(work: Callable[[], object]) -> float:
    """Seconds of CPU, of several rounds the least."""
    least = float("inf")
    for _ in range(_ROUNDS):
        began = time.process_time()
        work()
        least = min(least, time.process_time() - began)
    return least

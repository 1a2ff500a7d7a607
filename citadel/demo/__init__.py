"""The main job, shown: Citadel, two real Envoys under load, an intruder that gets nothing, and a rotation of the root.

It uses Citadel as an operator does, by its commands, and as a workload does, by its socket: nothing of it is imported.
"""

from citadel.demo.processes import Failed
from citadel.demo.stage import Wishes
from citadel.demo.story import show

__all__ = ["Failed", "Wishes", "show"]

"""The main job, shown: Citadel, two real Envoys under load, and an intruder that gets nothing."""

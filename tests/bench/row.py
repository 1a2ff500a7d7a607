"""A row of the table that the bench prints."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """One measured figure; with the figure of its reference in the same run, and what is aimed at, where there are."""

    name: str
    figure: float
    unit: str
    reference: float | None = None
    reference_name: str = ""
    goal: str = ""
    met: bool | None = None

    @property
    def ratio(self) -> float | None:
        return self.figure / self.reference if self.reference else None

"""Options with several mistakes: each is told, a sentence a line."""

from __future__ import annotations

from types import TracebackType

from citadel.errors import InvalidInput


class BadOptions(InvalidInput):
    """Several mistakes in what was given. `message` has a line for each."""

    def __init__(self, mistakes: list[InvalidInput]) -> None:
        self._sentences = list(dict.fromkeys(one.sentence() for one in mistakes))
        super().__init__("\n".join(self._sentences))

    def sentence(self) -> str:
        return self.message


class Mistakes:
    """Gathers what steps of reading raise: `with mistakes: …` for each, and `tell()` after the last."""

    def __init__(self) -> None:
        self._found: list[InvalidInput] = []

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if not isinstance(error, InvalidInput):
            return False
        self._found.append(error)
        return True

    def tell(self) -> None:
        """Raises the mistake that was found, or BadOptions for several."""
        if len(self._found) == 1:
            raise self._found[0]
        if self._found:
            raise BadOptions(self._found)

"""Path templates: `{*}` is one segment, `{**}` whatever is there; matched by segments and in linear time.

The meaning is Istio's (authorization-policy, Operation.paths), for every character that a path may have. Envoy's own
matcher knows only some of them in place of a wildcard, so that a templated DENY would miss a path with `=` or `|`.
"""

from __future__ import annotations

from dataclasses import dataclass

ONE = "{*}"
REST = "{**}"


def is_template(value: str) -> bool:
    return ONE in value or REST in value


@dataclass(frozen=True, slots=True)
class PathTemplate:
    """A template: segments that are literal or `{*}`, then maybe `{**}` and a literal end. It matches whole paths."""

    text: str
    segments: tuple[str | None, ...]
    """Before `{**}`, in order, the one before the first slash too; None is `{*}`."""
    end: str | None
    """What follows `{**}`, with its slash; None: there is no `{**}`."""

    @classmethod
    def parse(cls, text: str) -> PathTemplate:
        """Read a template that the loader has validated: operators fill segments, `{**}` is the last of them."""
        segments = text.split("/")
        end = None
        if REST in segments:
            place = segments.index(REST)
            end = "".join("/" + segment for segment in segments[place + 1 :])
            segments = segments[:place]
        return cls(text, tuple(None if segment == ONE else segment for segment in segments), end)

    @property
    def literal_start(self) -> str:
        """With what every matching path starts."""
        return self.text[: self.text.index("{")]

    def match(self, path: str) -> bool:
        if self.end is None:
            found = path.split("/")
            return len(found) == len(self.segments) and self._match_segments(found)
        found = path.split("/", len(self.segments))
        if len(found) != len(self.segments) + 1 or not self._match_segments(found):
            return False
        return found[-1].endswith(self.end)

    def _match_segments(self, found: list[str]) -> bool:
        return all(
            text != "" if segment is None else text == segment
            for segment, text in zip(self.segments, found, strict=False)
        )

"""What people are told of a stream's renditions, with the stream. Pure."""

from media.track.stream import Finding, Severity, Stream

PLAN, TROUBLE = "renditions", "renditions_trouble"


class Remarks:
    """Findings of one stream that are about its renditions."""

    def __init__(self, stream: Stream) -> None:
        self._remarks = stream.remarks

    def plan(self, reason: str, *, some: bool) -> None:
        """Why there are none or fewer than wanted; "": all are made."""
        if not reason:
            self._remarks.pop(PLAN, None)
            return
        what = "fewer renditions than wanted are made" if some else "no renditions are made"
        self._remarks[PLAN] = Finding(PLAN, Severity.INFO, f"{what}: {reason}", "")

    def trouble(self, what: str, reason: str) -> None:
        """Something hurts who watches a rendition; `what` speaks of "they"."""
        self._remarks[TROUBLE] = Finding(
            TROUBLE,
            Severity.WARNING,
            f"of the renditions: {what}: {reason}",
            "Use fewer or smaller rungs in transcode.ladder; the source itself is not affected.",
        )

    def well(self) -> None:
        """The trouble is over."""
        self._remarks.pop(TROUBLE, None)

    def clear(self) -> None:
        """Say nothing."""
        self._remarks.pop(PLAN, None)
        self._remarks.pop(TROUBLE, None)

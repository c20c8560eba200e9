"""How much was sent in each month. Pure."""

MONTHS_MAX = 24  # remembered, the latest; by wrong clocks there may be some that never were


class Volume:
    """Bytes by month of local time. A clock that is put back finds the month that it left."""

    def __init__(self, months: dict[str, int]) -> None:
        """`months` as `months` gave them before a restart."""
        self._months = dict(months)
        self._month = ""
        self._counted: int | None = None  # of what `count` was told last

    def count(self, month: str, sent_bytes: int) -> None:
        """`sent_bytes` since this process began; what is new of them is of `month`."""
        new = sent_bytes - (self._counted or 0)
        self._counted, self._month = sent_bytes, month
        self._months[month] = self._months.get(month, 0) + max(0, new)
        while len(self._months) > MONTHS_MAX:
            del self._months[min(self._months)]

    @property
    def month(self) -> str:
        """The one that is counted now; empty before the first count."""
        return self._month

    @property
    def used_bytes(self) -> int:
        """In this month."""
        return self._months.get(self._month, 0)

    @property
    def months(self) -> dict[str, int]:
        """To be kept over a restart."""
        return dict(self._months)

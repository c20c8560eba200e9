"""Text from others, made fit to show. Pure."""


def one_line(text: str, length_max: int) -> str:
    """At most `length_max` printable characters; others become "?", so that no terminal obeys them."""
    return "".join(char if char.isprintable() else "?" for char in text[:length_max])

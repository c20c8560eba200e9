"""Streams that a node makes of others, and what they are called. Pure.

A ladder is a stream beside the one that it is made of: the same sections, groups, segments and
parts, other pictures, the same sound. `+` is in no publisher's name, so nobody can publish or
ask for one by accident.
"""

import re

LADDER_SUFFIX = "+ladder"

_COPIED_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}(?:\+ladder)?")


def ladder_of(name: str) -> str:
    """The name of the stream that has the renditions of the stream `name`."""
    return name + LADDER_SUFFIX


def is_ladder(name: str) -> bool:
    """Is this the name of a ladder?"""
    return name.endswith(LADDER_SUFFIX)


def may_be_copied(name: str) -> bool:
    """A publisher's stream name, or a ladder's."""
    return _COPIED_NAME.fullmatch(name) is not None

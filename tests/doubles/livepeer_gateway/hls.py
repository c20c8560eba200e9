"""Playlists of a session, as the gateway's own player would get them."""

from livepeer_gateway.sessions import Session

WINDOW = 6
HEADERS = [
    ("Access-Control-Allow-Origin", "*"),
    ("Cache-Control", "max-age=5"),
    ("Content-Type", "application/x-mpegURL"),
]


def master(session: Session) -> str:
    """The source at a made-up bandwidth, as upstream has it, then one variant for each profile."""
    lines = ["#EXTM3U", "#EXT-X-VERSION:3", "#EXT-X-STREAM-INF:PROGRAM-ID=0,BANDWIDTH=4000000"]
    lines.append(f"{session.manifest_id}/source.m3u8")
    for profile in session.profiles:
        size = f"{profile.width}x{profile.height}"
        lines.append(f"#EXT-X-STREAM-INF:PROGRAM-ID=0,BANDWIDTH={profile.bitrate},RESOLUTION={size}")
        lines.append(f"{session.manifest_id}/{profile.name}.m3u8")
    return "\n".join(lines) + "\n"


def variant(session: Session, name: str, extension: str = ".ts") -> str | None:
    """The live window of one rendition, or None where there is none."""
    if name not in session.stored:
        return None
    sequences = sorted(session.stored[name])[-WINDOW:]
    durations = [session.durations.get(sequence, 2.0) for sequence in sequences]
    lines = ["#EXTM3U", "#EXT-X-VERSION:3", f"#EXT-X-MEDIA-SEQUENCE:{sequences[0]}"]
    lines.append(f"#EXT-X-TARGETDURATION:{max(round(d) for d in durations) or 1}")
    for sequence, duration in zip(sequences, durations, strict=True):
        lines += [f"#EXTINF:{duration:.3f},", f"{name}/{sequence}{extension}"]
    return "\n".join(lines) + "\n"

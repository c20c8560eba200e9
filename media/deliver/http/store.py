"""Files that the HTTP server serves from memory, read once."""

from pathlib import Path

FILE_MAX_BYTES = 8 << 20  # one file of a page; what is larger does not belong in memory
FOLDER_MAX_BYTES = 64 << 20


def read_folder(folder: Path) -> dict[str, bytes]:
    """Every file below a folder by its relative path with "/"; hidden ones are left out.

    Raises OSError when something cannot be read or is larger than a page has any reason to be.
    """
    files = {}
    total = 0
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if any(part.startswith(".") for part in name.split("/")) or not path.is_file():
            continue
        data = path.read_bytes()
        total += len(data)
        if len(data) > FILE_MAX_BYTES or total > FOLDER_MAX_BYTES:
            raise OSError(f"{path}: too large to be served from memory")
        files[name] = data
    return files

"""Who besides this user can write to a file or folder."""

from __future__ import annotations

import os
import stat
from pathlib import Path


def others_who_write(path: Path) -> str:
    """Return ``"everyone"`` or a group that may write to a path; empty where only its owner may.

    A folder with the sticky bit does not count, since others cannot replace files in it; nor does
    a group of the owner alone, which many systems give each user.
    """
    if os.name != "posix":
        return ""
    found = os.lstat(path)
    if stat.S_ISDIR(found.st_mode) and found.st_mode & stat.S_ISVTX:
        return ""
    if found.st_mode & stat.S_IWOTH:
        return "everyone"
    if found.st_mode & stat.S_IWGRP and not _is_private(found.st_gid, found.st_uid):
        return f"group {found.st_gid}"
    return ""


def _is_private(group: int, owner: int) -> bool:
    import grp
    import pwd

    try:
        entry, user = grp.getgrgid(group), pwd.getpwuid(owner).pw_name
    except KeyError:  # a number without a name: no telling who is in it
        return False
    return entry.gr_name == user and set(entry.gr_mem) <= {user}

"""Whom results belong to: with sudo, to the user who called it and not to root."""

from __future__ import annotations

import os
from pathlib import Path


def hand_over(*places: Path) -> None:
    """Give files and folders that this process has just made, and what is in them, to who called sudo.

    Nothing is done without sudo, and no link is followed: what a name stands for is not ours to give away.
    """
    user, group = os.environ.get("SUDO_UID", ""), os.environ.get("SUDO_GID", "")
    if os.geteuid() != 0 or not (user.isdecimal() and group.isdecimal()):
        return
    for place in places:
        inside = place.rglob("*") if place.is_dir() and not place.is_symlink() else ()
        for one in (place, *inside):
            try:
                os.chown(one, int(user), int(group), follow_symlinks=False)
            except FileNotFoundError:
                continue
            except PermissionError:  # a shared file system on which root is nobody
                return


def make_folders(folder: Path) -> None:
    """Make a folder and those above it that are missing, and hand them over."""
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for place in missing:
        hand_over(place)

"""Changes of directories as the kernel tells them (inotify(7))."""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress
from typing import Final

_libc = ctypes.CDLL(None, use_errno=True)

_MODIFY, _ATTRIB, _CLOSE_WRITE = 0x2, 0x4, 0x8
_MOVED_FROM, _MOVED_TO, _CREATE, _DELETE, _DELETE_SELF, _MOVE_SELF = 0x40, 0x80, 0x100, 0x200, 0x400, 0x800
_ONLYDIR: Final = 0x1000000
_CHANGES: Final = (
    _MODIFY | _ATTRIB | _CLOSE_WRITE | _MOVED_FROM | _MOVED_TO | _CREATE | _DELETE | _DELETE_SELF | _MOVE_SELF
)
_READ_SIZE = 1 << 16


class Inotify:
    """A descriptor that is readable once something has changed in one of the directories.

    What it was is not told: an event may be lost, a look at the directory is not.

    Raises:
        OSError: the kernel has no more of them (fs.inotify.max_user_instances).
    """

    def __init__(self) -> None:
        self._fd = _checked(_libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))

    def fileno(self) -> int:
        """For a selector."""
        return self._fd

    def watch(self, directory: str) -> None:
        """Tell of changes in it, not of those below; asking again for the same one changes nothing.

        Raises:
            FileNotFoundError: it is not there.
            OSError: it is no directory, or the kernel takes no more (fs.inotify.max_user_watches).
        """
        _checked(_libc.inotify_add_watch(self._fd, os.fsencode(directory), _CHANGES | _ONLYDIR), directory)

    def drain(self) -> None:
        """Forget what was told so far."""
        with suppress(BlockingIOError):
            while os.read(self._fd, _READ_SIZE):
                pass

    def close(self) -> None:
        """Tell no more."""
        os.close(self._fd)


def _checked(result: int, directory: str | None = None) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), directory)
    return result

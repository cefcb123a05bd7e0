"""Kernel settings below /proc/sys (proc_sys(5)); network ones belong to the namespace of the reader."""

from __future__ import annotations

from pathlib import Path

_ROOT = Path("/proc/sys")


class SysctlReadOnly(OSError):
    """The setting exists, but this process may not change it."""


def read(name: str, root: Path = _ROOT) -> str:
    """The value of a setting such as `net.ipv4.tcp_fwmark_accept`.

    Raises:
        FileNotFoundError: this kernel has no such setting.
    """
    return _path(name, root).read_text().strip()


def write(name: str, value: str, root: Path = _ROOT) -> None:
    """Change a setting.

    Raises:
        SysctlReadOnly: /proc/sys is mounted read-only here (ProtectKernelTunables=), or the process is not root.
        FileNotFoundError: this kernel has no such setting.
    """
    try:
        _path(name, root).write_text(value)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise SysctlReadOnly(error.errno, f"{name} cannot be set to {value} here: {error.strerror}") from error


def _path(name: str, root: Path) -> Path:
    return root.joinpath(*name.split("."))

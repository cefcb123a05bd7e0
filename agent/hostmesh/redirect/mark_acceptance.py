"""The setting without which capture cannot tell workloads apart: turned on where it is off, and given back."""

from __future__ import annotations

from pathlib import Path

from hostmesh.kernel import sysctl

FWMARK_ACCEPT = "net.ipv4.tcp_fwmark_accept"
"""Makes an accepted socket carry the mark of its SYN, over IPv4 and IPv6."""


class CaptureFailed(OSError):
    """The kernel is not, and cannot be made, as planned; the message says why and what to do next."""


class MarkAcceptance:
    """Of this network namespace.

    Args:
        runtime: directory that lives until the next boot, for what it was before.
        proc_sys: /proc/sys.
    """

    def __init__(self, runtime: Path, proc_sys: Path) -> None:
        self._before = runtime / "tcp_fwmark_accept.before"
        self._proc_sys = proc_sys

    def differences(self) -> tuple[str, ...]:
        """One line if it is off.

        Raises:
            CaptureFailed: this kernel has no such setting.
        """
        return () if self._value() == "1" else (f"{FWMARK_ACCEPT} is not 1",)

    def turn_on(self) -> tuple[str, ...]:
        """One line if it was off.

        Raises:
            CaptureFailed: this kernel has no such setting, or it cannot be changed here.
        """
        value = self._value()
        if value == "1":
            return ()
        if not self._before.exists():
            self._before.write_text(value)
        self._set("1")
        return (f"{FWMARK_ACCEPT} was not 1",)

    def give_back(self) -> None:
        """Its former value, if it was turned on here.

        Raises:
            CaptureFailed: it cannot be changed here.
        """
        if self._before.exists():
            self._set(self._before.read_text().strip())
            self._before.unlink()

    def _value(self) -> str:
        try:
            return sysctl.read(FWMARK_ACCEPT, self._proc_sys)
        except FileNotFoundError as error:
            raise CaptureFailed(f"this kernel has no {FWMARK_ACCEPT}; Linux 5.10 or newer has it") from error

    def _set(self, value: str) -> None:
        try:
            sysctl.write(FWMARK_ACCEPT, value, self._proc_sys)
        except sysctl.SysctlReadOnly as error:
            raise CaptureFailed(
                f"{error.strerror or error}; capture cannot tell workloads apart without it. "
                f"Next: sysctl -w {FWMARK_ACCEPT}={value} (the unit's ExecStartPre= does it at a restart)"
            ) from error

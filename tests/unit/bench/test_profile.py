"""What perf and strace print, read."""

from __future__ import annotations

import pytest
from bench.profile import Shares, part_of, read_calls, read_samples

SCRIPT = """\
  4711     ffffffff81a2b3c4 rep_movs_alternative ([kernel.kallsyms])
  4711     7f00deadbeef aesni_gcm_encrypt (/venv/lib/cryptography/hazmat/bindings/_rust.abi3.so)
  4712           55d0c0 _PyEval_EvalFrameDefault (/usr/bin/python3.11)
  4712           55d0c1 operator new(unsigned long) (/usr/lib/libstdc++.so.6)
  4712           55d0c2 [unknown] ([unknown])
perf: a line of something else
"""

SUMMARY = """\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 40.00    0.010000          10      1000           epoll_wait
 35.00    0.009000           9       998        12 recvfrom
------ ----------- ----------- --------- --------- ----------------
100.00    0.025000          10      1998        12 total
"""


def test_samples_name_process_function_and_file() -> None:
    """Functions may hold spaces and parentheses; other lines are skipped."""
    assert list(read_samples(SCRIPT.splitlines())) == [
        (4711, "rep_movs_alternative", "[kernel.kallsyms]"),
        (4711, "aesni_gcm_encrypt", "/venv/lib/cryptography/hazmat/bindings/_rust.abi3.so"),
        (4712, "_PyEval_EvalFrameDefault", "/usr/bin/python3.11"),
        (4712, "operator new(unsigned long)", "/usr/lib/libstdc++.so.6"),
        (4712, "[unknown]", "[unknown]"),
    ]


@pytest.mark.parametrize(
    ("library", "part"),
    [
        ("[kernel.kallsyms]", "kernel"),
        ("/lib/modules/6.1/kernel/net/nf_conntrack.ko", "kernel"),
        ("/venv/cryptography/_rust.abi3.so", "openssl"),
        ("/usr/lib/x86_64-linux-gnu/libcrypto.so.3", "openssl"),
        ("/usr/bin/python3.11", "interpreter"),
        ("/usr/lib/x86_64-linux-gnu/libc.so.6", "interpreter"),
    ],
)
def test_files_belong_to_parts(library: str, part: str) -> None:
    """Both engines' libraries are OpenSSL; what is neither it nor the kernel is the interpreter's."""
    assert part_of(library) == part


def test_shares_sum_to_one() -> None:
    """And are nothing at all where nothing was sampled."""
    assert Shares.of({"kernel": 2, "openssl": 1, "interpreter": 1}) == Shares(0.5, 0.25, 0.25)
    assert Shares.of({}) == Shares(0.0, 0.0, 0.0)


def test_calls_are_counted_with_and_without_errors() -> None:
    """The column of errors is empty for calls that had none; the total is no call."""
    assert read_calls(SUMMARY.splitlines()) == {"epoll_wait": 1000, "recvfrom": 998}

"""What a process gives back after its start."""

from __future__ import annotations

import subprocess
import sys

from hostmesh.kernel.memory import untouched

SMAPS = """\
5590c000-5590d000 r-xp 00000000 fe:00 123                        /usr/bin/python3.11
Rss:                 4 kB
Anonymous:             0 kB
5590d000-5590f000 r--p 00001000 fe:00 123                        /usr/bin/python3.11
Anonymous:             8 kB
5590f000-55910000 rw-p 00003000 fe:00 123                        /usr/bin/python3.11
Anonymous:             0 kB
7f000000-7f002000 r--p 00000000 fe:00 9                          /usr/lib/with blank.so (deleted)
Anonymous:             0 kB
7f100000-7f101000 r--s 00000000 fe:00 9                          /var/cache/shared
Anonymous:             0 kB
7f200000-7f300000 r--p 00000000 00:00 0
Anonymous:             0 kB
7fff0000-7fff2000 r-xp 00000000 00:00 0                          [vdso]
Anonymous:             0 kB
"""


def test_only_what_the_file_still_has_is_given_back() -> None:
    """Never relocated, writable, shared or anonymous memory: its content would be lost."""
    assert list(untouched(SMAPS.splitlines())) == [(0x5590C000, 0x5590D000), (0x7F000000, 0x7F002000)]


def test_a_process_goes_on_and_is_smaller() -> None:
    """With libraries that have relocations, threads and TLS; each call still works."""
    program = """
import ssl, json, hashlib, threading
from hostmesh.kernel.memory import Memory
rss = lambda: int(open("/proc/self/statm").read().split()[1])
context = ssl.create_default_context()
before = rss()
Memory().settle()
assert rss() < before, (rss(), before)
thread = threading.Thread(target=hashlib.sha256, args=(b"x",))
thread.start(); thread.join()
print(json.dumps(ssl.create_default_context().get_ciphers()[0]["name"]))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.startswith('"TLS_')


def test_freed_memory_is_used_again_until_it_is_given_back() -> None:
    """Pages that go to the kernel after each use are cleared and faulted in again: half of what a copy costs."""
    program = """
import resource
from hostmesh.kernel.memory import Memory, keep_freed
page, piece = 4096, 1 << 20
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
rss = lambda: page * int(open("/proc/self/statm").read().split()[1])
def use():
    return len([b"x" * piece for _ in range(8)])
memory = Memory()
keep_freed(2 * piece, 16 * piece)
use()
before, held = faults(), rss()
for _ in range(10):
    use()
assert faults() - before < piece / page, faults() - before
memory.give_back()
assert held - rss() > 7 * piece, (held, rss())
"""
    subprocess.run([sys.executable, "-c", program], check=True)

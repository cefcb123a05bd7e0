"""Which functions every message meets, read from what callgrind has recorded."""

from __future__ import annotations

from bench.hot import read_calls

RECORDED = """\
version: 1
ob=(2) /opt/hostmesh__mypyc.so
fl=(3) ???
fn=(7) CPyDef_loop___Loop___turn
0x10 0 5
cob=(2)
cfn=(9) CPyDef_timers___Timers___next_due
calls=3 0
0x14 0 30
cfn=(9)
calls=4 0
0x18 0 40

fn=(9)
0x20 0 7
cfn=(7)
calls=1 0
0x24 0 9

fn=(11) CPyDef_loop___Loop___turn'2
0x10 0 5
cfn=(11)
calls=2 0
0x30 0 9
"""


def test_calls_are_counted_by_who_was_called() -> None:
    """A name is given once, later its number alone; a function that has called itself is one all the same."""
    calls = read_calls(RECORDED.splitlines())
    assert calls == {"CPyDef_timers___Timers___next_due": 7, "CPyDef_loop___Loop___turn": 3}

"""What the role puts beside a unit is what the agent expects there."""

from __future__ import annotations

from pathlib import Path

from hostmesh.enrolment.units import DROP_IN_NAME, drop_in, socket_drop_in

ROLE = Path(__file__).parents[3] / "roles" / "workload"


def test_the_roles_drop_in_is_the_agents() -> None:
    """The file in the role is the text that the agent defines, under the name that it looks for."""
    assert (ROLE / "files" / DROP_IN_NAME).read_text() == drop_in()
    assert (ROLE / "files" / "50-hostmesh-socket.conf").read_text() == socket_drop_in()

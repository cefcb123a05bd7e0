"""The three set-ups, each at a site of its own: direct, a pair of Envoys, a pair of hostmesh agents."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench import envoys, meshes
from bench.generator import Generator
from bench.processes import cpu_seconds, proportional_mb, resident_mb
from bench.site import Site, populated, site


@dataclass(frozen=True, slots=True)
class Setup:
    """A way from the load to the application.

    Args:
        name: of the column.
        generator: makes the load.
        target: where the load connects to.
        processes: pids of everything that the way costs, by what they are.
        cipher: what the proxies agreed on.
        where: its namespaces.
    """

    name: str
    generator: Generator
    target: str
    where: Site
    processes: Mapping[str, int] = field(default_factory=dict)
    cipher: str = ""

    def cpu(self) -> float:
        """Seconds that its proxies have used so far."""
        return cpu_seconds(self.processes.values())

    def cpu_of(self, process: str) -> float:
        """Seconds that one of them has used."""
        return cpu_seconds([self.processes[process]])

    def resident(self) -> dict[str, float]:
        """MiB of each process of its proxies."""
        return {name: resident_mb(pid) for name, pid in self.processes.items()}

    def proportional(self) -> dict[str, float]:
        """MiB of each process, pages that they share divided among them."""
        return {name: proportional_mb(pid) for name, pid in self.processes.items()}


@contextmanager
def all_setups(program: Path, directory: Path, names: Sequence[str]) -> Iterator[list[Setup]]:
    """Those set-ups side by side; who is not measured is idle.

    Args:
        program: the load generator.
        directory: for files of the proxies.
        names: of `figures.SETUPS`.
    """
    makers = {"direct": direct, "envoy": envoy, "hostmesh": hostmesh}
    with ExitStack() as stack:
        made = []
        for name in names:
            (directory / name).mkdir()
            made.append(stack.enter_context(makers[name](program, directory / name)))
        yield made


@contextmanager
def direct(program: Path, directory: Path) -> Iterator[Setup]:
    """Plain TCP."""
    with site(directory) as where, populated(where, program) as generator:
        yield Setup("direct", generator, where.application, where)


@contextmanager
def envoy(program: Path, directory: Path) -> Iterator[Setup]:
    """The load connects to the application, and is captured by its destination."""
    with site(directory) as where, populated(where, program) as generator, envoys.pair(where) as pair:
        generator.run("ping", where.application, seconds=0.1)
        yield Setup("envoy", generator, where.application, where, pair, envoys.cipher(where))


@contextmanager
def hostmesh(program: Path, directory: Path) -> Iterator[Setup]:
    """The load connects to the application, and is captured by its cgroup; so is the application."""
    with site(directory) as where, populated(where, program) as generator, meshes.pair(where) as pair:
        yield Setup("hostmesh", generator, where.application, where, pair.processes, meshes.cipher())

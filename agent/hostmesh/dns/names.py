"""Which names of services a question may mean: short names, search domains, wildcards (ztunnel's DNS proxy)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Candidate:
    """A name to look up. `alias` is what is left of the question without its search domain, empty if nothing was."""

    name: str
    alias: str = ""


def candidates(asked: str, namespace: str, domain: str, search: Sequence[str] | None = None) -> tuple[Candidate, ...]:
    """Names in the order in which they are tried, each once.

    Args:
        asked: in lower case, without a dot at the end.
        namespace: the client's.
        domain: of the cluster, like cluster.local.
        search: domains that resolvers of clients add to short names; Kubernetes' own when not given.
    """
    if search is None:
        search = (f"{namespace}.svc.{domain}", f"svc.{domain}", domain)
    found: dict[str, Candidate] = {}
    for name, alias in ((asked, ""), *((stripped, stripped) for stripped in _stripped(asked, search))):
        for each in (name, *_expansions(name, namespace, domain)):
            found.setdefault(each, Candidate(each, alias))
    return tuple(found.values())


def wildcards(name: str) -> Iterator[str]:
    """`*.b.c`, `*.c` for a.b.c."""
    rest = name
    while "." in rest:
        rest = rest.partition(".")[2]
        yield f"*.{rest}"


def is_within(name: str, domains: Sequence[str]) -> bool:
    """Whether a name is one of the domains or below."""
    return any(name == domain or name.endswith(f".{domain}") for domain in domains)


def _stripped(asked: str, search: Sequence[str]) -> Iterator[str]:
    return (asked.removesuffix(f".{domain}") for domain in search if domain and asked.endswith(f".{domain}"))


def _expansions(name: str, namespace: str, domain: str) -> tuple[str, ...]:
    match name.count(".") + 1:
        case 1:
            return (f"{name}.{namespace}.svc.{domain}",)
        case 2:
            return f"{name}.svc.{domain}", f"{name}.{namespace}.svc.{domain}"
        case 3:
            whole = f"{name}.svc.{domain}"
            return (f"{name}.{domain}", whole) if name.endswith(".svc") else (whole,)
        case 4 if name.endswith(".svc"):
            return (f"{name}.{domain}",)
        case _:
            return ()

"""`python -m tools.role_readmes`: the tables of variables in roles/*/README.md, made from the argument specs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

ROLES = Path(__file__).parents[1] / "roles"
MARK = "\n## Variables\n"


def table(specs: Mapping[str, Any]) -> str:
    """Every entry point with its options; entry points that share options share a table."""
    parts: list[str] = []
    shown: dict[str, list[str]] = {}
    for entry, spec in specs.items():
        if rows := "\n".join(_rows(spec["options"])):
            shown.setdefault(rows, []).append(entry)
    for rows, entries in shown.items():
        title = "" if entries == ["main"] else f"`tasks_from: {'`, `'.join(entries)}`\n\n"
        parts.append(f"{title}| Variable | Type | Default | |\n| --- | --- | --- | --- |\n{rows}\n")
    return "\n".join(parts)


def _rows(options: Mapping[str, Any], within: str = "") -> Iterator[str]:
    for name, option in options.items():
        kind = option["type"] + (f" of {option['elements']}" if "elements" in option else "")
        default = "required" if option.get("required") else _default(option["default"]) if "default" in option else ""
        said = option["description"]
        text = " ".join(said if isinstance(said, list) else [said])
        if "choices" in option:
            text += f" One of {', '.join(f'`{_value(one)}`' for one in option['choices'])}."
        cells = (f"`{within}{name}`", kind, default, _markdown(text))
        yield f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"
        yield from _rows(option.get("options", {}), f"{within}{name}{'[]' if kind.startswith('list') else ''}.")


def _default(value: object) -> str:
    """A value as code, a description of one as text."""
    described = isinstance(value, str) and (" " in value or "C(" in value) and "{{" not in value
    return _markdown(value) if described and isinstance(value, str) else f"`{_value(value)}`"


def _value(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value) or '""'


def _markdown(text: str) -> str:
    """Ansible's marks of constants, options and values as code."""
    for mark in ("C", "V", "O", "P"):
        while (at := text.find(f"{mark}(")) >= 0:
            end = text.index(")", at)
            text = f"{text[:at]}`{text[at + 2 : end].removesuffix('#role')}`{text[end + 1 :]}"
    return text


def readme(role: Path) -> str:
    """What the README of a role is to be: what somebody wrote, and the table."""
    specs = yaml.safe_load((role / "meta" / "argument_specs.yml").read_text(encoding="utf-8"))["argument_specs"]
    written = (role / "README.md").read_text(encoding="utf-8").partition(MARK)[0].rstrip("\n")
    return f"{written}\n{MARK}\n{table(specs)}"


def main() -> None:
    """Write all of them."""
    for role in sorted(ROLES.iterdir()):
        (role / "README.md").write_text(readme(role), encoding="utf-8")


if __name__ == "__main__":
    main()

"""A container runtime's side of CNI: a small runner of plugin chains, as libcni does it (CNI SPEC 1.1.0, section 3)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.netns import Namespace

from hostmesh.enrolment import cni_plugin

REFERENCE = Path("/usr/lib/cni")
Json = dict[str, Any]


class PluginFailed(Exception):
    """What a plugin answered, and its exit status."""

    def __init__(self, answer: Json, status: int, log: str) -> None:
        super().__init__(f"{answer} {log}")
        self.code = answer.get("code")
        self.answer = answer
        self.status = status


def install(directory: Path) -> Path:
    """Our plugin as runtimes find it: executable, named as its type; its interpreter is this one."""
    directory.mkdir(exist_ok=True)
    path = directory / "hostmesh-cni"
    shebang, _, rest = Path(cni_plugin.__file__).read_text().partition("\n")
    assert shebang == "#!/opt/hostmesh/current/bin/python -IS"
    path.write_text(f"#!{sys.executable} -IS\n{rest}")
    path.chmod(0o755)
    return path


@dataclass
class Runtime:
    """Runs the plugins of one network in a host's namespace. `arguments` become CNI_ARGS."""

    config: Json
    plugins: Path
    host: Namespace | None = None
    arguments: str = ""
    capabilities: Json = field(default_factory=dict)
    results: dict[str, Json] = field(default_factory=dict)

    def add(self, container: str, netns: Path, ifname: str = "eth0") -> Json:
        """The chain in order; the last result is kept as runtimes keep it."""
        result: Json | None = None
        for plugin in self.config["plugins"]:
            result = self.run("ADD", plugin, container, netns, ifname, result)
        assert result is not None
        self.results[container] = result
        return result

    def check(self, container: str, netns: Path, ifname: str = "eth0") -> None:
        """The chain in order."""
        for plugin in self.config["plugins"]:
            assert self.run("CHECK", plugin, container, netns, ifname, self.results[container]) is None

    def delete(self, container: str, netns: Path | None, ifname: str = "eth0") -> None:
        """The chain in reverse."""
        for plugin in reversed(self.config["plugins"]):
            self.run("DEL", plugin, container, netns, ifname, self.results.get(container))

    def run(
        self,
        command: str,
        plugin: Json,
        container: str = "",
        netns: Path | None = None,
        ifname: str = "",
        previous: Json | None = None,
        **more: object,
    ) -> Json | None:
        """One plugin; what it printed.

        Raises:
            PluginFailed: with what it said.
        """
        config = {**plugin, "cniVersion": self.config["cniVersion"], "name": self.config["name"], **more}
        runtime = {key: self.capabilities[key] for key in plugin.get("capabilities", {}) if key in self.capabilities}
        if runtime:
            config["runtimeConfig"] = runtime
        if previous is not None:
            config["prevResult"] = previous
        environment = {
            "PATH": os.environ["PATH"],
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": container,
            "CNI_NETNS": str(netns or ""),
            "CNI_IFNAME": ifname,
            "CNI_ARGS": self.arguments,
            "CNI_PATH": f"{self.plugins}:{REFERENCE}",
        }
        program = next(p / plugin["type"] for p in (self.plugins, REFERENCE) if (p / plugin["type"]).exists())
        with self._at_home():
            done = subprocess.run(
                [program], input=json.dumps(config), env=environment, capture_output=True, text=True, check=False
            )
        answer = json.loads(done.stdout) if done.stdout else None
        if done.returncode:
            raise PluginFailed(answer or {}, done.returncode, done.stderr)
        return answer

    @contextmanager
    def _at_home(self) -> Iterator[None]:
        if self.host is None:
            yield
        else:
            with self.host.entered():
                yield

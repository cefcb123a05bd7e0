"""A real control plane of Istio in a namespace: etcd, Kubernetes' API server and istiod, as lab/istiod.sh builds."""

from __future__ import annotations

import base64
import json
import os
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from tests.support.netns import Namespace

BUILT = Path.home() / ".cache" / "hostmesh" / "istiod"
NAMESPACES = ("istio-system", "prod", "vms", "shop", "a", "b")
_PLURALS = {
    "AuthorizationPolicy": "authorizationpolicies",
    "ServiceEntry": "serviceentries",
    "WorkloadEntry": "workloadentries",
}

Document = dict[str, Any]


class Refused(Exception):
    """What the API server says about a document that it does not take."""


@dataclass(frozen=True, slots=True)
class RealIstiod:
    """`root` is the certificate that its clients trust; it listens on the first address of `where`, port 15012."""

    where: Namespace
    root: Path

    def call(self, method: str, path: str, body: object = None, kind: str = "application/json") -> Any:
        """Ask the API server, as its administrator.

        Raises:
            Refused: it says no.
        """
        headers = {"Authorization": "Bearer admin", "Content-Type": kind}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"https://127.0.0.1:6443{path}", data, headers, method=method)
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with self.where.entered():
            try:
                with urllib.request.urlopen(request, timeout=20, context=context) as answer:
                    return json.loads(answer.read())
            except urllib.error.HTTPError as error:
                raise Refused(error.read().decode()) from None

    def apply(self, document: Document) -> Document:
        """Create it; as the API server has it then."""
        made: Document = self.call("POST", _collection(document), document)
        return made

    def delete(self, document: Document) -> None:
        """Take it away."""
        self.call("DELETE", f"{_collection(document)}/{document['metadata']['name']}")

    def token(self, namespace: str, account: str) -> str:
        """A token with which the service account may ask istiod for its certificate."""
        accounts = f"/api/v1/namespaces/{namespace}/serviceaccounts"
        with suppress(Refused):  # it is there already
            self.call("POST", accounts, {"metadata": {"name": account}})
        asked = {"spec": {"audiences": ["istio-ca"], "expirationSeconds": 3600}}
        return str(self.call("POST", f"{accounts}/{account}/token", asked)["status"]["token"])


def _collection(document: Mapping[str, Any]) -> str:
    version, kind = document["apiVersion"], document["kind"]
    root = f"/apis/{version}" if "/" in version else f"/api/{version}"
    if kind == "CustomResourceDefinition":
        return f"{root}/customresourcedefinitions"
    if kind == "Namespace":
        return f"{root}/namespaces"
    return f"{root}/namespaces/{document['metadata']['namespace']}/{_PLURALS.get(kind, kind.lower() + 's')}"


@contextmanager
def real_istiod(where: Namespace, directory: Path) -> Iterator[RealIstiod]:
    """Up, with Istio's and Gateway API's definitions and some namespaces; ended in any case."""
    directory.mkdir()
    made = RealIstiod(where, directory / "root-cert.pem")
    with ExitStack() as stack:
        etcd = "http://127.0.0.1:2379"
        _start(stack, where, directory, "etcd", "etcd", "--data-dir", "etcd", "--listen-client-urls", etcd,
               "--advertise-client-urls", etcd, "--listen-peer-urls", "http://127.0.0.1:2380")  # fmt: skip
        _start(
            stack,
            where,
            directory,
            "kube-apiserver",
            str(BUILT / "kube-apiserver"),
            *_apiserver(directory, where, etcd),
        )
        _wait(lambda: made.call("GET", "/api/v1/namespaces/default"))
        for document in _definitions():
            made.apply(document)
        for name in NAMESPACES:
            made.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        (directory / "kubeconfig").write_text(json.dumps(_KUBECONFIG))
        (directory / "mesh").write_text("")
        _start(stack, where, directory, "istiod", str(BUILT / "pilot-discovery"), "discovery",
               "--kubeconfig", "kubeconfig", "--meshConfig", "mesh", "--httpAddr", "127.0.0.1:8090")  # fmt: skip
        secret = _wait(lambda: made.call("GET", "/api/v1/namespaces/istio-system/secrets/istio-ca-secret"))
        made.root.write_bytes(base64.b64decode(secret["data"]["ca-cert.pem"]))
        _wait(lambda: _ready(where))
        yield made


def _apiserver(directory: Path, where: Namespace, etcd: str) -> list[str]:
    """Whoever has a token of the API server may do everything; service accounts' tokens are for istiod's CA."""
    key = directory / "service-accounts.key"
    subprocess.run(["openssl", "genrsa", "-out", str(key), "2048"], check=True, capture_output=True)
    (directory / "tokens.csv").write_text('admin,admin,1,"system:masters"\n')
    return [
        f"--etcd-servers={etcd}",
        "--cert-dir=certificates",
        "--bind-address=127.0.0.1",
        f"--advertise-address={where.v4}",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={key}",
        f"--service-account-signing-key-file={key}",
        "--api-audiences=https://kubernetes.default.svc,istio-ca",
        "--token-auth-file=tokens.csv",
        "--authorization-mode=AlwaysAllow",
        "--disable-admission-plugins=ServiceAccount",
        "--service-cluster-ip-range=10.96.0.0/16,fd96::/112",
    ]


def _definitions() -> Iterator[Document]:
    for path in sorted(BUILT.glob("*.yaml")):
        for document in yaml.load_all(path.read_text(), yaml.CSafeLoader):
            if document and document["kind"] == "CustomResourceDefinition":
                yield document


_KUBECONFIG = {
    "apiVersion": "v1",
    "kind": "Config",
    "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:6443", "insecure-skip-tls-verify": True}}],
    "users": [{"name": "u", "user": {"token": "admin"}}],
    "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
    "current-context": "x",
}
_ISTIOD = {
    "PILOT_ENABLE_AMBIENT": "true",
    "POD_NAMESPACE": "istio-system",
    "POD_NAME": "istiod",
    "CLUSTER_ID": "Kubernetes",
    "REVISION": "default",
    "CA_TRUSTED_NODE_ACCOUNTS": "istio-system/ztunnel",
    "PILOT_DEBOUNCE_AFTER": "10ms",
}


def _start(stack: ExitStack, where: Namespace, directory: Path, name: str, *command: str) -> None:
    with (directory / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            where.command(*command), cwd=directory, env={**os.environ, **_ISTIOD}, stdout=log, stderr=log
        )
    stack.callback(process.wait)
    stack.callback(process.kill)


def _ready(where: Namespace) -> None:
    with where.entered():
        urllib.request.urlopen("http://127.0.0.1:8090/ready", timeout=2).close()


def _wait(what: Any, seconds: float = 60) -> Any:
    """Ask five times a second, until it is there."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return what()
        except (OSError, Refused):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)

#!/bin/bash
# Install what the project needs and the machine lacks; says what it does and is quiet where nothing is to be done.
# Arguments: the system's interpreter, the folder of the virtual environment.
set -euo pipefail
python=$1 venv=$2
cd "$(dirname "$0")/.."

packages=(
  python3-venv python3-dev gcc pkg-config libsystemd-dev   # wheels of python-iptables and systemd-python
  mmdebstrap systemd-container zstd                        # hosts of the lab
  containernetworking-plugins                              # containers of the tests
  redis-tools ufw firewalld                                # a database of the tests (its server is in the tools); firewalls
  chromium                                                 # looks at the web page
  dnsmasq-base unbound                                     # resolvers of the tests
  podman runc busybox-static                               # containers of the tests, by a runtime
  nghttp2-client nghttp2-proxy                             # strangers that the tests speak HTTP/2 with
  iproute2 nftables iptables tcpdump netcat-openbsd openssh-client curl groff-base procps util-linux git
  etcd-server etcd-client                                  # the store that control planes share, in tests
  wabt                                                     # makes the WebAssembly module of the tests
)
missing=()
for package in "${packages[@]}"; do
  [ "$(dpkg-query --showformat='${db:Status-Status}' --show "$package" 2>/dev/null)" = installed ] || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
  if [ "$(id -u)" != 0 ]; then
    echo "packages are missing; as root: apt-get install ${missing[*]}" >&2
    exit 1
  fi
  echo "prerequisites: installing packages: ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  # The tests need its programs, and this machine not its rules.
  [ -e /lib/systemd/system/firewalld.service ] || ln -sf /dev/null /etc/systemd/system/firewalld.service
  # Lists that are younger than a day are good enough, and fetching them takes a while.
  if [ -z "$(find /var/lib/apt/lists -maxdepth 1 -name '*_Packages*' -mtime -1 -print -quit 2>/dev/null)" ]; then
    apt-get -q update
  fi
  apt-get -q install -y --no-install-recommends "${missing[@]}" | grep -E '^(Get|Unpacking|Setting up)' || true
fi

stamp=$venv/.hostmesh-$(sha256sum pyproject.toml | cut -c1-16)
if [ ! -e "$stamp" ]; then
  echo "prerequisites: virtual environment $venv (about a minute the first time)"
  [ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
  "$venv/bin/python" -m pip install --upgrade --progress-bar off pip | grep -E '^(Collecting|Installing|Successfully)' || true
  "$venv/bin/python" -m pip install --progress-bar off --editable '.[dev,deploy,waypoint,interop]' \
    | grep -E '^(Collecting|Building|Installing|Successfully)' | cut -c1-150
  rm -f "$venv"/.hostmesh-*
  touch "$stamp"
fi

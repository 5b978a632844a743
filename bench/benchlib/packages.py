"""Debian's packages that a comparison needs, by the same script as the tests' (scripts/lib.sh)."""

import subprocess
import tempfile

from .build import ROOT, BenchError

PEERS = {
    "haproxy": ["haproxy"],
    "nginx": ["nginx", "libnginx-mod-stream"],
    "stunnel": ["stunnel4"],
    "ssh": ["openssh-server", "openssh-client"],
    # grpc-go wants one of two generations of golang/protobuf; only this one knows what protoc-gen-go makes.
    "grpc-go": ["golang-go", "golang-google-grpc-dev", "golang-google-protobuf-dev", "golang-github-golang-protobuf-1-5-dev",
                "protobuf-compiler", "protoc-gen-go", "protoc-gen-go-grpc"],
}
TOOLS = ["curl", "iproute2", "openssl"]


def install(contestants):
    """Installs what is missing for the build and for these contestants. Nothing that is installed starts."""
    names = list(TOOLS)
    for contestant in contestants:
        names += PEERS.get(contestant.removesuffix("64"), [])
    with tempfile.NamedTemporaryFile() as log:
        script = 'set -euo pipefail; . "$1/scripts/lib.sh"; shift; ensure_packages "$1" "${PACKAGES_BUILD[@]}" "${@:2}"'
        done = subprocess.run(["bash", "-c", script, "packages", str(ROOT), log.name, *dict.fromkeys(names)], check=False)
    if done.returncode != 0:
        raise BenchError("packages are missing")

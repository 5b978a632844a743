"""bench/grpc-go: the protocol's Data streams on the original's stack, ten sessions a connection as kbgp has them."""

import os
from pathlib import Path

from .build import BENCH, ROOT, run
from .contestant import Contestant


def build(folder):
    """Builds agent and target with Debian's Go packages alone: no module is fetched."""
    go = Path(folder) / "go"
    generated = go / "src/bench/ktbgp"
    generated.mkdir(parents=True, exist_ok=True)
    options = "paths=source_relative,Mktbgp.proto=bench/ktbgp"
    run(["protoc", f"--proto_path={ROOT / 'proto'}", f"--go_out={generated}", f"--go_opt={options}",
         f"--go-grpc_out={generated}", f"--go-grpc_opt={options}", "ktbgp.proto"])
    env = {**os.environ, "GO111MODULE": "off", "GOPATH": f"{go.resolve()}:/usr/share/gocode", "GOFLAGS": "", "GOPROXY": "off",
           "GOCACHE": str((go / "cache").resolve())}
    for name in ("agent", "target"):
        run(["go", "build", "-o", Path(folder) / f"grpc-go-{name}", BENCH / f"grpc-go/{name}.go"], env=env)


class GrpcGo(Contestant):
    name, title = "grpc-go", "grpc-go"

    def start_target(self):
        child = self.run_target(self.place.tools / "grpc-go-target", "-listen", f"{self.place.target_ip}:{self.target_port}",
                                "-backend", f"127.0.0.1:{self.backend_port}", "-cert", self.place.cert, "-key", self.place.key)
        self.wait_listening(child, self.target_port)
        return child

    def start_agent(self):
        child = self.run_agent(self.place.tools / "grpc-go-agent", "-listen", f"127.0.0.1:{self.router_port}", "-target",
                               f"{self.place.target_ip}:{self.target_port}", "-ca", self.place.cert, "-name",
                               self.place.target_ip)
        self.wait_listening(child, self.router_port)
        return child

    @classmethod
    def programs(cls, place):
        return [place.tools / "grpc-go-agent"]

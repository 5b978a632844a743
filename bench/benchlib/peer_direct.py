"""No chain at all: the load connects to itself. What TCP and the load can do on this machine."""

from .contestant import Contestant


class Direct(Contestant):
    name, title = "direct", "direct TCP"

    def start_target(self):
        return None

    def start_agent(self):
        return None

    def connect_address(self):
        return f"{self.place.target_ip}:{self.backend_port}"

    def listen_address(self):
        return self.connect_address()

    def load(self, mode, **options):
        # Over a long line the routers have the line's own address.
        return super().load(mode, any_source=self.place.agent_ns is not None, **options)

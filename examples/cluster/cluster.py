"""Starts three nodes of dqlite on this machine, each with the extension, and ends them when it ends.

    apt-get install --no-install-recommends libdqlite0 go-dqlite libsqlite3-dev gcc
    python3 cluster.py --library ./libsqlite_ivf.so --folder ./nodes

The nodes are `dqlite-demo`, and the extension gets into them by preload.c. Everything else (election, replication, membership)
is dqlite's.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import List, Optional, Tuple

from dqlite import Failure, Node

HERE = Path(__file__).resolve().parent
NEEDED = {"cc": "gcc", "dqlite-demo": "go-dqlite", "setpriv": "util-linux"}


def missing() -> str:
    """The Debian packages that are not here."""
    absent = [package for program, package in NEEDED.items() if not shutil.which(program)]
    if not Path("/usr/include/sqlite3.h").exists():
        absent.append("libsqlite3-dev")
    return " ".join(absent)


def free_ports(count: int) -> List[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


class Cluster:
    """Three nodes whose files are in a folder; `with Cluster(...) as cluster:` starts them."""

    def __init__(self, folder: Path, library: Path, entry: str = "sqlite3_ivf_init", size: int = 3) -> None:
        self.folder, self.library, self.entry = folder.resolve(), library.resolve(), entry
        self.folder.mkdir(parents=True, exist_ok=True)
        # A node is known to the others by its address, so a second start takes the addresses of the first.
        servers, addresses = self.folder / "servers", [f"127.0.0.1:{port}" for port in free_ports(2 * size)]
        if not servers.exists():
            servers.write_text(",".join(addresses[:size]))
        self.addresses = servers.read_text().split(",")
        self.pages = addresses[size:]  # of dqlite-demo's own HTTP server, which is not used here
        self.processes: List[Optional[subprocess.Popen[bytes]]] = [None] * size

    def __enter__(self) -> Cluster:
        compiler = ["cc", "-Wall", "-Wextra", "-O2", "-shared", "-fPIC", str(HERE / "preload.c"), "-ldl"]
        subprocess.run([*compiler, "-o", str(self.folder / "preload.so")], check=True)
        try:
            self.start(0)
            if not (self.folder / "1").exists():
                self.leader()[1].close()
            for number in range(1, len(self.addresses)):
                self.start(number)
            self.wait_for_voters()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for number in range(len(self.processes)):
            self.kill(number)

    def start(self, number: int) -> None:
        """Starts a node. The kernel kills it if this process dies first."""
        command = ["setpriv", "--pdeathsig", "KILL", "env", f"LD_PRELOAD={self.folder / 'preload.so'}"]
        command += ["dqlite-demo", "--verbose", "--dir", str(self.folder / str(number))]
        command += ["--api", self.pages[number], "--db", self.addresses[number]]
        if number:
            command += ["--join", self.addresses[0]]
        environment = {**os.environ, "SQLITE_PRELOAD": str(self.library), "SQLITE_PRELOAD_ENTRY": self.entry}
        with open(self.folder / f"{number}.log", "ab") as log:
            self.processes[number] = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)

    def kill(self, number: int) -> None:
        process = self.processes[number]
        if process:
            process.kill()
            process.wait()
            self.processes[number] = None

    def died(self) -> List[int]:
        """Nodes that ended by themselves."""
        return [number for number, process in enumerate(self.processes) if process and process.poll() is not None]

    def leader(self, seconds: float = 30, but: int = -1) -> Tuple[int, Node]:
        """The leader, and a connection to it; waits for an election."""
        deadline = time.monotonic() + seconds
        while True:
            for number, address in enumerate(self.addresses):
                if number == but or not self.processes[number]:
                    continue
                try:
                    with Node(address, timeout=1) as node:
                        found = node.leader()[1]
                    if found and self.addresses.index(found) != but:
                        return self.addresses.index(found), Node(found, timeout=10)
                except (OSError, Failure):
                    pass
            if time.monotonic() > deadline:
                raise TimeoutError(f"no leader after {seconds} s; nodes that ended: {self.died()}, see {self.folder}/*.log")
            time.sleep(0.02)

    def wait_for_voters(self, seconds: float = 30) -> None:
        """Waits until every node is up and votes: with one that does not, the loss of another stops a cluster of three."""
        deadline, voters = time.monotonic() + seconds, [""]
        while True:
            try:
                node = self.leader()[1]
                with node:
                    voters = [address for address, (_, votes) in node.nodes().items() if votes]
                for address in voters:
                    with Node(address, timeout=1) as each:
                        each.leader()
                if sorted(voters) == sorted(self.addresses):
                    return
            except (OSError, Failure):
                pass
            if time.monotonic() > deadline:
                raise TimeoutError(f"after {seconds} s the voters are {voters}, not {self.addresses}")
            time.sleep(0.05)

    def lead(self, number: int, seconds: float = 30) -> Node:
        """Makes a node the leader; a connection to it."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                found, node = self.leader()
                if found == number:
                    return node
                with node:
                    node.transfer(node.nodes()[self.addresses[number]][0])
            except (OSError, Failure):
                pass
            time.sleep(0.05)
        raise TimeoutError(f"node {number} does not lead after {seconds} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--library", type=Path, default=os.environ.get("SQLITE_IVF_LIBRARY"), help="libsqlite_ivf.so")
    parser.add_argument("--folder", type=Path, default=Path("nodes"), help="where the nodes keep their files (nodes)")
    options = parser.parse_args()
    if not options.library:
        parser.error("--library or SQLITE_IVF_LIBRARY must name libsqlite_ivf.so")
    if missing():
        sys.exit(f"apt-get install {missing()}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with Cluster(options.folder, options.library) as cluster:
        print(f"three nodes; Ctrl-C ends them. A shell: dqlite -s {','.join(cluster.addresses)} demo", flush=True)
        try:
            signal.pause()
        except KeyboardInterrupt:
            pass


if __name__ == "__main__":
    main()

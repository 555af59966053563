"""A Ray head of the tests' own, started as docs/cluster.md says, and what listens where."""

from __future__ import annotations

import ipaddress
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.jobs import ROOT, Ended

BIN = Path(sys.executable).parent
_START_S = 120
_LISTENS = "0A"


@dataclass(frozen=True)
class Head:
    """A running head and how to reach it.

    Attributes:
        process: ``ray start --head --block``.
        environment: Environment variables for those who submit to it.
    """

    process: subprocess.Popen[bytes]
    environment: dict[str, str]

    def submit(self, name: str, *arguments: str, timeout_s: int = 200) -> Ended:
        """Submit a job of this checkout and follow its log to the end."""
        job = ("python", f"jobs/{name}.py", *arguments)
        done = subprocess.run(
            [str(BIN / "ray"), "job", "submit", "--working-dir", ".", "--", *job],
            capture_output=True,
            text=True,
            check=False,
            cwd=ROOT,
            timeout=timeout_s,
            env=self.environment,
        )
        return Ended(done.returncode, done.stdout, done.stderr)


@contextmanager
def started_head(folder: Path, cpus: int) -> Iterator[Head]:
    """Start a head with a token on the loopback interface; end it, and all that it started."""
    token = folder / "token"
    token.touch(mode=0o600)
    token.write_text(secrets.token_hex(32))
    dashboard, client = _free_ports(2)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("RAY_")},
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    }
    # What a job imports is what was uploaded.
    environment.pop("PYTHONPATH", None)
    # Paths of sockets may have 107 characters, which pytest's folders nearly use up.
    sessions = Path("/tmp") / f"ray-{secrets.token_hex(4)}"
    command = [
        *(str(BIN / "ray"), "start", "--head", "--block", "--disable-usage-stats"),
        *(f"--dashboard-port={dashboard}", f"--ray-client-server-port={client}", "--port=0"),
        *("--dashboard-agent-listen-port=0", "--min-worker-port=0", "--max-worker-port=0"),
        *(f"--temp-dir={sessions}", f"--num-cpus={cpus}", f"--object-store-memory={128 * 2**20}"),
    ]
    with (folder / "head.log").open("wb") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, env=environment, cwd=folder, start_new_session=True
        )
    try:
        _wait_for(process, folder / "head.log")
        address = {"RAY_API_SERVER_ADDRESS": f"http://127.0.0.1:{dashboard}"}
        yield Head(process, {**environment, **address})
    finally:
        ours = family(process.pid)
        process.terminate()
        try:
            process.wait(30)
        finally:
            for pid in ours:
                with suppress_gone():
                    os.kill(pid, signal.SIGKILL)
            process.wait()
            shutil.rmtree(sessions, ignore_errors=True)


def suppress_gone() -> AbstractContextManager[None]:
    """Ignore a process, or what it has open, that is gone."""
    return suppress(ProcessLookupError, FileNotFoundError, PermissionError)


def family(pid: int) -> list[int]:
    """The process and its descendants."""
    members = [pid]
    with suppress_gone():
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                members += family(int(child))
    return members


@dataclass
class Listeners:
    """Sockets that a process and its descendants listen on, looked up again and again.

    Attributes:
        seen: Name of a process -> addresses.
    """

    pid: int
    seen: dict[str, set[str]] = field(default_factory=dict)

    @contextmanager
    def watched(self, every_s: float = 0.3) -> Iterator[Listeners]:
        """Look for them while the block runs."""
        ended = threading.Event()

        def look() -> None:
            while not ended.is_set():
                self.look()
                ended.wait(every_s)

        thread = threading.Thread(target=look)
        thread.start()
        try:
            yield self
        finally:
            ended.set()
            thread.join()

    def look(self) -> None:
        """Add what listens now."""
        addresses = _listening()
        for pid in family(self.pid):
            with suppress_gone():
                command = Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ").strip()
                for link in Path(f"/proc/{pid}/fd").iterdir():
                    with suppress_gone():
                        if address := addresses.get(os.readlink(link)):
                            self.seen.setdefault(command, set()).add(address)

    def elsewhere(self) -> dict[str, set[str]]:
        """Those that other machines can reach."""
        return {
            command: far
            for command, addresses in self.seen.items()
            if (far := {address for address in addresses if not _is_loopback(address)})
        }


def _is_loopback(address: str) -> bool:
    found = ipaddress.ip_address(address)
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return (mapped or found).is_loopback


def _listening() -> dict[str, str]:
    """Link of an open file -> the address that the socket listens on."""
    found = {}
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state, *rest = line.split()
            if state == _LISTENS:
                raw = bytes.fromhex(local.split(":")[0])
                words = (raw[start : start + 4][::-1] for start in range(0, len(raw), 4))
                found[f"socket:[{rest[5]}]"] = str(ipaddress.ip_address(b"".join(words)))
    return found


def _free_ports(count: int) -> list[int]:
    with_ports = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [server.getsockname()[1] for server in with_ports]
    for server in with_ports:
        server.close()
    return ports


def _wait_for(process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_S
    while "Ray runtime started" not in log.read_text():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.2)

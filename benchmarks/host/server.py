"""The server under test, started as the container starts it, and what the kernel says about it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.host.limits import Limits
from benchmarks.running.program import ROOT
from tumour_segmenter import client
from tumour_segmenter.errors import UsageError

COMMAND = ["gunicorn", "serve.app:app"]  # the Dockerfile's
PATIENCE = 60  # seconds until a server must be ready
TICKS = os.sysconf("SC_CLK_TCK")


class Server:
    """`with Server(limits) as server:` is ready to answer at `server.url`; `ready_s` after exec.

    It listens on a free port of loopback; all other settings come from the environment, as always,
    or from `variables`, which go before.
    """

    def __init__(self, limits: Limits, **variables: str) -> None:
        self.limits = limits
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self._env = os.environ | {"HOST": "127.0.0.1", "PORT": str(port)} | variables
        self.ready_s = 0.0

    def __enter__(self) -> Server:
        """Raises UsageError, with the server's own reason, when it does not get ready."""
        beside = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
        program = shutil.which(COMMAND[0], path=beside)
        if not program:
            raise UsageError("no gunicorn beside this Python; use --url for a server elsewhere")
        self._log = tempfile.TemporaryFile()
        mine = os.sched_getaffinity(0)
        os.sched_setaffinity(0, self.limits.cores)  # for the child to inherit
        start = time.perf_counter()
        try:
            self._process = subprocess.Popen(
                self.limits.wrap([program, *COMMAND[1:]]),
                cwd=ROOT,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                start_new_session=True,  # Ctrl-C is ours; we stop the server ourselves
            )
        finally:
            os.sched_setaffinity(0, mine)
        try:
            self._wait_until_ready(start)
        except BaseException:
            self.__exit__()
            raise
        return self

    def _wait_until_ready(self, start: float) -> None:
        while time.perf_counter() - start < PATIENCE:
            if self._process.poll() is not None:
                raise UsageError(f"the server did not start: {self._reason()}")
            try:
                if client.ask(self.url, "/healthz/ready", timeout=5).status == 200:
                    self.ready_s = time.perf_counter() - start
                    return
            except client.Unanswered:
                pass
            time.sleep(0.005)
        raise UsageError(f"the server was not ready after {PATIENCE} s: {self._reason()}")

    def log(self) -> list[str]:
        """What the server has written until now, as lines."""
        # The server writes where the file's position is, so that must stay.
        written = os.pread(self._log.fileno(), os.fstat(self._log.fileno()).st_size, 0)
        return written.decode(errors="replace").strip().splitlines()

    def _reason(self) -> str:
        lines = self.log()
        errors = [line for line in lines if line.startswith("error:")]
        return (errors or lines or ["it wrote nothing"])[-1]

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)  # its own session: only what we started
            self._process.wait()
        self._log.close()

    @property
    def pid(self) -> int:
        """Process id of gunicorn's master."""
        return self._process.pid

    def stop(self) -> tuple[int, float]:
        """Asks the server to end: its exit code, and how many seconds it took."""
        start = time.perf_counter()
        self._process.terminate()
        return self._process.wait(PATIENCE), time.perf_counter() - start

    def workers(self) -> list[int]:
        """Process ids of gunicorn's workers: the children of the process that we started."""
        pid = self._process.pid
        return [
            int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        ]

    def ready_workers(self) -> list[int]:
        """Those of the workers that have reported that they can answer."""
        ready = set(re.findall(r"is ready \(pid: (\d+)\)", "\n".join(self.log())))
        return [pid for pid in self.workers() if str(pid) in ready]

    def memory_mb(self) -> list[float]:
        """Resident memory of each worker, in 10^6 bytes."""
        return [resident_mb(pid) for pid in self.workers()]

    def cpu_seconds(self) -> float:
        """CPU time that the server and its workers have used since they started."""
        return sum(cpu_seconds(pid) for pid in [self._process.pid, *self.workers()])


def resident_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024 / 1e6
    return 0.0


def cpu_seconds(pid: int) -> float:
    # The name, field 2, is in brackets and may hold spaces; utime and stime are fields 14 and 15.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS

"""The documents' commands leave a key, the proxy with TLS works before a real server."""

import contextlib
import json
import os
import re
import shutil
import socket
import ssl
import stat
import subprocess

import pytest

from serve.settings import Settings
from tests.conftest import PROJECT
from tests.deploy.test_proxy import NGINX, needs_nginx
from tests.support.documents import blocks
from tests.support.serving import serving, wait

PAGES = [PROJECT / "docs" / name for name in ("deployment.md", "operations.md")]
UNIT = (PROJECT / "deploy" / "segmenter.service").read_text()
PROXY = (PROJECT / "deploy" / "nginx-tls.conf").read_text()
needs_openssl = pytest.mark.skipif(
    not shutil.which("openssl"), reason="openssl is missing: apt install openssl"
)


def command_that_writes(name: str) -> str:
    """Return the line of the documents that makes the file `name`, in a shell of its own: a umask
    that stayed would make files that the service cannot read."""
    lines = [
        line for page in PAGES for block in blocks(page, "sh") for line in block.code.split("\n")
    ]
    (found,) = [line for line in lines if line.endswith(f" {name})")]
    assert found.startswith("(umask 077; ")
    return found


@needs_openssl
@pytest.mark.parametrize("name", [".env", "/etc/segmenter.env"])
def test_commands_make_a_file_of_settings_with_a_key(tmp_path, name):
    file = tmp_path / "settings"
    script = command_that_writes(name).replace(f" {name})", f" {file})")
    subprocess.run(["sh", "-euc", script], check=True)
    values = dict(line.split("=", 1) for line in file.read_text().splitlines())
    assert re.fullmatch("[0-9a-f]{48}", values["API_KEY"])
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    if name != ".env":  # there PORT is nginx's
        settings = Settings.read(values | {"MODEL": "baseline"})
        assert (settings.host, settings.port) == ("127.0.0.1", 8000)


def test_service_may_end_in_its_own_time():
    settings = Settings.read({"MODEL": "baseline"})
    stop = int(re.search(r"TimeoutStopSec=(\d+)", UNIT)[1])
    assert stop > settings.drain + settings.deadline + 1


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="apt install systemd")
def test_systemd_finds_nothing_wrong_with_the_service(tmp_path):
    here = UNIT.replace("/srv/segmenter/.venv/bin/gunicorn", "/bin/true")
    (tmp_path / "segmenter.service").write_text(here)
    command = ["systemd-analyze", "verify", tmp_path / "segmenter.service"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_proxy_waits_longer_and_takes_more_than_the_server():
    settings = Settings.read({"MODEL": "baseline"})
    assert int(re.search(r"proxy_read_timeout (\d+)s;", PROXY)[1]) > settings.deadline + 1
    assert int(re.search(r"client_max_body_size (\d+)m;", PROXY)[1]) * 2**20 > settings.max_body


@pytest.mark.slow
@needs_nginx
@needs_openssl
def test_proxy_with_tls_before_the_server(artifact, tmp_path):
    with contextlib.ExitStack() as free:
        probes = [free.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(2)]
        tls, plain = (probe.getsockname()[1] for probe in probes)
    subject = ["-subj", "/CN=segmenter.example.org", "-days", "2", "-nodes"]
    made = ["-keyout", tmp_path / "privkey.pem", "-out", tmp_path / "fullchain.pem"]
    new = ["openssl", "req", "-x509", "-newkey", "rsa:2048", *subject, *made]
    subprocess.run(new, check=True, capture_output=True)
    with serving(artifact, WORKERS="1", METRICS="off") as server, contextlib.ExitStack() as stack:
        text = re.sub(r" *listen \[::\].*\n", "", PROXY)
        for there, here in {
            "listen 443 ssl": f"listen 127.0.0.1:{tls} ssl",
            "listen 80": f"listen 127.0.0.1:{plain}",
            "/etc/ssl/segmenter": str(tmp_path),
            "http://127.0.0.1:8000": server.url,
        }.items():
            assert there in text
            text = text.replace(there, here)
        paths = "".join(
            f"{kind}_temp_path {tmp_path}/{kind};"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        user = "user root; " if os.geteuid() == 0 else ""
        head = f"{user}daemon off; pid {tmp_path}/nginx.pid; events {{}}"
        (tmp_path / "nginx.conf").write_text(
            f"{head} http {{ access_log off; {paths}\n{text}\n}}\n"
        )
        process = subprocess.Popen([NGINX, "-e", "stderr", "-c", tmp_path / "nginx.conf"])
        stack.callback(process.wait, 10)
        stack.callback(process.terminate)
        pid = tmp_path / "nginx.pid"
        wait(lambda: pid.is_file() and pid.stat().st_size)
        trusted = ssl.create_default_context(cafile=tmp_path / "fullchain.pem")
        trusted.check_hostname = False

        def ask(port: int, path: str, source: str, more: str = "") -> bytes:
            sock = socket.create_connection(("127.0.0.1", port), 10, source_address=(source, 0))
            if port == tls:
                sock = trusted.wrap_socket(sock)
            with sock, sock.makefile("rb") as answer:
                head = f"GET {path} HTTP/1.1\r\nHost: segmenter.example.org\r\n"
                head += f"X-Forwarded-For: 203.0.113.9\r\nConnection: close\r\n{more}\r\n"
                sock.sendall(head.encode())
                return answer.read()

        assert b"200 OK" in ask(tls, "/api", "127.0.0.3")
        for path, more, status in (
            ("/metrics", "", b"404"),
            ("/predict", "Content-Length: 99999999\r\n", b"413"),
        ):
            head, _, body = ask(tls, path, "127.0.0.3", more).partition(b"\r\n\r\n")
            assert status in head.splitlines()[0]
            assert json.loads(body)["error"]["code"] == f"proxy_{status.decode()}"
        moved = ask(plain, "/api", "127.0.0.3")
        assert b"Location: https://segmenter.example.org/api" in moved
        wait(lambda: any('"path": "/api"' in line for line in server.log()))
        (line,) = [json.loads(line) for line in server.log() if '"path": "/api"' in line]
        assert line["client"] == "127.0.0.3"


def test_costs_follow_from_what_was_measured():
    text = (PROJECT / "docs" / "scaling.md").read_text()
    assert len(text.splitlines()) < 120
    one = float(re.search(r"^\| 1 \| ([\d.]+) \| 100 % \|$", text, re.M)[1])
    for processes, rate, efficiency in re.findall(
        r"^\| ([24]) \| ([\d.]+) \| (\d+) % \|$", text, re.M
    ):
        possible = one * min(int(processes), 2)  # two cores, as the text says
        assert float(efficiency) == round(100 * float(rate) / possible)
    hours = 1_000_000 / one / 3600
    price = float(re.search(r"([\d.]+) a core-hour", text)[1])
    rows = re.findall(r"^\| (\d+) \| ([\d.]+) \| ([\d.]+) \|$", text, re.M)
    assert len(rows) == 4
    for cores, shown, dollars in rows:
        assert float(shown) == pytest.approx(hours / int(cores), rel=0.02)
        assert float(dollars) == pytest.approx(hours * price, abs=0.01)
    assert re.search(rf"that is {3500 / one:.0f} cores", text)
    assert f"1,000 a second are {-(-1000 // one):.0f} cores" in text
    assert f"**{hours:.0f} core-hours" in text

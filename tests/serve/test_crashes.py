"""Workers that die, hang, stop and start again, under load: who loses what."""

import contextlib
import os
import signal
import socket
import threading
import time
from functools import partial

import pytest

from tests.conftest import write_artifact
from tests.support.clients import SHORT, Clients
from tests.support.hanging import BLACK, WHITE, write_hanging_artifact
from tests.support.serving import (
    body_of,
    connect,
    post,
    read_answer,
    request_of,
    serving,
    together,
    wait,
)
from tests.support.slow_model import lasting, write_slow_artifact
from tumour_segmenter import client

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_slow_artifact(tmp_path_factory.mktemp("slow") / "model.onnx")


def test_killed_worker_loses_only_what_it_had_in_flight(model):
    with serving(model, WORKERS="2") as server, Clients(server.url) as clients:
        for _ in range(3):
            clients.wait_for(10)
            before = server.workers()
            os.kill(before[0], signal.SIGKILL)
            wait(lambda before=before: len(set(server.workers()) | set(before)) == 3)
        clients.wait_for(20)
    assert (
        len(clients.faults()) <= 3 * 3
    )  # each client can have had one question with each dead worker


def test_worker_that_hangs_is_replaced(model):
    with serving(model, WORKERS="2") as server:
        wait(lambda: len(server.ready_workers()) == 2)
        before = server.workers()
        os.kill(before[0], signal.SIGSTOP)
        wait(lambda: before[0] not in server.workers() and len(server.workers()) == 2)
        assert before[1] in server.workers()
        assert post(server.url, SHORT).status == 200


def test_image_that_hangs_ends_its_worker_and_loses_nothing(tmp_path):
    model = write_hanging_artifact(tmp_path / "model.onnx")
    with serving(model, WORKERS="1", DEADLINE="2") as server:
        (before,) = server.workers()
        hanging, *others = together(
            partial(post, server.url, BLACK, 60),
            *[lambda: (time.sleep(1), post(server.url, WHITE, 60))[1]] * 3,
            lambda: (time.sleep(1), client.ask(server.url, "/healthz/ready", None, 60))[1],
        )
        assert hanging.status == 503
        assert hanging.seconds < 5
        assert [reply.status for reply in others] == [503, 503, 503, 200]
        wait(lambda: server.ready_workers() not in ([], [before]), 15)
        assert post(server.url, WHITE).status == 200
        assert any("hangs in the model" in line for line in server.log())
        assert "Traceback" not in "\n".join(server.log())


def test_idle_connections_do_not_hold_up_the_end(model):
    with (
        serving(model, WORKERS="1", DEADLINE="60") as server,
        connect(server.url) as kept,
        connect(server.url),  # one that never asked anything
    ):
        kept.sendall(b"GET /healthz/live HTTP/1.1\r\nHost: x\r\n\r\n")
        assert read_answer(kept)[1]["connection"] == "keep-alive"
        code, seconds = server.stop()
    assert code == 0
    assert seconds < 30


def test_worker_that_was_asked_and_answers_is_left_alone(model):
    with serving(model, WORKERS="1") as server:
        (worker,) = server.workers()
        os.kill(worker, signal.SIGABRT)  # what the master asks with
        assert post(server.url, SHORT).status == 200
        time.sleep(1.5)
        assert server.workers() == [worker]


def test_recycled_workers_lose_nothing(model, monkeypatch):
    recycle = "--max-requests 5 --max-requests-jitter 5"
    with serving(model, WORKERS="2", GUNICORN_CMD_ARGS=recycle) as server:
        first = server.workers()
        with Clients(server.url) as clients:
            clients.wait_for(60)
            # A worker ends up to a second after its last image.
            end = time.monotonic() + 20
            while set(first) & set(server.workers()) and time.monotonic() < end:
                time.sleep(0.1)
            assert not set(first) & set(server.workers())
    assert not clients.faults()


def test_stopped_server_answers_what_it_has_accepted(model):
    whole = request_of(body_of(lasting(200)))
    with (
        serving(model, WORKERS="2", DEADLINE="60") as server,
        contextlib.ExitStack() as open_sockets,
    ):
        socks = [open_sockets.enter_context(connect(server.url)) for _ in range(7)]
        for sock in socks[1:]:
            sock.sendall(whole)
        socks[0].sendall(whole[:-9])  # still on its way
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        time.sleep(0.3)
        socks[0].sendall(whole[-9:])
        answers = [read_answer(sock) for sock in socks]
        stopping.join()
        code, _ = server.stop()
    assert [status for status, _, _ in answers] == [200] * 7
    assert code == 0


def test_stopped_server_answers_whom_the_kernel_has_let_in(model):
    with (
        serving(model, WORKERS="1", DEADLINE="60") as server,
        contextlib.ExitStack() as open_sockets,
    ):
        (worker,) = server.workers()
        os.kill(worker, signal.SIGSTOP)  # accepts nobody, and would close first when it goes on
        socks = [open_sockets.enter_context(connect(server.url)) for _ in range(5)]
        for sock in socks:
            sock.sendall(request_of(body_of(SHORT)))
        time.sleep(1.2)
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        time.sleep(0.1)
        with pytest.raises(TimeoutError):
            socket.create_connection(socks[0].getpeername(), timeout=0.1)
        os.kill(worker, signal.SIGCONT)
        answers = [read_answer(sock) for sock in socks]
        stopping.join()
    assert [status for status, _, _ in answers] == [200] * 5


def test_model_swapped_under_a_running_server_is_not_seen_before_a_restart(tmp_path):
    path = write_artifact(tmp_path / "model.onnx", metadata={"name": "old"})

    def model_of(server):
        return client.ask(server.url, "/api").body.partition(b'"model":')[2].partition(b"}")[0]

    with serving(path, WORKERS="1") as server:
        old = model_of(server)
        assert b'"name":"old"' in old
        write_artifact(path, metadata={"name": "new"})
        (before,) = server.workers()
        os.kill(before, signal.SIGKILL)
        wait(lambda: server.workers() not in ([], [before]))
        assert model_of(server) == old
        path.unlink()
        (before,) = server.workers()
        os.kill(before, signal.SIGKILL)
        wait(lambda: server.workers() not in ([], [before]))
        assert model_of(server) == old
        os.kill(server.pid, signal.SIGHUP)
        wait(lambda: len(server.workers()) == 1)
        assert model_of(server) == old
    write_artifact(path, metadata={"name": "new"})
    with serving(path, WORKERS="1") as server:
        assert b'"name":"new"' in model_of(server)

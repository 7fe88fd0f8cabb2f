"""What a roll-out relies on: readiness falls before the socket closes, and no request is lost."""

import itertools
import json
import threading
import time

import pytest

from tests.support.clients import SHORT, Clients
from tests.support.serving import post, serving, wait
from tests.support.slow_model import write_slow_artifact
from tumour_segmenter import client

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_slow_artifact(tmp_path_factory.mktemp("slow") / "model.onnx")


class Balancer(Clients):
    """Clients of several servers; each asks one whose readiness was 200 when it was last probed."""

    def __init__(self) -> None:
        super().__init__("")
        self.urls, self._ready, self._turns = [], [], itertools.count()
        self._probing = threading.Thread(target=self._probe)

    def _probe(self) -> None:
        while not self._stop.is_set():
            self._ready = [url for url in list(self.urls) if readiness(url) == 200]
            time.sleep(0.1)

    def address(self) -> str:
        wait(lambda: self._ready)
        ready = self._ready
        return ready[next(self._turns) % len(ready)]

    def __enter__(self) -> "Balancer":
        self._probing.start()
        return super().__enter__()

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        self._probing.join()


def readiness(url: str) -> int:
    try:
        return client.ask(url, "/healthz/ready", timeout=10).status
    except client.Unanswered:
        return 0


def test_roll_out_under_load_loses_no_request(model):
    settings = {"WORKERS": "1", "DRAIN": "3"}
    with Balancer() as clients, serving(model, **settings) as old:
        clients.urls.append(old.url)
        clients.wait_for(15)
        with serving(model, **settings) as new:
            clients.urls.append(new.url)
            clients.wait_for(15)
            code, seconds = old.stop()
            clients.wait_for(15)
            clients.__exit__()
    assert code == 0
    assert seconds >= 2.5
    assert not clients.faults()


def test_readiness_falls_while_images_are_still_taken(model):
    with serving(model, WORKERS="2", DRAIN="60") as server:
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        wait(lambda: readiness(server.url) == 503)
        assert client.ask(server.url, "/healthz/live").status == 200
        assert (
            json.loads(client.ask(server.url, "/healthz/ready").body)["error"]["code"] == "stopping"
        )
        for _ in range(4):
            assert post(server.url, SHORT).status == 200
        assert stopping.is_alive()
        server.stop()  # asked again, it does not wait any longer
        stopping.join(20)
        assert not stopping.is_alive()

"""The phases of a run against one server: are its answers right, then how fast are they."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from tqdm import tqdm

from benchmarks.asking import load
from benchmarks.asking.load import Load
from benchmarks.asking.model import Served
from benchmarks.asking.question import Question, learn
from benchmarks.host.server import Server
from benchmarks.running.program import WrongAnswer
from benchmarks.timing import check
from benchmarks.timing.windows import Deadline, row, settle
from tumour_segmenter import client
from tumour_segmenter.cpus import available_cpus
from tumour_segmenter.errors import ContractError, UsageError
from tumour_segmenter.phantom import phantom
from tumour_segmenter.png import MAX_PIXELS
from tumour_segmenter.progress import describe
from tumour_segmenter.segmenter import Baseline, Segmenter, open_model
from tumour_segmenter.settings import named_model

HEIGHTS, WIDTH = (426, 489, 991), 400  # the challenge's smallest, most common and largest image
LARGEST = f"{WIDTH}×{HEIGHTS[-1]}"
OVER_SIZE = (MAX_PIXELS // 1000 + 1, 1000)  # height, width
VARIANTS = 4  # images of each size, so that no cache can know the answer


@dataclass(frozen=True)
class Plan:
    """How much is measured; times in seconds."""

    clients: tuple[int, ...]
    window_s: float
    most_windows: int  # repeats until a load settles
    starts: int
    capacity_shares: tuple[float, ...]  # arrival rates, as shares of the measured capacity
    open_s: float
    idle_s: float
    random_sizes: int
    random_s: float  # as many of the random sizes as fit into it
    total_s: float

    def after_closed_s(self) -> float:
        return len(self.capacity_shares) * self.open_s + self.random_s


FULL = Plan((1, 2, 4, 8, 16), 1.5, 4, 3, (0.25, 0.5, 0.8), 5.0, 3.0, 1000, 30.0, 165.0)
QUICK = Plan((1, 4, 16), 0.5, 3, 1, (0.5,), 2.0, 1.0, 100, 4.0, 26.0)


def steps(plan: Plan, own: bool) -> int:
    """How often `measure` moves the progress bar; `own` if it gets a Server."""
    return 2 + len(plan.clients) * len(HEIGHTS) + len(plan.capacity_shares) + 2 * own


def measure(plan: Plan, url: str, server: Server | None, bar: tqdm) -> dict:
    """Everything about the server at `url` that needs no restart, as JSON values.

    `server` is None for one that somebody else started: its process cannot be looked into.
    Raises WrongAnswer.
    """
    deadline = Deadline(plan.total_s)
    describe(bar, "answers")
    model, reference = model_of(url)
    questions = {"1×1": [learn(url, np.full((1, 1), 128, np.uint8), reference)]}
    for height in HEIGHTS:
        questions[f"{WIDTH}×{height}"] = [
            learn(url, phantom(height, WIDTH, seed=seed)[0], reference) for seed in range(VARIANTS)
        ]
    refused = refuses(url)
    bar.update()

    idle = idle_cpu(plan, server, bar) if server else None
    closed, left_out = closed_loads(plan, url, questions, deadline, bar)
    capacity = max(r["images_per_s"] for r in closed if r["size"] == LARGEST)
    arrivals = open_loads(plan, url, questions[LARGEST], capacity, bar)
    memory = memory_after(plan, server, bar) if server else None
    return {
        "model": model,
        "answers": "equal to the model called directly" if reference else "well-formed masks",
        "over_size": refused,
        "closed": closed,
        "open": arrivals,
        "memory": memory,
        "idle_cpu_percent": idle,
        "noisy": [check.named(r) for r in closed if not r["settled"]],
        "left_out": left_out,
    }


def idle_cpu(plan: Plan, server: Server, bar: tqdm) -> float:
    """Percent of one CPU that an idle server uses."""
    describe(bar, "idle")
    time.sleep(0.2)  # let the last answer's threads come to rest
    before, start = server.cpu_seconds(), time.perf_counter()
    time.sleep(plan.idle_s)
    used = (server.cpu_seconds() - before) / (time.perf_counter() - start)
    bar.update()
    return round(100 * used, 2)


def closed_loads(
    plan: Plan, url: str, questions: dict[str, list[Question]], deadline: Deadline, bar: tqdm
) -> tuple[list[dict], list[str]]:
    """(rows, names of loads that were left out) of all sizes by all numbers of clients."""
    # What is judged, a lone client and the most, comes first; a run out of time leaves others out.
    judged = {1, max(plan.clients)}
    order = sorted(plan.clients, key=lambda clients: clients not in judged)
    loads = [("1×1", 1)] + [(size, n) for n in order for size in questions if size != "1×1"]
    rows, left_out = [], []
    for number, (size, clients) in enumerate(loads):
        describe(bar, f"{size}, {clients} at once")
        if clients not in judged and deadline.left() < plan.after_closed_s():
            left_out.append(f"{size}, {clients} clients")
            bar.update()
            continue
        once_each = 2 * plan.window_s * (len(loads) - number - 1) + plan.after_closed_s()
        windows = settle(
            partial(load.closed, url, questions[size], clients, plan.window_s, client.TIMEOUT),
            plan.most_windows,
            spare_s=deadline.left() - once_each,
        )
        rows.append(row(windows, size=size, clients=clients))
        bar.update()
    rows.sort(key=lambda row: row["clients"])
    return rows, left_out


def open_loads(
    plan: Plan, url: str, questions: list[Question], capacity: float, bar: tqdm
) -> list[dict]:
    """Rows for arrivals at the plan's shares of `capacity`, images a second."""
    rows = []
    for share in plan.capacity_shares:
        rate = max(0.1, round(share * capacity, 1))
        describe(bar, f"{LARGEST}, {rate:g} a second")
        window = load.open_loop(url, questions, rate, plan.open_s, client.TIMEOUT)
        rows.append(row([window], size=LARGEST, arrivals_per_s=rate, share=share))
        bar.update()
    return rows


def memory_after(plan: Plan, server: Server, bar: tqdm) -> dict:
    """Memory of each worker after images of random sizes up to the largest, by four clients."""
    describe(bar, "memory")
    random = np.random.default_rng(0)
    whole = phantom(HEIGHTS[-1], WIDTH)[0]

    def crops() -> Iterator[Question]:
        for _ in range(plan.random_sizes):
            height, width = random.integers(1, np.array(whole.shape) + 1)
            yield Question.about(whole[:height, :width])

    with Load(server.url, crops(), 4) as asked:
        asked.wait(plan.random_s)
    bar.update()
    return {
        "images": len(asked.answers),
        "worker_mb": [round(mb, 1) for mb in server.memory_mb()],
        "load": row([asked.window()], size="random sizes", clients=4),
    }


def first_answer(url: str) -> float:
    """Seconds that the first image, one of the largest, takes a server that just got ready."""
    body = client.request_body(phantom(HEIGHTS[-1], WIDTH)[0])
    try:
        return client.ask(url, "/predict", body).seconds
    except client.Unanswered as error:
        raise WrongAnswer(f"first answer: {error}") from error


def model_of(url: str) -> tuple[dict, Segmenter | Baseline | None]:
    """What the server reports of its model, and the same model in this process.

    The latter is None if the settings here name another model, or none that can be opened. A
    server that is not ours and has no /api is called "unknown".
    """
    served = Served.at(url).model
    about = {"name": "unknown", "sha256": None} | served
    if not served:
        return about, None
    try:
        here = open_model(named_model(), available_cpus())
    except UsageError:
        return about, None
    return about, here if here.metadata == served else None


def refuses(url: str) -> dict:
    """Posts an image that is too large: {"status": ..., "ms": ...} of the refusal.

    A server may also answer it with a mask. Raises WrongAnswer if it does neither.
    """
    image = np.full(OVER_SIZE, 255, np.uint8)
    try:
        reply = client.ask(url, "/predict", client.request_body(image))
        if not 400 <= reply.status < 500:
            client.read_mask(reply, OVER_SIZE)
    except (client.Unanswered, ContractError) as error:
        raise WrongAnswer(f"{OVER_SIZE[1]}×{OVER_SIZE[0]}: {error}") from error
    return {"status": reply.status, "ms": round(1000 * reply.seconds, 2)}

"""How fast is the network, and how near to what this CPU can do? `python -m export.speed`

One thread, nothing else running. Times the shipped file in float32, in 8 bits and in torch, turn by
turn in one run; then narrower and finer networks: with `--runs` those that were trained, and their
Dice, the others with random weights. Multiply-adds are those of the convolutions, over the peak
that a matrix product reaches here. Writes artifacts/SPEED.md, speed.json and speed.png. Takes some
5 minutes, and a few more for each run.

Exit codes: 0 written, 2 bad input, 130 interrupted.
"""

import argparse
import itertools
import logging
import platform
import re
import sys
import time
import warnings
from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper
from torch import nn
from tqdm import tqdm

from export import onnx_file, speed_report
from export.graph import PixelsToMask
from export.networks import Network, shipped_module, trained, untrained
from serve.phantom import phantom
from serve.segmenter import ArtifactError, Segmenter
from train import dataset, warm_start
from train.evaluate import Segmentation
from train.files import write_json

HEIGHTS, WIDTH = (426, 489, 991), 400
WIDTHS, RESOLUTIONS = (0.5, 0.75, 1.0), (False, True)
ROUNDS = 40
PEAK_SIZE = 1024


def multiply_adds(module: PixelsToMask, height: int) -> int:
    """Of all convolutions for one image of that height, in all its views."""
    total = 0

    def count(conv: nn.Conv2d, _: tuple, output: torch.Tensor) -> None:
        nonlocal total
        total += output.numel() * conv.weight[0].numel()

    hooks = [m.register_forward_hook(count) for m in module.modules() if isinstance(m, nn.Conv2d)]
    in_torch(module)(phantom(height, WIDTH)[0])
    for hook in hooks:
        hook.remove()
    return total


def in_torch(module: PixelsToMask) -> Callable[[np.ndarray], np.ndarray]:
    def run(pixels: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return module(torch.from_numpy(pixels)).numpy()

    return run


def times(engines: dict[str, Callable], height: int) -> dict[str, list[float]]:
    """Milliseconds of ROUNDS calls of each engine, turn by turn, after one to warm up."""
    images = [phantom(height, WIDTH, seed=seed)[0] for seed in range(4)]
    taken: dict[str, list[float]] = {name: [] for name in engines}
    for number in range(ROUNDS + 1):
        for name, engine in engines.items():
            start = time.perf_counter()
            engine(images[number % len(images)])
            if number:
                taken[name].append(1000 * (time.perf_counter() - start))
    return taken


def peak(eight_bits: bool) -> float:
    """G multiply-adds a second of a square matrix product in onnxruntime, one thread; the best."""
    kind = TensorProto.UINT8 if eight_bits else TensorProto.FLOAT
    weights = np.random.default_rng(0).integers(-127, 127, (PEAK_SIZE, PEAK_SIZE))
    weights = weights.astype(np.int8 if eight_bits else np.float32)
    node = helper.make_node("MatMulInteger" if eight_bits else "MatMul", ["a", "b"], ["c"])
    shape = [PEAK_SIZE, PEAK_SIZE]
    graph = helper.make_graph(
        [node],
        "product",
        [helper.make_tensor_value_info("a", kind, shape)],
        [helper.make_tensor_value_info("c", TensorProto.INT32 if eight_bits else kind, shape)],
        [onnx.numpy_helper.from_array(weights, "b")],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", onnx_file.OPSET)], ir_version=10
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    a = np.abs(weights).astype(np.uint8 if eight_bits else np.float32)
    seconds = []
    for _ in range(10):
        start = time.perf_counter()
        session.run(None, {"a": a})
        seconds.append(time.perf_counter() - start)
    return PEAK_SIZE**3 / min(seconds) / 1e9


def side_by_side(model: Path, module: PixelsToMask) -> list[dict]:
    """Rows of the shipped file and its twin, and of torch, for each of HEIGHTS."""
    engines = {
        "float32": Segmenter.load(model),
        "int8": Segmenter.load(model.with_suffix(".int8.onnx")),
        "torch": in_torch(module),
    }
    peaks = {name: peak(name == "int8") for name in engines}
    rows = []
    for height in tqdm(HEIGHTS, desc="shipped", unit="size", disable=None):
        work = multiply_adds(module, height) / 1e9
        for name, taken in times(engines, height).items():
            p50, p99 = np.percentile(taken, (50, 99))
            share = work / (p50 / 1000) / peaks[name]
            rows.append(
                {
                    "engine": name,
                    "image": f"{WIDTH}×{height}",
                    "p50_ms": round(float(p50), 2),
                    "p99_ms": round(float(p99), 2),
                    "g_multiply_adds": round(work, 3),
                    "peak_g_per_s": round(peaks[name], 1),
                    "share_of_peak": round(float(share), 3),
                }
            )
    return rows


def variants(like: Segmentation, networks: dict[tuple[float, bool], Network]) -> list[dict]:
    """Rows of narrower and finer networks at the largest size, float32 and 8 bits."""
    rows = []
    every = list(itertools.product(WIDTHS, RESOLUTIONS))
    for width, full in tqdm(every, desc="variants", unit="network", disable=None):
        network = networks.get((width, full)) or untrained(width, full, like)
        engines = {
            name: Segmenter.open(file.SerializeToString(), name)
            for name, file in network.files.items()
        }
        work = multiply_adds(network.module, HEIGHTS[-1]) / 1e9
        for name, taken in times(engines, HEIGHTS[-1]).items():
            rows.append(
                {
                    "width": width,
                    "resolution": "full" if full else "half",
                    "engine": name,
                    "parameters": sum(p.numel() for p in network.module.parameters()),
                    "g_multiply_adds": round(work, 3),
                    "p50_ms": round(float(np.median(taken)), 2),
                    "dice": network.dice.get(name),
                    "standard_error": network.standard_error,
                    "patients": network.patients,
                    "epochs": network.epochs,
                }
            )
    return rows


def cpu_name() -> str:
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.M)
    except OSError:
        found = None
    return found[1] if found else platform.processor() or platform.machine()


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m export.speed", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--model", type=Path, default=Path("artifacts/model.onnx"))
    parser.add_argument("--artifacts", type=Path, default=Path("artifacts"), help="to write to")
    parser.add_argument("--runs", type=Path, nargs="+", default=[], help="finished runs of a fold")
    parser.add_argument("--data", type=Path, help="what they were trained on; needed for --runs")
    arguments = parser.parse_args(argv)
    if arguments.runs and not arguments.data:
        parser.error("--runs needs --data")
    warnings.filterwarnings("ignore", module="torch|onnxscript|copyreg")
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    try:
        model = warm_start.read(arguments.model)
        module = shipped_module(model)
        networks = trained(arguments.runs, dataset.load(arguments.data)) if arguments.runs else {}
        shipped = side_by_side(arguments.model, module)
    except (ValueError, ArtifactError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    result = {
        "date": f"{date.today()}",
        "cpu": cpu_name(),
        "onnxruntime": onnxruntime.__version__,
        "torch": torch.__version__,
        "shipped": shipped,
        "variants": variants(module.segmentation, networks),
        "measured": warm_start.facts(model)["dice"],
    }
    write_json(arguments.artifacts / "speed.json", result)
    speed_report.write(result, arguments.artifacts)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""A run's result as files that people read: a Markdown table and a plot, beside the JSON."""

from __future__ import annotations

import re
from pathlib import Path

from benchmarks.host.hostinfo import PACKAGES, hardware
from benchmarks.timing.check import noise
from tumour_segmenter import files
from tumour_segmenter.folders import counted

STAGES = ["decode", "wait", "run", "encode", "rest"]


def write(result: dict, folder: Path) -> list[Path]:
    """Writes the JSON, the table and the plot; returns the paths.

    The files are named after model, hardware and date.
    """
    model = result["model"]
    limit = f"limit{result['cpus']:g}" if result["cpus"] else ""
    checksum = (model["sha256"] or "")[:8]
    parts = [model["name"], checksum, hardware(result["host"]), limit, result["date"]]
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", "-".join(filter(None, parts)))
    json_path, table_path, plot_path = (folder / (name + end) for end in (".json", ".md", ".png"))
    files.write_json(json_path, result)
    files.write(table_path, markdown(result))
    draw(result, plot_path)
    return [json_path, table_path, plot_path]


def markdown(result: dict) -> str:
    """The whole result as Markdown: facts, then a row for each load. Times in milliseconds."""
    host, model = result["host"], result["model"]
    checksum = f", sha256 `{model['sha256'][:12]}`" if model["sha256"] else ""
    lines = [
        f"# Latency of {model['name']}",
        "",
        f"- {result['date']}, commit {host['commit']}{checksum}",
        f"- {host['cpu']} ({', '.join(host['flags'])}), load {host['load_before']} before",
        f"- server: {result['limits']}",
        "- " + ", ".join(f"{name} {host[name]}" for name in ["python", *PACKAGES]),
        f"- answers: {result['answers']}",
        f"- limits: {result['budget_s']:g} s alone, {result['budget_at_once_s']:g} s at once",
    ]
    if start := result["cold_start"]:
        ready = ", ".join(f"{seconds:.2f} s" for seconds in start["ready_s"])
        first = ", ".join(f"{ms:.0f} ms" for ms in start["first_answer_ms"])
        lines.append(f"- cold start: ready after {ready}; first answer {first}")
    over = result["over_size"]
    lines.append(f"- over-size image: status {over['status']} after {over['ms']:.0f} ms")
    if memory := result["memory"]:
        each = ", ".join(f"{mb:.0f} MB" for mb in memory["worker_mb"])
        lines.append(f"- memory of each worker after {memory['images']} random sizes: {each}")
    if result["idle_cpu_percent"] is not None:
        lines.append(f"- CPU when idle: {result['idle_cpu_percent']:.1f} %")
    if reasons := noise(result):
        lines.append(f"- **noisy machine**: {'; '.join(reasons)}")
    if result["left_out"]:
        lines.append(f"- not measured, time was up: {'; '.join(result['left_out'])}")

    header = ["size", "load", "p50", "p90", "p95", "p99", "max", "images/s", *STAGES]
    lines += ["", "Times in ms, stages as medians.", "", line(header)]
    lines.append(line(["---", "---"] + ["--:"] * (len(header) - 2)))
    for row in [*result["closed"], *result["open"]]:
        load = (
            f"{row['arrivals_per_s']:g} arrivals/s"
            if "arrivals_per_s" in row
            else counted(row["clients"], "client")
        )
        times = [row[f"p{q}_ms"] for q in (50, 90, 95, 99)] + [row["max_ms"]]
        stages = [row["stages_ms"].get(stage) for stage in STAGES]
        numbers = [
            "" if value is None else f"{value:.1f}"
            for value in [*times, row["images_per_s"], *stages]
        ]
        lines.append(line([row["size"], load, *numbers]))
    return "\n".join(lines) + "\n"


def line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def draw(result: dict, path: Path) -> None:
    """Latency over clients for each size, and where one image's time goes."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator

    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    by_size: dict[str, list[dict]] = {}
    for row in result["closed"]:
        by_size.setdefault(row["size"], []).append(row)

    for size, measured in by_size.items():
        if len(measured) > 1:
            clients = [row["clients"] for row in measured]
            (drawn,) = left.plot(clients, [row["p50_ms"] for row in measured], "o-", label=size)
            p99 = [row["p99_ms"] for row in measured]
            left.plot(clients, p99, "--", color=drawn.get_color(), linewidth=1)
    for name in ("budget_s", "budget_at_once_s"):
        left.axhline(1000 * result[name], color="grey", linewidth=1)
    left.annotate("budget alone", (1, 1000 * result["budget_s"]), va="bottom", color="grey")
    left.annotate("at once", (1, 1000 * result["budget_at_once_s"]), va="bottom", color="grey")
    left.set(xscale="log", yscale="log", xlabel="clients", ylabel="ms: p50, dashed p99")
    ticks = sorted({row["clients"] for row in result["closed"]})
    left.set_xticks(ticks, [str(tick) for tick in ticks])
    left.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    left.yaxis.set_major_formatter("{x:g}")
    left.minorticks_off()
    if left.get_legend_handles_labels()[0]:
        left.legend()

    alone = [measured[0] for measured in by_size.values()]
    start = [0.0] * len(alone)
    for stage in STAGES:
        widths = [max(0.0, row["stages_ms"].get(stage, 0.0)) for row in alone]
        right.barh([row["size"] for row in alone], widths, left=start, label=stage)
        start = [a + b for a, b in zip(start, widths, strict=True)]
    right.invert_yaxis()
    right.set(xlabel="ms, one client")
    right.legend()
    figure.suptitle(f"{result['model']['name']} on {result['host']['cpu']}, {result['limits']}")
    with files.replacing(path) as partial:
        figure.savefig(partial, dpi=110, format="png")

"""What export.speed measured, to be read and looked at: SPEED.md and speed.png."""

from pathlib import Path

from train.figures import plt
from train.files import replacing

SHIPPED = (1.0, "half")


def write(result: dict, artifacts: Path) -> None:
    """Both files, and the first to the screen."""
    plot(result, artifacts / "speed.png")
    with replacing(artifacts / "SPEED.md") as partial:
        partial.write_text(report(result))
    print(report(result))


def report(result: dict) -> str:
    """SPEED.md"""
    lines = [
        "# Speed of the model",
        "",
        f"Written by `python -m export.speed`, {result['date']}, on one core of {result['cpu']}, "
        f"onnxruntime {result['onnxruntime']}, torch {result['torch']}. Pixels to mask, "
        "without PNG and HTTP. The peak is that of a matrix product of the same kind in "
        "onnxruntime (torch: float32).",
        "",
        "## The shipped file",
        "",
        "| engine | image | p50 ms | p99 ms | G multiply-adds | peak, G a second | share of peak |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for row in result["shipped"]:
        lines.append(
            f"| {row['engine']} | {row['image']} | {row['p50_ms']:.1f} "
            f"| {row['p99_ms']:.1f} | {row['g_multiply_adds']:.2f} | {row['peak_g_per_s']:.0f} "
            f"| {row['share_of_peak']:.0%} |"
        )
    lines += [
        "",
        f"## Accuracy and speed, {result['shipped'][-1]['image']}",
        "",
        "Dice: mean of held-out patients ([EXPERIMENTS.md](EXPERIMENTS.md)) after that many epochs "
        "from scratch; networks without have random weights: only their speed is known. "
        f"The shipped weights were trained for longer: {result['measured']}.",
        "",
        "| width | resolution | engine | parameters | G multiply-adds | p50 ms "
        "| Dice ± standard error | patients | epochs |",
        "|---:|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in result["variants"]:
        trained = row["dice"] is not None
        dice = f"{row['dice']:.4f} ± {row['standard_error']:.4f}" if trained else ""
        lines.append(
            f"| {row['width']:g} | {row['resolution']} | {row['engine']} | {row['parameters']:,} "
            f"| {row['g_multiply_adds']:.2f} | {row['p50_ms']:.1f} | {dice} "
            f"| {row['patients'] or ''} | {row['epochs'] or ''} |"
        )
    return "\n".join([*lines, "", "![Dice and multiply-adds against milliseconds](speed.png)", ""])


def plot(result: dict, out: Path) -> None:
    """Dice, and multiply-adds, against milliseconds; the shipped network is ringed."""
    image = result["shipped"][-1]["image"]
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    # The engines' points lie close together: one's labels are right of them, the other's left.
    for engine, marker, place in (
        ("float32", "o", {"xytext": (4, 8), "ha": "left"}),
        ("int8", "s", {"xytext": (-9, -3), "ha": "right"}),
    ):
        those = [row for row in result["variants"] if row["engine"] == engine]
        known = [row for row in those if row["dice"] is not None]
        for axes, key, group in ((left, "dice", known), (right, "g_multiply_adds", those)):
            axes.plot([r["p50_ms"] for r in group], [r[key] for r in group], marker, label=engine)
            for row in group:
                point = (row["p50_ms"], row[key])
                label = f"{row['width']:g} {row['resolution']}"
                axes.annotate(label, point, textcoords="offset points", fontsize=7, **place)
                if (row["width"], row["resolution"]) == SHIPPED:
                    axes.plot(*point, "o", markersize=14, fillstyle="none", color="tab:red")
    for row in result["variants"]:
        if row["dice"] is not None:
            bar = [row["dice"] - row["standard_error"], row["dice"] + row["standard_error"]]
            left.plot([row["p50_ms"]] * 2, bar, color="0.8", zorder=0)
    left.set(ylabel="mean Dice ± standard error, equal training")
    right.set(ylabel="G multiply-adds")
    right.margins(y=0.12)
    for axes in (left, right):
        axes.set_xscale("log", base=2)
        axes.margins(x=0.2)
        axes.set_xlabel(f"ms for {image}, one core; ringed: shipped")
        axes.xaxis.set_major_formatter("{x:g}")
        axes.legend()
        axes.grid(alpha=0.3)
    with replacing(out) as partial:
        figure.savefig(partial, dpi=100)
    plt.close(figure)

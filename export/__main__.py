"""Export a run: `python -m export --run runs/NAME --out artifacts/model.onnx`.

Or give an exported file another decision (calibration, least probability) without training:
`python -m export --model artifacts/model.onnx --decision mine.json --data DIR --out mine.onnx`.

Writes the ONNX file, its .sha256, what the gate printed (.parity.md) and the folds (.folds.json).
With --data also its 8-bit twin (model.int8.onnx), calibrated on people the run was trained on and
judged on the patients it held out. Exit codes: 0 written, 1 a gate refused, 2 bad input.
"""

import argparse
import json
import logging
import sys
import warnings
from pathlib import Path

import onnx

from export import int8, onnx_file, shipped
from export.graph import PixelsToMask
from export.run import describe, facts_of, load_decision, load_run
from serve.phantom import phantom
from train import dataset, warm_start
from train.files import replacing


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m export", description=__doc__.split("\n")[0])
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--run", type=Path, help="folder of a finished run")
    source.add_argument(
        "--model", type=Path, help="an exported file, to be given another --decision"
    )
    parser.add_argument("--out", type=Path, default=Path("artifacts/model.onnx"))
    parser.add_argument("--data", type=Path, help="the challenge's folders: make the 8-bit twin")
    parser.add_argument(
        "--decision",
        type=Path,
        help="scales at which images are seen, calibration and least probability; default: "
        "decision.json of the run, chosen on the patients it held out",
    )
    return parser


def _checked_float32(module: PixelsToMask, metadata: dict[str, str]) -> tuple[onnx.ModelProto, str]:
    """The graph and the table of its gate. Raises ExportError."""
    model = onnx_file.to_onnx(module)
    onnx_file.stamp(model, metadata)
    rows = onnx_file.compare(model, module)
    table = onnx_file.parity_table(rows)
    print(table)
    if fault := onnx_file.fault(rows):
        raise onnx_file.ExportError(fault)
    return model, f"# torch against onnxruntime, pixel by pixel\n\n{table}"


def _checked_int8(
    model: onnx.ModelProto, cases: list[dataset.Case], held_out: set[str], metadata: dict[str, str]
) -> tuple[onnx.ModelProto, str]:
    """The 8-bit graph and the table of its gate. Raises ExportError."""
    quantised = int8.quantise(model, int8.calibration_images(cases, held_out))
    facts = {
        "name": metadata["name"] + shipped.INT8_SUFFIX,
        "canary_tumour_pixels": str(int8.tumour_pixels(quantised, phantom()[0])),
    }
    onnx_file.stamp(quantised, metadata | facts)
    judged = [c for c in cases if c.is_patient and (c.name in held_out or not held_out)]
    agreement = int8.compare(model, quantised, judged)
    table = int8.agreement_table(agreement)
    print(table)
    if fault := int8.fault(agreement):
        raise onnx_file.ExportError(fault)
    return quantised, f"# float32 against int8\n\n{table}"


def main(argv: list[str] | None = None) -> int:
    parser = _parser()
    arguments = parser.parse_args(argv)
    # What the exporter says of itself (deprecations, no torchvision) is no news to who exports.
    warnings.filterwarnings("ignore", module="torch|onnxscript|copyreg")
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    if arguments.model and not (arguments.decision and arguments.data):
        parser.error("--model needs --decision and --data")
    try:
        cases = dataset.load(arguments.data) if arguments.data else []
        if arguments.model:
            model = warm_start.read(arguments.model)
            segmentation, facts = shipped.segmentation_of(model), shipped.facts_of_run(model)
            folds, fold = shipped.folds_of(arguments.model, cases)
        else:
            segmentation, config, folds = load_run(arguments.run)
            facts, fold = facts_of(config, folds), config.fold
            if cases and dataset.fingerprint(cases) != folds["data"]:
                raise ValueError(f"{arguments.data}: not the data that the run was trained on")
        decision, view_scales, measured = load_decision(
            arguments.decision or arguments.run / "decision.json", segmentation.view_scales
        )
        segmentation.view_scales = view_scales
        module = PixelsToMask(segmentation, decision).eval()
        metadata = describe(facts, fold, module, measured)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    held_out = {name for name, dealt in folds["folds"].items() if dealt == fold}
    try:
        models = [_checked_float32(module, metadata)]
        if cases:
            models.append(_checked_int8(models[0][0], cases, held_out, metadata))
    except onnx_file.ExportError as error:
        print(f"error: {error}; nothing was written", file=sys.stderr)
        return 1
    told = "".join(f"- {key}: {value}\n" for key, value in metadata.items())
    report = ""
    for (model, table), suffix in zip(models, (".onnx", ".int8.onnx"), strict=False):
        out = arguments.out.with_suffix(suffix)
        digest = onnx_file.write(model, out)
        print(f"{out}: {out.stat().st_size / 2**20:.1f} MiB, sha256 {digest}")
        report += f"{table}\n- file: {out.name}, sha256 {digest}\n\n"
    for suffix, text in (
        (".parity.md", f"{report}{told}"),
        (".folds.json", json.dumps(folds, indent=1) + "\n"),
    ):
        with replacing(arguments.out.with_suffix(suffix)) as partial:
            partial.write_text(text)
    print(told, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Weights -> one checked INT8 ONNX file that the server serves.

    python -m export --weights artifacts/weights --operating-points artifacts/out_of_fold.json \\
        --data DIR --out artifacts/model.onnx

Several weights make an ensemble. Operating points come from a file of train.out_of_fold; without
one they are fitted on the images of --data that the networks were not trained on. Without --data
the INT8 ranges are measured on phantoms. Writes the file and its .sha256, only if the check passes.
Exit codes: 0 written, 1 the check failed or a file could not be written, 2 bad input,
130 interrupted.
"""

import argparse
import hashlib
import logging
import os
import sys
import warnings
from pathlib import Path

from train import cli
from tumour_segmenter import files
from tumour_segmenter.errors import UsageError

SUFFIX = ".onnx"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m export", description=__doc__.split("\n")[0])
    cli.add_weights(parser)
    points = "calibration and operating points, as python -m train.out_of_fold writes them"
    parser.add_argument("--operating-points", type=Path, metavar="FILE", help=points)
    parser.add_argument("--operating-point", metavar="NAME", help="the default one, if not FILE's")
    parser.add_argument("--data", type=Path, help="folder of patients and controls")
    parser.add_argument("--out", type=Path, help="file to write (default: beside the weights)")
    return parser


def _out(arguments: argparse.Namespace, weights: list[Path]) -> Path:
    """The file to write; raises UsageError where that is a folder, or no file name."""
    out = arguments.out or Path(os.path.commonpath([path.parent for path in weights]), "model")
    if out.name in ("", "..") or out.is_dir():
        raise UsageError(f"{out} is a folder; give --out a file, e.g. {out / 'model.onnx'}")
    return out if out.suffix == SUFFIX else out.with_name(out.name + SUFFIX)


def _run(arguments: argparse.Namespace) -> int:
    # Here, so that --help and a wrong option need no torch.
    import numpy as np

    from export import check, describe, graph, int8
    from train import dataset
    from train.members import load_members
    from train.segmentation import ensemble
    from tumour_segmenter.phantom import phantom

    members = load_members(arguments.weights)
    read = [member.path for member in members]
    out = _out(arguments, read)
    read += filter(None, [arguments.operating_points])
    checksum = out.with_name(f"{out.name}.sha256")
    files.check_outputs(read, [out, checksum])
    cases = dataset.load(arguments.data) if arguments.data else []
    points = describe.operating_points(arguments.operating_points, members, cases)
    name = points.choose(arguments.operating_point)
    point = points.named(name)

    # One network is what its out-of-fold figures are of; several average their luck.
    one_view = len(members) > 1
    segmentation = ensemble([member.weights for member in members], one_view)
    passes = sum(map(len, segmentation.views))
    print(f"networks: {len(members)}, passes: {passes}; operating point {name}")
    module = graph.PixelsToMask(segmentation, points.calibration).eval()
    # Deprecations within the exporter are no news to who exports.
    warnings.filterwarnings("ignore", module="torch|onnxscript|copyreg")
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    logging.getLogger().setLevel(logging.ERROR)
    plain = graph.to_onnx(module)
    images, source = int8.images(describe.trained_on(members, cases))
    print(f"traced; INT8 ranges are measured on {source}", flush=True)
    quantised = int8.quantise(plain, images)
    both = [graph.finish(model, point, {}) for model in (plain, quantised)]
    rows = check.compare(module, point, *both)
    print(*rows, sep="\n")
    check.judge(rows)
    metadata = describe.metadata(members, passes, points, name, source)
    if cases:
        agreement = check.on_patients(*both, cases)
        print(f"Dice {agreement}")
        metadata["int8_agreement"] = agreement
    # A server tries the phantom when it starts.
    canary, _ = check.run(check.open_session(both[1]), phantom()[0])
    metadata["canary_tumour_pixels"] = str(np.count_nonzero(canary))
    content = graph.finish(quantised, point, metadata).SerializeToString()
    digest = hashlib.sha256(content).hexdigest()
    out.parent.mkdir(parents=True, exist_ok=True)
    # A server refuses the one without the other.
    files.write_together({out: content, checksum: f"{digest}  {out.name}\n"})
    print(f"check passed: {out}, {len(content) / 1e6:.1f} MB, sha256 {digest}")
    print(f"Dice {metadata['dice']}")
    print(f"serve it: MODEL={out} {sys.executable} -m tumour_segmenter serve")
    return 0


def main(argv: list[str] | None = None) -> int:
    try:
        return cli.exit_code(lambda: _run(_parser().parse_args(argv)))
    except RuntimeError as error:  # export.graph.ExportError, which cannot be imported so early
        print(f"check failed: {error}; nothing was written", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())

"""Who may import whom: everything the library, `export -> train`, nothing else; no circles."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ARROWS = {
    "tumour_segmenter": set(),
    "serve": {"tumour_segmenter"},
    "scan": {"tumour_segmenter"},
    "train": {"tumour_segmenter"},
    "export": {"tumour_segmenter", "train"},
    "benchmarks": {"tumour_segmenter"},
    "deploy": {"tumour_segmenter"},
}
INSTALLED_INSIDE = {"serve", "scan"}
HEAVY = {"torch", "onnx", "onnxscript", "pydicom", "pyarrow", "ray", "scipy", "matplotlib"}
WEB = {"flask", "gunicorn", "gevent", "werkzeug"}
FOLDERS = [name for name in ARROWS if (ROOT / name).is_dir()]


def files_of(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path, modules: set[str]) -> set[str]:
    """What of ours a file imports, also inside its functions or for types only, as module names."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level:  # what is installed inside of the library, by another name
                assert module_of(path).split(".")[0] in INSTALLED_INSIDE, path
                package = ".".join(path.relative_to(ROOT).parents[node.level - 1].parts)
                module = f"{package}.{module}".rstrip(".")
            names = [f"{module}.{alias.name}" for alias in node.names]
            names = [name if name in modules else module for name in names]
        else:
            continue
        found |= {name for name in names if name.split(".")[0] in ARROWS}
    return found


@pytest.fixture(scope="module")
def graph() -> dict[str, set[str]]:
    """Module -> modules of ours that it imports."""
    paths = {module_of(path): path for folder in FOLDERS for path in files_of(folder)}
    return {name: imports(path, set(paths)) for name, path in paths.items()}


@pytest.mark.parametrize("folder", FOLDERS)
def test_arrows_between_folders(graph: dict[str, set[str]], folder: str) -> None:
    allowed = ARROWS[folder] | {folder}
    wrong = {
        f"{name} -> {other}"
        for name, others in graph.items()
        if name.split(".")[0] == folder
        for other in others
        if other.split(".")[0] not in allowed
    }
    assert wrong == set()


def test_no_circle_of_modules(graph: dict[str, set[str]]) -> None:
    # A package's own __init__ is loaded before each of its modules, which is no circle yet.
    edges = {name: others - {name} for name, others in graph.items()}
    try:
        TopologicalSorter(edges).prepare()
    except CycleError as error:
        pytest.fail(f"circle: {' <- '.join(error.args[1])}")


def loaded_by(module: str) -> set[str]:
    """The packages that a new process has after importing `module`."""
    code = f"import sys, {module}; print(*{{name.split('.')[0] for name in sys.modules}})"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return set(run.stdout.split())


def test_serving_loads_nothing_that_only_others_need() -> None:
    assert loaded_by("serve.app") & (HEAVY | set(ARROWS)) == {"serve", "tumour_segmenter"}


@pytest.mark.parametrize("module", ["tumour_segmenter.cli.main", "tumour_segmenter"])
def test_the_library_loads_no_other_room_and_no_web_framework(module: str) -> None:
    assert loaded_by(module) & (HEAVY | WEB | set(ARROWS)) == {"tumour_segmenter"}


@pytest.mark.parametrize("module", ["scorer", "latency", "chaos", "soak"])
def test_measuring_loads_nothing_that_trains(module: str) -> None:
    loaded = loaded_by(f"benchmarks.{module}")
    assert loaded & {"torch", "onnx", "pydicom", "ray", "train", "export", "scan"} == set()


WRITERS = {"write_text", "write_bytes", "savefig", "imsave", "savez", "savez_compressed", "copy"}
WRITERS |= {"copyfile", "copytree", "move", "rename", "replace", "symlink_to", "touch"}
# Written without a rename, and why that is no half a file for anyone.
IN_PLACE = {
    "tumour_segmenter/command.py": "nowhere (os.devnull), in place of an output that is closed",
    "deploy/ray/predict.py": "a copy of the model in a temporary folder",
    "benchmarks/host/limits.py": "settings of a control group of the kernel",
    "scan/work.py": "a series' folder is made beside, then renamed as a whole",
    "benchmarks/scaling.py": "images in a temporary folder, 100,000 of them",
    "train/crossval.py": "the log of a run, which grows while it trains",
    "export/int8.py": "a temporary folder that the quantiser reads",
}


def writes(path: Path) -> set[int]:
    """Lines that write a file, apart from those within a `with replacing(...)`."""
    found, tree = set(), ast.parse(path.read_text(encoding="utf-8"))
    memory = {
        target.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        and isinstance(node.value, ast.Call)
        and named(node.value) == "BytesIO"
        for target in node.targets
        if isinstance(target, ast.Name)
    }

    def visit(node: ast.AST, safe: bool) -> None:
        nonlocal found
        if isinstance(node, ast.With):
            calls = [item.context_expr for item in node.items]
            safe |= any(isinstance(call, ast.Call) and named(call) == "replacing" for call in calls)
        if isinstance(node, ast.Call) and not safe and is_writing(node):
            given = {argument.id for argument in node.args if isinstance(argument, ast.Name)}
            found |= set() if given & memory else {node.lineno}
        for child in ast.iter_child_nodes(node):
            visit(child, safe)

    visit(tree, False)
    return found


def named(call: ast.Call) -> str:
    return getattr(call.func, "attr", getattr(call.func, "id", ""))


def is_writing(call: ast.Call) -> bool:
    name, owner = named(call), getattr(getattr(call.func, "value", None), "id", "")
    if name == "open":
        given = [*call.args, *(word.value for word in call.keywords if word.arg == "mode")]
        modes = [value.value for value in given if isinstance(value, ast.Constant)]
        return any(re.fullmatch(r"[rwxabt+]*[wxa+][bt+]*", str(mode)) for mode in modes)
    if name == "save":  # of a library into a file; an image into memory is none
        return owner in ("torch", "onnx", "np", "numpy")
    if name in ("copy", "replace", "move", "rename"):  # of files, not of text and arrays
        return owner in ("os", "shutil") or "path" in owner or owner in ("part", "partial")
    return name in WRITERS


def test_only_one_file_writes_files() -> None:
    found = {
        f"{path.relative_to(ROOT)}:{line}"
        for folder in FOLDERS
        for path in files_of(folder)
        if path != ROOT / "tumour_segmenter/files.py"
        and str(path.relative_to(ROOT)) not in IN_PLACE
        for line in writes(path)
    }
    assert found == set(), "write by tumour_segmenter.files, which never leaves half a file"


def test_writing_is_recognised(tmp_path: Path) -> None:
    """A rule that nothing can break is none."""
    source = tmp_path / "source.py"
    for text in (
        "path.write_text(x)",
        "open(path, 'w')",
        "path.open('ab')",
        "open(path, mode='x+')",
        "torch.save(x, path)",
        "os.replace(a, b)",
        "image = BytesIO()\nfigure.savefig(path)",
        "with other(path) as p:\n    p.write_bytes(x)",
    ):
        source.write_text(text)
        assert len(writes(source)) == 1, text
    for text in (
        "open(path)",
        "path.open('rb')",
        "text.replace('a', 'w')",
        "image.save(memory, 'PNG')",
        "array.copy()",
        "image = io.BytesIO()\nfigure.savefig(image)",
        "with files.replacing(path) as p:\n    p.write_bytes(x)",
    ):
        source.write_text(text)
        assert writes(source) == set(), text

"""What the documents say is so: their examples run, their tables and commands exist."""

import functools
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tumour_segmenter
from serve.page import EXAMPLES as PHANTOMS
from serve.settings import VARIABLES
from tests.conftest import PROJECT, SHIPPED
from tests.project.test_architecture import ARROWS
from tests.support.documents import DOCUMENTS, blocks, inline
from tumour_segmenter.contract import decode_png
from tumour_segmenter.phantom import phantom
from tumour_segmenter.segmenter import Baseline

README = PROJECT / "README.md"
DOCS = PROJECT / "docs"
API = (DOCS / "api.md").read_text()
OPERATIONS = (DOCS / "operations.md").read_text()
WAYS = ("challenge.md", "deployment.md", "own-scans.md")  # one page for each kind of reader
WORDS_OF_A_WAY, WORDS_OF_ALL = 600, 8500

# Language of a code block -> how to run it.
RUNNERS = {
    "sh": ["bash", "-euo", "pipefail", "-c"],
    "python": [sys.executable, "-c"],
    "javascript": ["node", "--input-type=module", "-e"],
}
EXAMPLES = [*blocks(DOCS / "api.md", *RUNNERS), *blocks(README, "python")]
BLOCKS = [
    pytest.param(block.language, block.code, id=f"{block.language}-{number}")
    for number, block in enumerate(EXAMPLES)
]


# The API


@pytest.mark.parametrize(("language", "code"), BLOCKS)
def test_example_of_the_api_runs(live_server, tmp_path, language, code):
    program = RUNNERS[language][0]
    if not shutil.which(program) or ("curl " in code and not shutil.which("curl")):
        pytest.skip(f"needs {program}, and curl where it is used")
    pixels, _ = phantom(**PHANTOMS[0])
    if "examples/1.png" not in code:
        url = f"{live_server}/examples/1.png"
        code_before = f"import urllib.request as u; u.urlretrieve({url!r}, 'scan.png')"
        subprocess.run([sys.executable, "-c", code_before], cwd=tmp_path, check=True)
    code = code.replace("http://127.0.0.1:8000", live_server)
    run = subprocess.run(
        [*RUNNERS[language], code],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == 0, run.stderr
    if "mask.png" in code:
        mask = decode_png((tmp_path / "mask.png").read_bytes())
        np.testing.assert_array_equal(mask, Baseline()(pixels))
    elif "scan.png" in code:
        np.testing.assert_array_equal(decode_png((tmp_path / "scan.png").read_bytes()), pixels)
    else:
        answers = json.loads("[" + run.stdout.replace("}\n{", "}, {") + "]")
        assert all(answers)
        assert len(answers) == code.count("curl ")


def test_api_has_an_example_in_each_language():
    assert {block.values[0] for block in BLOCKS} == set(RUNNERS)


def test_every_path_and_status_of_the_description_is_explained():
    description = json.loads((PROJECT / "serve" / "openapi.json").read_text())
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            assert f"{method.upper()} {path}" in API
            for status in operation["responses"]:
                assert status == "200" or re.search(rf"^- [\d, ]*{status}\b", API, re.M)


def test_every_code_of_an_error_is_explained():
    rooms = (PROJECT / "tumour_segmenter", PROJECT / "serve")
    source = "".join(path.read_text() for room in rooms for path in room.glob("*.py"))
    codes = set(re.findall(r'ContractError\(\s*"(\w+)"', source))
    codes |= set(re.findall(r'(?<!: )[45]\d\d, "(\w+)"', source))
    codes |= set(re.findall(r'api_code = "(\w+)"', source))
    rows = re.findall(r"^- \d{3}[\d, ]* (`.*?`):", API, re.M)
    explained = {code for row in rows for code in re.findall(r"`(\w+)`", row)}
    assert {"broken_png", "overloaded", "uri_too_long"} <= codes
    assert codes - explained == {"bad_answer", "bad_mask"}  # of answers, never in one


# Settings, commands, links, versions


def settings_table() -> str:
    rows = ["| variable | default | what it is |", "|---|---|---|"]
    for variable in VARIABLES:
        default = f"`{variable.default}`" if variable.default else ""
        rows.append(f"| `{variable.name}` | {default} | {variable.help} |")
    return "\n".join(rows)


def test_every_setting_is_listed():
    table = re.search(r"<!-- settings -->\n+(.*?)\n+<!-- /settings -->", OPERATIONS, re.S)
    assert table, "operations.md has no <!-- settings --> ... <!-- /settings -->"
    assert table[1] == settings_table()


def lines_of_code(document: Path) -> list[str]:
    """Return each command of a document, also those within sentences."""
    code = "\n".join(block.code for block in blocks(document, "sh")).replace("\\\n", " ")
    return [*code.splitlines(), *inline(document)]


def test_commands_of_make_exist():
    makefile = (PROJECT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.M))
    known = set(re.findall(r"^([A-Z]+) \?=", makefile, re.M))
    named, given = set(), set()
    for document in DOCUMENTS:
        for line in lines_of_code(document):
            for target, rest in re.findall(r"(?:^|[;&(] *|=\S+ )make ([a-z-]+)([^;&)]*)", line):
                named.add((document.name, target))
                given |= {(document.name, name) for name in re.findall(r"\b([A-Z]+)=", rest)}
    assert len(named) > 10
    assert {(name, target) for name, target in named if target not in targets} == set()
    assert {(name, variable) for name, variable in given if variable not in known} == set()


def test_settings_before_commands_exist():
    given = {
        (document.name, name)
        for document in DOCUMENTS
        for line in lines_of_code(document)
        for before in re.findall(r"^(.*?)make serve", line)
        for name in re.findall(r"\b([A-Z_]+)=", before)
    }
    known = {variable.name for variable in VARIABLES}
    assert ("challenge.md", "MODEL") in given
    assert {(page, name) for page, name in given if name not in known} == set()


ROOMS = "tumour_segmenter|serve|scan|train|export"
SUBCOMMANDS = ("predict", "merge", "serve")


def commands() -> list[tuple[str, ...]]:
    """Return program and options of each command of ours in a document: -m module or a script."""
    found = set()
    for document in DOCUMENTS:
        for line in lines_of_code(document):
            match = re.search(rf"python3? (-m (?:{ROOMS})\S*|benchmarks/\S+\.py)(.*)", line)
            if match:
                rest = match[2].split()
                program = [*match[1].split(), *(name for name in rest[:1] if name in SUBCOMMANDS)]
                options = [word for word in rest if word.startswith("--")]
                found.add((*program, "--help", *sorted(set(options) - {"--help"})))
    return sorted(found)


@functools.cache  # some take seconds, for they load PyTorch
def help_of(program: tuple[str, ...]) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *program, "--help"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        env=os.environ | {"COLUMNS": "200"},
    )


@pytest.mark.slow
@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_commands_of_python_know_their_options(command):
    at = command.index("--help")
    run = help_of(command[:at])
    if missing := re.search(r"No module named '((?:torch|onnx)\w*)'", run.stderr):
        pytest.skip(f"needs {missing[1]}")
    assert run.returncode == 0, run.stderr
    for option in command[at + 1 :]:
        assert re.search(rf"{option}\b", run.stdout)


def anchors(document: Path) -> set[str]:
    """Return what a link may name of a Markdown file: its headings as GitHub spells them."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_and_named_files_exist(document):
    text = document.read_text()
    for target, anchor in re.findall(r"\]\(([^)#]*)#?([^)]*)\)", text):
        if not target.startswith(("http://", "https://")):
            path = document.parent / target if target else document
            assert path.exists(), target
            assert not anchor or anchor in anchors(path), f"{target}#{anchor}"
    for name in inline(document):
        if re.fullmatch(rf"({ROOMS}|benchmarks|tests|docs)/[\w/]+\.\w+", name):
            assert (PROJECT / name).exists(), name


def test_files_that_commands_name_exist():
    named = {
        name.rstrip(".")
        for document in DOCUMENTS
        if document.name != "CHANGELOG.md"  # names what is gone
        for line in lines_of_code(document)
        for name in re.findall(r"(?<![\w/.-])((?:artifacts|benchmarks|deploy)/[\w/.-]+)", line)
    }
    assert "deploy/kubernetes/public" in named
    assert {name for name in named if not (PROJECT / name).exists()} == set()


def test_map_of_the_house_names_every_room_and_what_it_may_import():
    text = (PROJECT / "CONTRIBUTING.md").read_text()
    rooms = dict(re.findall(r"^- `(\w+)/` \((.*?)\):", text, re.M))
    for room, others in ARROWS.items():
        names = {"tumour_segmenter" if name == "library" else name for name in others}
        said = rooms[room].replace("library", "tumour_segmenter")
        assert said == (", ".join(sorted(names, reverse=True)) or "nothing"), room


def test_figures_of_the_readme_are_those_measured():
    measured = json.loads((PROJECT / "artifacts" / "out_of_fold.json").read_text())
    point = measured["operating_points"][measured["operating_point"]]
    dice = np.mean(
        [of["dice"][measured["operating_point"]] for of in measured["patients"].values()]
    )
    text = README.read_text()
    out_of_fold = f"{dice:.3f} ± {point['dice_standard_error']:.3f} | {point['specificity']:.0%}"
    assert f"| {out_of_fold.replace('%', ' %')} |" in text
    locked = json.loads((PROJECT / "artifacts" / "locked_test_set.json").read_text())
    for of in locked["operating_points"].values():
        low, high = (f"{end:.3f}" for end in of["interval"])
        row = rf"\b{of['dice']}\b.*{low} to {high}\) \| {100 * of['specificity']:.0f} % \|"
        assert re.search(row, text)


def words(document: Path) -> int:
    """Count words as wc does."""
    return len(document.read_text().split())


@pytest.mark.parametrize("name", WAYS)
def test_way_of_each_reader_is_short(name):
    assert words(DOCS / name) <= WORDS_OF_A_WAY


def test_all_documents_together_are_short():
    assert sum(map(words, DOCUMENTS)) <= WORDS_OF_ALL


def test_version_is_the_same_everywhere(client):
    changelog = (PROJECT / "CHANGELOG.md").read_text()
    assert re.search(r"^## (\d\S*)", changelog, re.M)[1] == tumour_segmenter.__version__
    assert client.get("/api").json["version"] == tumour_segmenter.__version__
    assert client.get("/openapi.json").json["info"]["version"] == tumour_segmenter.__version__
    command = [sys.executable, "-m", "tumour_segmenter", "--version"]
    assert (
        subprocess.check_output(command, cwd=PROJECT, text=True).strip()
        == tumour_segmenter.__version__
    )


def test_model_card_is_of_the_shipped_file():
    import onnx

    properties = {p.key: p.value for p in onnx.load(SHIPPED).metadata_props}
    assert properties["version"] == tumour_segmenter.__version__
    card = (PROJECT / "artifacts/MODEL_CARD.md").read_text()
    assert card.startswith(f"# Model card: tumour segmenter {tumour_segmenter.__version__}\n")


def test_service_of_systemd_runs_the_command_of_the_container():
    unit = (PROJECT / "deploy" / "segmenter.service").read_text()
    (command,) = re.findall(r"ExecStart=(.*)", unit)
    folder = re.search(r"WorkingDirectory=(.*)", unit)[1]
    assert command == f"{folder}/.venv/bin/gunicorn serve.app:app"
    dockerfile = (PROJECT / "Dockerfile").read_text()
    assert (
        json.loads(re.search(r"^CMD (.*)$", dockerfile, re.M)[1])
        == command.split("bin/")[1].split()
    )
    variables = set(re.findall(r"^ *([A-Z_]+)=", unit, re.M))
    assert variables <= {variable.name for variable in VARIABLES}

"""The shape of the package: who may import whom, how large pieces may grow, what nothing may contain."""

from __future__ import annotations

import ast
import enum
import importlib
import inspect
import re
import statistics
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import is_dataclass
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from unplateau.checks.check import HEADINGS
from unplateau.diagnosis.diagnose import CHECKS

ROOT = Path(__file__).resolve().parents[1]
SRC = ROOT / "src" / "unplateau"
FILES = sorted(SRC.rglob("*.py"))

DATA = {"data", "types", "errors"}
EXTRACTORS, DECODERS = {"extractors", "types", "errors"}, {"decoders", "types", "errors"}
REPORT = {"reports", "types", "errors", "files"}
BELOW = {"types", "errors", "files", "progress", "measures", "data", "extractors", "decoders", "model"}
ASKED = {"training", "experiments", "checks", "diagnosis"}
ALL = {*BELOW, *ASKED, "pretraining", "upgrades", "scenes", "reports", "_version", "api", "story"}

MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "types": set(),
    "_version": set(),
    "__init__": set(),
    "progress": set(),
    "callbacks": set(),
    "files": {"errors"},
    "measures": {"types", "errors", "measures"},
    "data": {*DATA, "measures"},
    "extractors": EXTRACTORS,
    "decoders": DECODERS,
    "model": {"extractors.base", "decoders.base", "types", "errors"},
    "training": {*BELOW - {"progress"}, "training"},
    "pretraining": {*BELOW - {"progress"}, "training", "pretraining"},
    "experiments": {*BELOW, "training", "experiments"},
    "checks": {*BELOW, "training", "experiments", "checks"},
    "diagnosis": {*BELOW, *ASKED},
    "upgrades": {*BELOW, "training", "pretraining", "experiments", "scenes", "upgrades"},
    "scenes": {"scenes", "types", "errors", "files"},
    "reports": REPORT,
    "verbs": {*ALL - {"story", "api"}, "verbs"},
    "api": {"verbs"},
    "story": ALL,
    "commands": {"api", "commands", "story", "errors", "progress", "reports"},
    "cli": {"commands", "errors", "files"},
    "__main__": {"cli"},
}
"""What each folder or file at the top may import of ours; a whole folder, or one module of it."""

WITHOUT_TORCH = ("types", "errors", "files", "measures", "reports", "scenes", "progress", "commands", "cli")

MOST_LINES, MOST_FUNCTION_LINES, MOST_MEDIAN = 400, 60, 10
MOST_ARGUMENTS, MOST_ARGUMENTS_OF_A_VERB, MOST_NAMES = 11, 18, 15

OPEN_ARGUMENTS = {
    "training/finetune.py:configure_gradient_clipping": "Lightning's hook, which has more arguments than it needs",
    "training/transformers_plateau.py:on_evaluate": "transformers' hook, which is called with more than it needs",
    "reports/canvas.py:axes": "goes straight to matplotlib",
}
"""Functions that may take **: none hands them to a class of ours."""


# ---- reading the source --------------------------------------------------------------------------------------


@cache
def tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text())


def said(file: Path) -> str:
    return file.relative_to(SRC).as_posix()


def module_of(file: Path) -> str:
    parts = file.relative_to(SRC).with_suffix("").parts
    return ".".join(("unplateau", *(part for part in parts if part != "__init__")))


MODULES = {module_of(file) for file in FILES}


def running(node: ast.AST) -> Iterator[ast.AST]:
    """Every node but those that only a type checker sees."""
    if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
        return
    yield node
    for child in ast.iter_child_nodes(node):
        yield from running(child)


@cache
def imported(file: Path) -> frozenset[str]:
    """Every module that a file names, at its top or late; `from package import module` is that module."""
    found = set()
    for node in running(tree(file)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{said(file)} imports relatively"
            below = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= below & MODULES or {str(node.module)}
    return frozenset(found)


def ours(file: Path) -> set[str]:
    names = {name.removeprefix("unplateau.") for name in imported(file) if name.startswith("unplateau.")}
    assert "unplateau" not in imported(file), f"{said(file)} imports the front door"
    return names


def files_of(folder: str) -> list[Path]:
    return sorted((SRC / folder).rglob("*.py")) or [SRC / f"{folder}.py"]


def functions() -> Iterator[tuple[Path, ast.FunctionDef]]:
    for file in FILES:
        yield from ((file, node) for node in ast.walk(tree(file)) if isinstance(node, ast.FunctionDef))


def calls(name: str) -> list[str]:
    return [
        f"{said(file)}:{node.lineno}"
        for file in FILES
        for node in ast.walk(tree(file))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name
    ]


def tracked() -> list[Path]:
    if not (ROOT / ".git").exists():
        pytest.skip("not a checkout")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def text_of(file: Path) -> str:
    return file.read_bytes().decode("utf-8", errors="ignore")


# ---- who imports whom ----------------------------------------------------------------------------------------


def test_every_folder_has_its_place_in_the_order():
    assert {file.relative_to(SRC).parts[0].removesuffix(".py") for file in FILES} == set(MAY_IMPORT)


@pytest.mark.parametrize("folder", MAY_IMPORT)
def test_a_folder_imports_only_what_it_may(folder):
    allowed = MAY_IMPORT[folder]
    for file in files_of(folder):
        wrong = {name for name in ours(file) if name not in allowed and name.partition(".")[0] not in allowed}
        assert not wrong, f"{said(file)} imports {sorted(wrong)}"


def test_no_modules_import_each_other_in_a_circle():
    graph = {module_of(file): {name for name in imported(file) if name in MODULES} for file in FILES}
    assert list(TopologicalSorter(graph).static_order())


@pytest.mark.parametrize("folder", WITHOUT_TORCH)
def test_a_folder_of_plain_values_never_imports_torch(folder):
    heavy = {"torch", "lightning", "timm", "segmentation_models_pytorch", "torchvision", "lightly"}
    for file in files_of(folder):
        assert not {name.partition(".")[0] for name in imported(file)} & heavy, said(file)


@pytest.mark.parametrize(
    ("package", "only"),
    {
        "timm": {"extractors/timm.py"},
        "segmentation_models_pytorch": {"decoders/smp.py", "training/loss_terms.py"},
        "lightning": {"training/finetune.py", "training/loop.py", "training/lightning_plateau.py"},
        "tensorboard": {"training/tensorboard.py"},
        "transformers": {"training/transformers_plateau.py", "extractors/hfclip.py"},
        "open_clip": {"extractors/openclip.py"},
        "safetensors": {"extractors/tensors.py", "training/saved.py", "upgrades/cache.py"},
        "lightly": {"pretraining/heads.py"},
        "joblib": {"experiments/fits.py", "training/ranks.py"},
        "jinja2": {"reports/page.py"},
        "torchvision": {"decoders/boxes.py", "extractors/squeezenet.py"},
        "typer": {"cli.py", *(f"commands/{file.name}" for file in files_of("commands"))} - {"commands/__init__.py"},
    }.items(),
)
def test_a_heavy_dependency_lives_where_its_reason_is(package, only):
    users = {said(file) for file in FILES if package in {name.partition(".")[0] for name in imported(file)}}
    assert users == only


def test_importing_the_package_loads_neither_torch_nor_lightning():
    code = "import sys, unplateau; print([n for n in ('torch', 'lightning', 'numpy', 'timm') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_front_door_has_few_names_and_each_opens():
    package = importlib.import_module("unplateau")
    assert len(package.__all__) <= MOST_NAMES
    # A folder of the name of a verb would stand in its place once it is imported.
    importlib.import_module("unplateau.cli")
    importlib.import_module("unplateau.api")
    assert all(callable(getattr(package, name)) for name in package.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = package.nonsense


# ---- how large -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", FILES, ids=said)
def test_a_file_fits_in_one_sitting(file):
    assert len(file.read_text().splitlines()) <= MOST_LINES
    assert len(file.relative_to(SRC).parts) <= 2


def lines_of(node: ast.FunctionDef) -> int:
    """Lines of a function without its docstring: a verb that documents each argument is not long for it."""
    first = node.body[0]
    explained = ast.get_docstring(node) is not None
    return node.end_lineno - node.lineno + 1 - (first.end_lineno - first.lineno + 1 if explained else 0)


def test_functions_are_short():
    lengths = {f"{said(file)}:{node.name}": lines_of(node) for file, node in functions()}
    assert not {name: length for name, length in lengths.items() if length > MOST_FUNCTION_LINES}
    assert statistics.median(lengths.values()) <= MOST_MEDIAN


def test_functions_take_few_arguments_and_only_verbs_take_more():
    for file, node in functions():
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        count = len([each for each in arguments if each.arg not in ("self", "cls")])
        most = MOST_ARGUMENTS_OF_A_VERB if file.parent.name in ("verbs", "commands") else MOST_ARGUMENTS
        assert count <= most, f"{said(file)}:{node.name} takes {count}"


def test_no_arguments_travel_unnamed():
    found = {f"{said(file)}:{node.name}" for file, node in functions() if node.args.kwarg}
    assert found == set(OPEN_ARGUMENTS)


# ---- what nothing contains -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["hasattr", "print", "exec", "eval", "breakpoint"])
def test_the_package_never_calls(name):
    assert calls(name) == []


def test_the_package_refuses_with_errors_not_with_assert():
    assert not [said(file) for file in FILES for node in ast.walk(tree(file)) if isinstance(node, ast.Assert)]


def test_every_error_raised_to_the_user_is_of_our_own_kind():
    """Anything else would reach the user as a traceback; only Python's own protocols may raise Python's errors."""
    ours = {"UnplateauError", "DataError", "PieceError", "OutputError", "MissingExtra"}
    kinds = ours | {"AttributeError", "KeyboardInterrupt", "SystemExit"}
    for file in FILES:
        for node in ast.walk(tree(file)):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and isinstance(node.exc.func, ast.Name):
                name = node.exc.func.id
                made = name.lstrip("_")[0].islower()  # a function of ours that makes the error
                assert name in kinds or made, f"{said(file)}:{node.lineno} raises {name}"


def classes() -> list[type]:
    found = []
    for module in sorted(MODULES):
        loaded = importlib.import_module(module)
        found += [each for _, each in inspect.getmembers(loaded, inspect.isclass) if each.__module__ == module]
    return found


def is_plain_value(each: type) -> bool:
    protocol = getattr(each, "_is_protocol", False)
    return is_dataclass(each) or issubclass(each, (enum.Enum, Exception)) or protocol


def test_every_class_is_abstract_or_final():
    for each in classes():
        if not is_plain_value(each):
            assert inspect.isabstract(each) != getattr(each, "__final__", False), each


def test_abstract_classes_say_so_by_name_and_what_derives_from_them_is_final():
    for each in classes():
        assert each.__name__.startswith("Abstract") == inspect.isabstract(each), each
        parents = [base for base in each.__mro__[1:] if base.__module__.startswith("unplateau")]
        assert all(inspect.isabstract(base) or issubclass(base, Exception) for base in parents), each
        if any(inspect.isabstract(base) for base in parents):
            assert getattr(each, "__final__", False), each


def test_values_that_cross_a_seam_are_frozen():
    for each in classes():
        if is_dataclass(each):
            assert each.__dataclass_params__.frozen, each


# Written in pieces, so that this file does not hold what it forbids.
ABSOLUTE = re.compile(r"(?<![\w.~>-])/(?:" + "|".join(["wo" + "rk", "ro" + "ot", "ho" + "me", "Us" + "ers"]) + r")\b")
REGISTRY = re.compile("|".join(["py" + r"pi\.org", "python" + "hosted", "index" + "-url", "artifact" + "ory"]), re.I)


def test_no_tracked_file_holds_a_path_of_one_machine_or_the_host_of_a_registry():
    for file in tracked():
        for pattern in (ABSOLUTE, REGISTRY):
            found = pattern.search(text_of(file))
            assert not found, f"{file.relative_to(ROOT)} holds {found and found.group()!r}"


def test_data_from_outside_the_checkout_is_named_by_tests_benchmarks_and_docs_alone():
    outside = re.compile(r"\.\./sha" + r"red|[\"']sha" + r"red[\"'] */")
    allowed = ("tests/", "benchmarks/", "docs/", "README.md")
    for file in tracked():
        name = file.relative_to(ROOT).as_posix()
        assert name.startswith(allowed) or not outside.search(text_of(file)), name


# ---- what is explained ---------------------------------------------------------------------------------------


def headings(docstring: str) -> tuple[str, ...]:
    starts = re.findall(r"^([A-Z][A-Za-z ]+):", inspect.cleandoc(docstring), re.M)
    return tuple(starts)


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
def test_each_check_explains_itself(check):
    assert headings(check.__doc__) == HEADINGS


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
def test_only_judge_returns_a_finding(check):
    assert inspect.signature(check.judge).return_annotation == "Finding"
    assert inspect.signature(check.measure).return_annotation.removesuffix(" | None").endswith("Measured")


def test_every_dependency_has_its_reason_and_its_place():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [each for group in project.get("optional-dependencies", {}).values() for each in group]
    wanted = {re.split(r"[<>=!~ ]", each)[0] for each in [*project["dependencies"], *extras]}
    rows = [line.split("|") for line in (ROOT / "docs" / "dependencies.md").read_text().splitlines() if "|" in line]
    given = {row[1].strip(): (row[2].strip(), row[3].strip()) for row in rows[2:]}
    assert set(given) == wanted
    assert all(reason and place for reason, place in given.values())


def test_files_named_in_the_table_of_dependencies_exist():
    text = (ROOT / "docs" / "dependencies.md").read_text()
    assert all((SRC / name).exists() for name in re.findall(r"`([\w/]+\.py)`", text))

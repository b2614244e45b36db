"""The rooms of the house: which package may import which, and which modules do without torch, DeepSpeed or DALI."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# A package and the others of ours that its modules may import.
EDGES = {
    "launch": {"bench", "resnet", "results"},
    "bench": {"resnet", "kernels", "results"},
    "resnet": {"kernels"},
    "kernels": set(),
    "results": set(),
}
# The rooms of each package (folders, and modules that lie beside them), in the order of its floors: a room may import
# those before it, and none after it.
ROOMS = {
    "bench": [
        "config", "check_data", "roofline", "machine_code", "measure", "evaluation", "training", "micro", "step",
        "peers", "pairs", "evaluate", "depth", "gpu", "plain", "plot",
    ],
    "kernels": [
        "dtypes", "interpreter", "child_process", "chips", "runtime", "operands", "prepared", "aten_conv", "tiles",
        "ops", "reference", "aot", "choose",
    ],
    "launch": [
        "gpus", "numa", "arguments", "profile_file", "cluster", "experiments", "plan", "job", "interrupts", "batch",
        "sweep", "foreground", "cli", "local", "slurm",
    ],
    "resnet": [
        "architecture", "recipe", "layers", "activation_checkpointing", "fused", "model", "counts", "comparators",
        "weights", "data",
    ],
    "resnet/data": [
        "errors", "dataset_table", "listing", "cache", "batch", "images", "datasets", "loaders", "mean_image", "strict",
    ],
    "results": [
        "words", "durable", "interrupt", "identity", "statistics", "command_line", "store", "selection", "recover",
        "export", "listing", "check", "baseline", "history", "calibrate", "compare", "query", "plot", "published",
        "paper", "report", "exporters",
    ],
}  # fmt: skip
MOST_MODULES, MOST_LINES = 16, 400
# Modules of the standard library alone, which every package may import: what else would be written in each of them.
FOUNDATION = {"results.words", "results.durable"}
# The entry points of commands in leaves, `main` alone, which may import what runs a command.
COMMANDS = {
    "kernels/aot/command.py",
    "results/__main__.py",
    "results/baseline.py",
    "results/calibrate/command.py",
    "results/check/command.py",
    "results/compare/command.py",
    "results/export.py",
    "results/exporters/command.py",
    "results/history/command.py",
    "results/paper/command.py",
    "results/plot/command.py",
    "results/query/command.py",
    "results/recover.py",
    "results/report/command.py",
}
RUNNER = {"bench.config.command", "bench.config.grammar", "bench.config.paths"}
HEAVY = {"torch", "torchvision", "triton", "deepspeed", "nvidia"}  # nvidia.dali
# What no module of a package, or one module, may import: when it is loaded ("at import"), or at all ("anywhere").
WITHOUT = [
    ("results", HEAVY, "anywhere"),
    ("results/statistics.py", {"scipy", "sklearn"}, "anywhere"),  # the benchmarks of a bare GPU machine call it
    ("kernels", HEAVY - {"torch", "triton"}, "anywhere"),
    ("kernels/chips.py", HEAVY, "anywhere"),
    ("launch", HEAVY, "anywhere"),
    ("bench/config/command.py", HEAVY, "anywhere"),
    ("bench/config/grammar.py", HEAVY, "anywhere"),
    ("bench/config/keys.py", HEAVY, "anywhere"),
    ("bench/config/run_config.py", HEAVY, "anywhere"),
    ("bench/config/environment.py", HEAVY, "anywhere"),
    ("bench/measure/failure.py", HEAVY, "at import"),
    ("bench/pairs", HEAVY, "anywhere"),
    ("bench/training/checkpoint/compatibility.py", HEAVY, "anywhere"),
    ("bench/training/checkpoint/contents.py", HEAVY, "anywhere"),
    ("bench/training/checkpoint/folder.py", HEAVY, "anywhere"),
    ("bench/training/checkpoint/writer.py", HEAVY, "anywhere"),
    ("bench/training/progress.py", HEAVY, "anywhere"),
    ("resnet/architecture.py", HEAVY, "anywhere"),
    ("resnet/data/dataset_table.py", HEAVY, "anywhere"),
    ("resnet/data/listing.py", HEAVY, "anywhere"),
    ("resnet/recipe.py", HEAVY, "anywhere"),
]
# What loads without any of HEAVY, everything that it imports in turn included.
LIGHT = [
    "kernels.dtypes",
    "bench.config.command",
    "bench.config.run_config",
    "bench.config.grammar",
    "bench.config.keys",
    "bench.training.progress",
    "bench.measure.metrics",
    "bench.roofline.command",
    "bench.pairs.command",
    "results.baseline",
    "results.calibrate.command",
    "results.check.command",
    "results.compare.command",
    "results.history.command",
    "results.paper.command",
    "results.plot.command",
    "resnet.data.datasets.open",
    "launch.cli",
    "launch.job",
    "launch.foreground",
    "launch.batch.script",
    "launch.sweep.command",
    "launch.sweep.submit",
    "results.__main__",
    "results.export",
    "results.exporters.command",
    "results.query.command",
    "results.recover",
    "results.report.command",
]
# What runs on a bare GPU machine, with neither DeepSpeed, DALI nor scipy.
BARE = [
    "bench.micro", "bench.micro.verify", "bench.step", "bench.step.verify", "bench.gpu", "kernels.aot",
    "kernels.choose.precompile_worker", "resnet.counts", "resnet.model", "resnet.fused.network",
]  # fmt: skip


def modules(where: str) -> list[Path]:
    path = ROOT / where
    return [path] if path.suffix else sorted(path.rglob("*.py"))


def imported(path: Path, *, at_import: bool, but: str = "") -> Iterator[str]:
    """Full names of the modules that a file imports; functions and TYPE_CHECKING left out where `at_import`.

    Args:
        but: a function of the module that is left out.
    """
    tree = ast.parse(path.read_text(), str(path))
    tree.body = [node for node in tree.body if not (isinstance(node, ast.FunctionDef) and node.name == but)]
    pending: list[ast.AST] = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = ".".join(path.relative_to(ROOT).parts[: -node.level]) if node.level else ""
            module = ".".join(filter(None, (package, node.module)))
            yield from (f"{module}.{alias.name}" for alias in node.names)
        elif at_import and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        elif at_import and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            pending += node.orelse
            continue
        pending += ast.iter_child_nodes(node)


def runner_of_main(path: Path) -> set[str]:
    """What the function `main` of a file, and no other part of it, imports of the runner of commands."""
    everywhere = set(imported(path, at_import=False))
    elsewhere = set(imported(path, at_import=False, but="main"))
    return {name for name in everywhere - elsewhere if RUNNER & {name, name.rpartition(".")[0]}}


@pytest.mark.parametrize("package", EDGES)
def test_imports_go_one_way(package: str) -> None:
    assert modules(package), f"there is no package {package}"
    for path in modules(package):
        names = {name for name in imported(path, at_import=False) if name.rpartition(".")[0] not in FOUNDATION}
        if str(path.relative_to(ROOT)) in COMMANDS:
            names -= runner_of_main(path)
        ours = {name.partition(".")[0] for name in names} & set(EDGES)
        strayed = ours - EDGES[package] - {package}
        assert not strayed, f"{path.relative_to(ROOT)} imports {sorted(strayed)}; {package} may import {EDGES[package]}"


def rooms(package: str) -> set[str]:
    """Folders and modules of a package, one floor down."""
    return {
        path.stem
        for path in (ROOT / package).iterdir()
        if (path.suffix == ".py" and not path.stem.startswith("__")) or (path / "__init__.py").exists()
    }


def exists(module: str) -> bool:
    """Whether a dotted name is a module or a package of ours."""
    stem = ROOT / module.replace(".", "/")
    return stem.with_suffix(".py").exists() or (stem / "__init__.py").exists()


def face(package: str) -> set[str]:
    """What the `__init__` of a package or room offers: its `__all__`, empty where it has none."""
    for node in ast.parse((ROOT / package / "__init__.py").read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return set(ast.literal_eval(node.value))
    return set()


@pytest.mark.parametrize("package", ROOMS)
def test_rooms_of_a_package_import_one_way(package: str) -> None:
    order, dotted = ROOMS[package], package.replace("/", ".") + "."
    assert rooms(package) == set(order), "a room without a floor, or the other way round"
    for floor, room in enumerate(order):
        stem = ROOT / package / room
        for path in modules(str((stem if stem.is_dir() else stem.with_suffix(".py")).relative_to(ROOT))):
            names = {name.removeprefix(dotted) for name in imported(path, at_import=False) if name.startswith(dotted)}
            above = {name.partition(".")[0] for name in names} & set(order[floor + 1 :])
            assert not above, f"{path.relative_to(ROOT)} imports {sorted(above)}, which come after {room}"


def test_what_a_room_or_package_shows_is_imported_from_there_alone() -> None:
    """Across packages: what a face offers comes from it, and a room's inside is its own where the room has a face."""
    inits = [path.parent.relative_to(ROOT) for package in EDGES for path in (ROOT / package).rglob("__init__.py")]
    faces = {".".join(folder.parts): face(str(folder)) for folder in inits}
    faces = {name: offered for name, offered in faces.items() if offered}
    assert {"resnet", "resnet.data", "kernels.reference"} <= set(faces)
    for path in (path for package in EDGES for path in modules(package)):
        own = path.relative_to(ROOT).parts[0]
        for name in imported(path, at_import=False):
            for shown, offered in faces.items():
                if not name.startswith(f"{shown}."):
                    continue
                if shown.partition(".")[0] == own:
                    # A package's own modules go to where a thing is: the face would hide the floor that it lies on.
                    through = name.rpartition(".")[0] == shown and name.rpartition(".")[2] in offered
                    inside = path.is_relative_to(ROOT / shown.replace(".", "/"))
                    assert not (through and inside), f"{path.relative_to(ROOT)} imports {name} through its own face"
                    continue
                where, _, last = name.rpartition(".")
                assert where == shown or last not in offered, f"{path.relative_to(ROOT)}: import {last} from {shown}"
                assert where == shown or "." not in shown, f"{path.relative_to(ROOT)} imports the inside of {shown}"
                inside = "." in shown and exists(name) and last not in offered
                assert not inside, f"{path.relative_to(ROOT)} imports the inside of {shown}"


def test_folders_and_modules_are_small() -> None:
    tops = [ROOT / top for top in (*EDGES, "tests", "examples") if (ROOT / top).exists()]
    folders = {path.parent for top in tops for path in top.rglob("*.py")}
    assert len(folders) > 20
    for folder in folders:
        found = [path for path in folder.glob("*.py") if path.stem not in ("__init__", "__main__")]
        assert len(found) <= MOST_MODULES, f"{folder.relative_to(ROOT)} has {len(found)} modules"
        for path in found:
            lines = path.read_text().count("\n")
            assert lines <= MOST_LINES, f"{path.relative_to(ROOT)} has {lines} lines"


def test_every_folder_of_code_is_a_package() -> None:
    """A folder without `__init__.py` would be left out of what is installed."""
    for package in EDGES:
        for path in (ROOT / package).rglob("*.py"):
            assert (path.parent / "__init__.py").exists(), f"{path.parent.relative_to(ROOT)} has no __init__.py"


@pytest.mark.parametrize("module", sorted(FOUNDATION))
def test_the_foundation_is_the_standard_library_alone(module: str) -> None:
    path = ROOT / f"{module.replace('.', '/')}.py"
    names = {name.partition(".")[0] for name in imported(path, at_import=False)}
    assert names <= sys.stdlib_module_names, f"{module} imports {sorted(names - sys.stdlib_module_names)}"


@pytest.mark.parametrize(("where", "packages", "when"), WITHOUT)
def test_what_does_without(where: str, packages: set[str], when: str) -> None:
    assert modules(where)
    for path in modules(where):
        found = {name.partition(".")[0] for name in imported(path, at_import=when == "at import")} & packages
        assert not found, f"{path.relative_to(ROOT)} imports {sorted(found)} {when}"


@pytest.mark.slow
@pytest.mark.parametrize("module", LIGHT)
def test_what_loads_without_torch(module: str) -> None:
    code = f"import {module}, sys; sys.exit(' '.join(sorted({HEAVY} & set(sys.modules))) or 0)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, f"import {module} loads {done.stderr.strip()}"


def test_what_a_bare_gpu_machine_runs() -> None:
    """Follows the imports of our modules, since the machine at hand may have what the bare one lacks."""
    pending: list[Path] = []
    for name in BARE:
        stem = ROOT / name.replace(".", "/")
        pending.append(stem / "__main__.py" if stem.is_dir() else stem.with_suffix(".py"))
    seen: set[Path] = set()
    while pending:
        path = pending.pop()
        if path in seen:
            continue
        seen.add(path)
        for name in imported(path, at_import=True):
            missing = name.partition(".")[0] in ("deepspeed", "nvidia", "scipy", "sklearn")
            assert not missing, f"{path.relative_to(ROOT)} imports {name}"
            stems = [ROOT / part.replace(".", "/") for part in (name, name.rpartition(".")[0]) if part]
            pending += [
                file for stem in stems for file in (stem.with_suffix(".py"), stem / "__init__.py") if file.exists()
            ]


def test_nothing_is_named_after_the_standard_library() -> None:
    # One name is the field's own word. It is imported as results.statistics alone, and no command has its folder on
    # sys.path, which tests/results/test_statistics.py asserts.
    exempt = {ROOT / "results/statistics.py"}
    stems = {path.stem for package in EDGES for path in modules(package) if path not in exempt}
    assert not stems & sys.stdlib_module_names - {"__init__", "__main__"}

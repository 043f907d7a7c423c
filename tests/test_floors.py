"""Imports point down: every file of the library stands on a floor and imports from below, or from its own room."""

import ast
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "cnnrnn"
FLOORS = {
    "main": 6, "predict": 6, "evaluate": 6,
    "inference": 5, "reports": 5,
    "training": 4,
    "tasks": 3, "analysis": 3,
    "models": 2, "data": 2, "optim": 2,
    "layers": 1, "metrics": 1, "beam_search": 1, "decoding": 1, "plots": 1,
    "config": 0, "config_file": 0, "lookup": 0, "errors": 0, "signatures": 0, "command": 0, "runtime": 0, "fonts": 0,
}  # fmt: skip


def imports_of(file: Path) -> set[str]:
    """Every module that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module} | {f"{node.module}.{name.name}" for name in node.names}
    return found


def room_of(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def files() -> list[Path]:
    return [file for file in PACKAGE.rglob("*.py") if file != PACKAGE / "__init__.py"]


def test_every_room_has_a_floor():
    assert {room_of(file) for file in files()} == FLOORS.keys()


def test_imports_point_down():
    for file in files():
        room = room_of(file)
        for module in imports_of(file):
            if module.startswith("cnnrnn.") and (target := module.split(".")[1]) != room:
                down = FLOORS[target] < FLOORS[room] or FLOORS[room] == FLOORS[target] == 0
                assert down, f"{file} on floor {FLOORS[room]} imports {module}"


def test_siblings_do_not_import_each_other():
    """A model imports no model, a task no task but the contract, a report no report, a kind of input no other kind."""
    for folder, shared in {"models": set(), "tasks": {"task"}, "reports": set(), "inference": set()}.items():
        for file in (PACKAGE / folder).glob("[!_]*.py"):
            modules = {".".join(module.split(".")[:3]) for module in imports_of(file)}
            siblings = {path.stem for path in (PACKAGE / folder).glob("[!_]*.py")} - {file.stem}
            inside = siblings & {module.split(".")[-1] for module in modules if f"cnnrnn.{folder}." in module}
            assert inside <= shared, f"{file} imports {inside - shared}"


def test_heavy_and_forbidden_imports():
    for file in files():
        modules = {module.split(".")[0] for module in imports_of(file)}
        assert not modules & {"tensorflow", "torch", "pickle", "configs"}, file
        if room_of(file) in ("data", "plots") or FLOORS[room_of(file)] == 0:
            assert not modules & {"jax", "flax", "optax"}, file


def test_training_knows_the_type_of_a_task_and_no_task():
    for file in (PACKAGE / "training").glob("*.py"):
        for module in imports_of(file):
            assert not module.startswith("cnnrnn.models"), file
            assert not module.startswith("cnnrnn.tasks.") or module.startswith("cnnrnn.tasks.task"), file

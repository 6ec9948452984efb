"""Guards of the layout: each stands for a failure that its error message would not explain."""

import ast
import platform
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_platform_is_a_folder_and_not_a_package() -> None:
    assert not (ROOT / "platform" / "__init__.py").exists()
    assert Path(platform.__file__).is_relative_to(sysconfig.get_path("stdlib"))


def test_no_test_folder_has_a_top_level_name() -> None:
    taken = {"platform", "assets", "resources", "sensors", "tidemill"}
    folders = {d.name for d in (ROOT / "tests").rglob("*") if d.is_dir()}
    assert not folders & taken


def test_the_library_imports_no_dagster() -> None:
    library = ROOT / "platform" / "tidemill"
    importers = {
        path.relative_to(library).as_posix()
        for path in library.rglob("*.py")
        if any(name.split(".")[0] == "dagster" for name in _imports(path))
    }
    assert importers == {"definitions.py"}


def test_imports_go_one_way() -> None:
    allowed = {
        "assets": {"assets", "resources", "tidemill"},
        "resources": {"resources", "tidemill"},
        "sensors": {"sensors", "assets", "resources", "tidemill"},
    }
    for folder, may in allowed.items():
        for path in (ROOT / folder).rglob("*.py"):
            ours = {n.split(".")[0] for n in _imports(path)} & {*allowed, "tidemill"}
            assert ours <= may, f"{path} imports {ours - may}"


def test_importing_the_definitions_loads_nothing_heavy() -> None:
    heavy = (
        "pyspark",
        "prophet",
        "sklearn",
        "matplotlib",
        "ibis",
        "duckdb",
        "pandas",
        "polars",
        "httpx",
    )
    code = f"import sys, tidemill.definitions; print([m for m in {heavy!r} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def _imports(path: Path) -> list[str]:
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.append(node.module)
    return names

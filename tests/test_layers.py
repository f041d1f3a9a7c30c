"""The table of DESIGN.md's layout: who may import whom, and how large a module may be."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "mlx_velocity"
BENCHMARKS = ROOT / "benchmarks"
LONGEST = 350
GRAB_BAGS = {"util", "utils", "helper", "helpers", "common", "misc", "base", "shared"}

MEASURED = frozenset(
    {"mlx", "mlx_lm", "asv_runner", "numpy", "tokenizers", "safetensors", "transformers", "huggingface_hub"}
)
"""What belongs to the measured environment: imported in functions of the probe, nowhere else."""
OTHER_FRAMEWORKS = frozenset({"torch", "llama_cpp", "gguf"})
"""What MLX is compared with: optional, and imported in functions of `frameworks` alone."""
OUTSIDE = frozenset(
    {"os", "io", "time", "datetime", "pathlib", "subprocess", "socket", "sys", "tempfile", "shutil"}
)
"""Parts of the standard library that reach for files, the clock, the environment or other processes."""


@dataclass(frozen=True)
class Layer:
    """A row of the table."""

    modules: frozenset[str]
    """Names below mlx_velocity; `probe.*` stands for a package and all in it."""
    layers: frozenset[str]
    """Rows that it may import, itself included where its modules may import each other."""
    packages: frozenset[str] = frozenset()
    """Third-party packages that it may import anywhere."""
    inside: frozenset[str] = frozenset()
    """Third-party packages that it may import inside functions only."""
    also: frozenset[str] = frozenset()
    """Single modules of other rows."""
    never: frozenset[str] = frozenset()
    """Parts of the standard library, and built-in functions, that it must do without."""


LAYERS = {
    "words": Layer(
        # markers writes a line where a monitor asks for it, from any program and any layer.
        frozenset(
            {
                "__init__",
                "across",
                "bench",
                "bisection",
                "breakdown",
                "comparison",
                "errors",
                "markers",
                "metrics",
                "parameters",
                "problems",
                "records",
                "regions",
                "run_report",
                "units",
            }
        ),
        frozenset({"words"}),
    ),
    # The words of history: its points are columns of numbers.
    "series": Layer(
        frozenset({"history_report", "points", "series"}),
        frozenset({"words", "series"}),
        frozenset({"numpy"}),
        never=OUTSIDE | {"print", "open", "input"},
    ),
    "maths": Layer(
        frozenset(
            {
                "anatomy",
                "anchor",
                "changepoints",
                "correlated",
                "exact",
                "levels",
                "fairness",
                "findings",
                "information",
                "operations",
                "posterior",
                "quality",
                "roofline",
                "roofline_peaks",
                "sameness",
                "search",
                "spread",
                "standing",
                "stats",
                "stepsearch",
                "traffic",
                "trend",
                "verdict",
                "weights",
                "windows",
            }
        ),
        frozenset({"words", "series", "maths"}),
        frozenset({"numpy", "scipy"}),
        never=OUTSIDE | {"print", "open", "input"},
    ),
    "probe": Layer(
        frozenset({"probe.*"}),
        frozenset({"words", "probe"}),
        frozenset({"psutil"}),
        # Whoever has them: NVIDIA's counters and those of Apple silicon.
        inside=MEASURED | {"macmon", "pynvml", "zeus_apple_silicon"},
    ),
    # Runs in the measured process of `across`, beside the probe, in the Python at hand.
    "frameworks": Layer(
        frozenset({"frameworks.*"}),
        frozenset({"words", "probe", "frameworks"}),
        inside=MEASURED | OTHER_FRAMEWORKS,
    ),
    "edges": Layer(
        frozenset(
            {
                "ancestry",
                "archive",
                "asv_plugin",
                "bisections",
                "builds",
                "cases",
                "commit_graph",
                "comparisons",
                "cuda_libraries",
                "declared",
                "environments",
                "history",
                "installed",
                "installer",
                "machine",
                "profiles",
                "macos",
                "offline.*",
                "readings",
                "regressions",
                "releases",
                "requirements",
                "results",
                "schemas",
                "scheduler",
                "sides",
                "state",
                "store.*",
                "tracks",
                "validation.*",
                "workers",
            }
        ),
        frozenset({"words", "edges"}),
        # numpy holds the index's columns; there are no sums in it.
        frozenset(
            {
                "asv",
                "fastjsonschema",
                "filelock",
                "git",
                "gitdb",
                "jsonschema",
                "numpy",
                "orjson",
                "packaging",
                "psutil",
                "uv",
            }
        ),
        # An update of the release list is the only one who needs it.
        inside=frozenset({"pypi_simple"}),
        # What a profile selects is one table, for our runner and for stock asv.
        also=frozenset({"probe.profiles", "probe.nvidia"}),
    ),
    # What measures and asks the maths meanwhile when to stop; and what says how it ended.
    "comparing": Layer(
        frozenset(
            {
                "bisecting",
                "culprits",
                "dissect",
                "interleave",
                "judge",
                "kernels",
                "launches",
                "rotation",
            }
        ),
        frozenset({"words", "maths", "edges", "comparing"}),
    ),
    # A pure comparison of stored records: what the edges keep, seen with the maths.
    "views": Layer(
        frozenset(
            {
                "bisected",
                "changes",
                "chronicle",
                "coverage",
                "indexed_series",
                "launch_columns",
                "model_table",
                "outages",
                "remembered",
                "reporting",
                "shares",
                "snapshots",
                "stored_series",
                "side_by_side",
                "told",
            }
        ),
        frozenset({"words", "series", "maths", "edges", "views"}),
        # The index hands out columns of numbers.
        frozenset({"numpy"}),
        # What a stored comparison says follows from its records alone.
        also=frozenset({"judge"}),
        never=OUTSIDE | {"print", "open", "input"},
    ),
    # What a machine does while something runs; it measures nothing and judges nothing.
    "monitor": Layer(
        frozenset({"monitor.*"}),
        frozenset({"words", "edges", "monitor"}),
        frozenset({"psutil"}),
        inside=frozenset({"pynvml", "zeus_apple_silicon"}),
        also=frozenset({"probe.energy", "probe.sensors", "probe.thermometers"}),
    ),
    "report": Layer(
        frozenset({"report.*"}),
        frozenset({"words", "series", "report"}),
        frozenset({"rich"}),
        never=OUTSIDE | {"print", "open", "input"},
    ),
    # What a user imports: the probe on a model at hand, in the process that has it.
    "profiling": Layer(
        frozenset({"profiling.*"}),
        frozenset({"words", "maths", "probe", "profiling"}),
        frozenset({"rich"}),
        inside=frozenset({"mlx"}),
        also=frozenset({"report.text", "schemas"}),
    ),
    "commands": Layer(
        frozenset({"commands.*", "site.*"}),
        frozenset(
            {"words", "series", "maths", "edges", "comparing", "views", "monitor", "report", "commands"}
        ),
        frozenset(
            {"asv", "asv_tachyon", "filelock", "jinja2", "markupsafe", "numba", "numpy", "orjson", "rich"}
        ),
        # What is measured across frameworks is one table, for the command and for its workers; and what a model
        # is, and how our prefill is cut, is known where it is measured.
        also=frozenset({"frameworks.tasks", "probe.models", "probe.workloads"}),
        # A timeline's page holds its library; nothing else loads 5 MB.
        inside=frozenset({"plotly"}),
    ),
    "top": Layer(
        frozenset({"cli", "cli_tools.*", "__main__"}),
        frozenset(
            {
                "words",
                "series",
                "maths",
                "edges",
                "comparing",
                "views",
                "monitor",
                "report",
                "commands",
                "top",
            }
        ),
        frozenset({"rich", "typer"}),
    ),
}


@dataclass(frozen=True)
class Import:
    """One thing that a module imports."""

    name: str
    line: int
    in_function: bool


def imports(source: str, module: str, is_package: bool = False) -> Iterator[Import]:
    """Everything a module imports, `importlib.import_module` of a literal name included."""

    def walk(node: ast.AST, in_function: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            line = getattr(child, "lineno", 0)
            if isinstance(child, ast.Import):
                yield from (Import(alias.name, line, in_function) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                base = child.module or ""
                if child.level:
                    parts = ["mlx_velocity", *module.split(".")]
                    parts = parts[: len(parts) - child.level + is_package]
                    base = ".".join([*parts, base] if base else parts)
                yield from (Import(f"{base}.{alias.name}", line, in_function) for alias in child.names)
            elif (
                isinstance(child, ast.Call)
                and child.args
                and called(child) in ("import_module", "__import__")
            ):
                first = child.args[0]
                literal = first.values[0] if isinstance(first, ast.JoinedStr) else first
                if isinstance(literal, ast.Constant) and isinstance(literal.value, str):
                    yield Import(literal.value, line, in_function)
            yield from walk(
                child, in_function or isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
            )

    yield from walk(ast.parse(source), False)


def called(call: ast.Call) -> str:
    """The last word of what a call names."""
    target = call.func
    return target.attr if isinstance(target, ast.Attribute) else getattr(target, "id", "")


def layer_of(module: str) -> str | None:
    """The row that a module stands in; None where the table lacks it."""
    for name, layer in LAYERS.items():
        if module in layer.modules or f"{module.partition('.')[0]}.*" in layer.modules:
            return name
    return None


def own_module(name: str, known: set[str]) -> str:
    """The module of ours that an imported name is in: `mlx_velocity.errors.InputError` → `errors`."""
    parts = name.split(".")[1:]
    while parts and ".".join(parts) not in known:
        parts.pop()
    return ".".join(parts) or "__init__"


def offences(module: str, source: str, known: set[str], layer: Layer | None = None) -> list[str]:
    """What a module imports or calls against the rules of its row."""
    row = layer or LAYERS[layer_of(module) or "words"]
    is_package = any(name.startswith(f"{module}.") for name in known)
    found = []
    for item in imports(source, module, is_package):
        top = item.name.partition(".")[0]
        if top == "mlx_velocity":
            target = own_module(item.name, known)
            if not (layer_of(target) in row.layers or target in row.also):
                found.append(f"{module}:{item.line} imports mlx_velocity.{target}")
        elif top == "__future__":
            continue
        elif top in sys.stdlib_module_names:
            if top in row.never:
                found.append(f"{module}:{item.line} imports {top}")
        elif not (top in row.packages or (top in row.inside and item.in_function)):
            where = "at its top" if top in row.inside else "at all"
            found.append(f"{module}:{item.line} imports {top} {where}")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in row.never:
            found.append(f"{module}:{node.lineno} calls {node.func.id}")
    return found


def modules() -> dict[str, Path]:
    """Every module of the package by its name below mlx_velocity; a package is named by itself."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)
        found[name] = path
    return found


def source_files() -> list[Path]:
    return [path for folder in (PACKAGE, BENCHMARKS) for path in sorted(folder.rglob("*.py"))]


@pytest.mark.parametrize("name", list(modules()))
def test_module_imports_what_its_row_allows(name: str) -> None:
    """A module imports only what its row of the table allows."""
    found = modules()
    assert layer_of(name) is not None, f"{name} stands in no row of the table: decide where it belongs"
    source = found[name].read_text("utf-8")
    assert offences(name, source, set(found)) == []


@pytest.mark.parametrize("path", sorted(BENCHMARKS.rglob("*.py")), ids=lambda path: path.stem)
def test_benchmarks_import_the_probe_and_the_metrics_alone(path: Path) -> None:
    """A benchmark file imports the probe and the metrics, and nothing else of anybody."""
    known = set(modules())
    row = Layer(frozenset(), frozenset({"probe"}), also=frozenset({"metrics"}))
    assert offences(f"benchmarks.{path.stem}", path.read_text("utf-8"), known, row) == []


@pytest.mark.parametrize("path", source_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_is_about_one_thing(path: Path) -> None:
    """No module is longer than 350 lines, and none is a grab bag."""
    lines = len(path.read_text("utf-8").splitlines())
    assert lines <= LONGEST, f"{path.name} has {lines} lines: it is two modules"
    assert path.stem not in GRAB_BAGS, f"{path.name} says nothing about what it holds"


def test_no_module_stands_in_two_rows() -> None:
    """Each module has one row."""
    listed = [module for layer in LAYERS.values() for module in layer.modules]
    assert len(listed) == len(set(listed))
    assert all(name in LAYERS for layer in LAYERS.values() for name in layer.layers)


def test_the_table_points_downwards() -> None:
    """No row may import one that may import it."""
    for name, layer in LAYERS.items():
        for other in layer.layers - {name}:
            assert name not in LAYERS[other].layers, f"{name} and {other} may import each other"


def test_the_probe_imports_with_the_standard_library_alone() -> None:
    """Every module of the probe, the frameworks and the words imports in a Python that has no other package but psutil."""
    names = [
        name
        for name in modules()
        if layer_of(name) in ("probe", "frameworks", "words") and name != "__init__"
    ]
    code = "; ".join(
        ["import sys, types", "sys.modules['psutil'] = types.ModuleType('psutil')"]
        + [f"sys.path.insert(0, {str(PACKAGE.parent)!r})"]
        + [f"import mlx_velocity.{name}" for name in names]
        + ["print(sorted({m.partition('.')[0] for m in sys.modules} - set(sys.stdlib_module_names)))"]
    )
    # -S hides site-packages, and with them everything that is installed.
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    loaded = set(ast.literal_eval(done.stdout))
    assert loaded & (MEASURED | OTHER_FRAMEWORKS | {"asv", "git", "rich", "typer", "scipy"}) == set()


KNOWN = {"__init__", "errors", "stats", "tracks", "scheduler", "probe", "probe.case", "probe.profiles", "cli"}

OFFENDERS = {
    "maths that read a file": ("stats", "from pathlib import Path\n", "stats:1 imports pathlib"),
    "maths that print": ("stats", "def mean():\n    print(1)\n", "stats:2 calls print"),
    "maths that ask the edges": ("stats", "from mlx_velocity import tracks\n", "stats:1 imports mlx_velocity.tracks"),
    "words with a dependency": ("errors", "import rich\n", "errors:1 imports rich at all"),
    "a probe that imports mlx at its top": ("probe.case", "import mlx.core as mx\n", "probe.case:1 imports mlx at its top"),
    "a probe that asks the runner": (
        "probe.case", "def f():\n    from mlx_velocity.scheduler import plan\n",
        "probe.case:2 imports mlx_velocity.scheduler",
    ),
    "an edge that imports mlx in a function": (
        "tracks", "def f():\n    import mlx.core\n", "tracks:2 imports mlx at all",
    ),
    "an edge that imports mlx by name": (
        "tracks", "import importlib\nimportlib.import_module('mlx_lm.utils')\n", "tracks:2 imports mlx_lm at all",
    ),
    "an edge that imports mlx by a made-up name": (
        "tracks", "import importlib\nimportlib.import_module(f'mlx_lm.{1}')\n", "tracks:2 imports mlx_lm at all",
    ),
    "an edge that does sums": ("tracks", "from mlx_velocity.stats import ratio\n", "tracks:1 imports mlx_velocity.stats"),
    "an edge that takes more of the probe than its profiles": (
        "tracks", "from mlx_velocity.probe import case\n", "tracks:1 imports mlx_velocity.probe.case",
    ),
    "someone who imports the top": ("tracks", "from mlx_velocity.cli import app\n", "tracks:1 imports mlx_velocity.cli"),
    "a relative import upwards": ("probe.case", "from ..tracks import load\n", "probe.case:1 imports mlx_velocity.tracks"),
    "a relative import upwards of a package": (
        "probe", "from .. import scheduler\n", "probe:1 imports mlx_velocity.scheduler",
    ),
    "an import under a condition": (
        "errors", "try:\n    import numpy\nexcept ImportError:\n    pass\n", "errors:2 imports numpy at all",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", list(OFFENDERS))
def test_the_checker_finds_an_offence(what: str) -> None:
    """The checker sees each kind of offence in a made-up module."""
    module, source, expected = OFFENDERS[what]
    assert offences(module, source, KNOWN) == [expected]


def test_the_checker_lets_good_modules_pass() -> None:
    """What the rules allow is no offence."""
    good = "from __future__ import annotations\nimport os\nfrom mlx_velocity.probe import profiles\n"
    assert offences("tracks", good + "import git\nfrom mlx_velocity.errors import InputError\n", KNOWN) == []
    assert offences("probe.case", "import os\n\ndef f():\n    import mlx.core as mx\n", KNOWN) == []
    assert offences("stats", "import math\nfrom scipy.stats import t\n", KNOWN) == []


def test_a_module_that_the_table_lacks_is_found() -> None:
    """A module without a row is named by the test, not passed over."""
    assert layer_of("brand_new") is None
    assert layer_of("brand.new") is None
    assert layer_of("probe.new") == "probe"

"""`across`: what is measured beside MLX, that it is the same, and that what is not the same is found out."""

from __future__ import annotations

import importlib.util
import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from rich.console import Console

from mlx_velocity import across, fairness, rotation, sameness, schemas
from mlx_velocity.across import Across, Check, Entry, Missing, Participant, Row, Task, Turn
from mlx_velocity.commands import across as command
from mlx_velocity.errors import InputError
from mlx_velocity.frameworks import gguf_file, interface, on_mlx, operators, tasks
from mlx_velocity.probe import kept, models, shapes
from mlx_velocity.report import across as report
from mlx_velocity.standing import standing
from mlx_velocity.workers import WorkerError

SCHEMA = schemas.load("across.schema.json")
SIZE = operators.sizes(shapes.SHAPES["tiny"], 16)


def has(*modules: str) -> bool:
    return all(importlib.util.find_spec(module) for module in modules)


torch_only = pytest.mark.skipif(not has("torch"), reason="PyTorch is not installed: the extra torch")
llama_only = pytest.mark.skipif(
    not has("llama_cpp", "gguf"), reason="llama.cpp is not installed: the extra llama-cpp"
)
gguf_only = pytest.mark.skipif(not has("gguf"), reason="gguf is not installed: the extra dev")


def made(framework: str) -> Any:
    """A framework on one thread of the CPU, in this process."""
    if framework == "torch":
        from mlx_velocity.frameworks.on_torch import Torch

        return Torch("cpu", 1)
    if framework == "llama.cpp":
        from mlx_velocity.frameworks.on_llama_cpp import LlamaCpp

        return LlamaCpp("cpu", 1)
    return on_mlx.Mlx("cpu", 1)


FRAMEWORKS = [
    "mlx",
    pytest.param("torch", marks=torch_only),
    pytest.param("llama.cpp", marks=llama_only),
]


# The same computation


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", operators.OPERATORS)
def test_every_operator_gives_what_numpy_gives(framework: str, dtype: str, name: str) -> None:
    """An operator of a framework gives numpy's float64 result, within the rounding of its type."""
    given = operators.inputs(name, SIZE)
    wanted = operators.reference(name, given, SIZE)
    if framework == "torch" and name in operators.BITS:
        with pytest.raises(NotImplementedError, match="PyTorch alone has no"):
            made(framework).operator(name, given, SIZE, dtype)
        return
    operator = made(framework).operator(name, given, SIZE, dtype)
    operator.call(3)
    assert operators.error(operator.result(), wanted) <= operators.tolerance(name, dtype)


@pytest.mark.parametrize("name", operators.OPERATORS)
def test_a_wrong_result_is_outside_of_the_tolerance(name: str) -> None:
    """Results with half of their values exchanged, or of another shape, are not taken for the same."""
    wanted = operators.reference(name, operators.inputs(name, SIZE), SIZE)
    assert operators.error(np.flip(wanted, axis=-1), wanted) > operators.tolerance(name, "bfloat16")
    assert operators.error(wanted[..., :-1], wanted) == float("inf")
    assert operators.error(wanted * np.nan, wanted) == float("inf")


def test_inputs_are_decided_by_name_and_sizes() -> None:
    """Two processes make the same inputs; another operator or size gets others."""
    one, same = operators.inputs("rope", SIZE), operators.inputs("rope", SIZE)
    assert operators.digest(one) == operators.digest(same)
    assert operators.digest(one) != operators.digest(operators.inputs("rope", {**SIZE, "T": 8}))


# The GGUF


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder with the files of a model, written once."""
    written: dict[str, Path] = {}

    def folder(spec: str) -> Path:
        if spec not in written:
            written[spec] = tmp_path_factory.mktemp(spec)
            on_mlx.write(spec, str(written[spec]), True)
        return written[spec]

    return folder


@gguf_only
@pytest.mark.parametrize("spec", ["tiny-float32", "tiny-bfloat16"])
def test_a_gguf_is_read_back_as_the_same_weights(spec: str, files: Callable[[str], Path]) -> None:
    """The GGUF holds every weight of the model, in its own names and row order, bit for bit."""
    facts = on_mlx.Mlx("cpu", 1).load(spec, "")
    path = files(spec) / "model.gguf"
    assert interface.digest_of_weights(gguf_file.read(path, models.config(spec))) == facts["digest"]
    assert gguf_file.weights_of(path)[0] == facts["weights"] == 1_968_384


@gguf_only
def test_a_gguf_has_the_metadata_of_the_shape(files: Callable[[str], Path]) -> None:
    """The metadata are those of the config.json, under llama.cpp's names."""
    import gguf

    fields = gguf.GGUFReader(files("tiny-float32") / "model.gguf").fields
    config = models.config("tiny-float32")
    expected = {
        "general.architecture": "llama",
        "llama.embedding_length": config["hidden_size"],
        "llama.block_count": config["num_hidden_layers"],
        "llama.feed_forward_length": config["intermediate_size"],
        "llama.attention.head_count": config["num_attention_heads"],
        "llama.attention.head_count_kv": config["num_key_value_heads"],
        "llama.attention.key_length": config["head_dim"],
        "llama.rope.dimension_count": config["head_dim"],
        "llama.rope.freq_base": config["rope_theta"],
        "llama.vocab_size": config["vocab_size"],
    }
    assert {name: fields[name].contents() for name in expected} == expected


@gguf_only
@pytest.mark.parametrize(("spec", "types", "bits"), [("tiny-8bit", "Q8_0", 8.5), ("tiny-4bit", "Q4_0", 4.5)])
def test_a_quantized_gguf_has_the_bits_of_its_format(
    spec: str, types: str, bits: float, files: Callable[[str], Path]
) -> None:
    """Matrices of a quantized GGUF have the effective bits of their format, scales included; norms stay float32."""
    weights, size, found = gguf_file.weights_of(files(spec) / "model.gguf")
    norms = 9 * 256
    assert found == types
    assert (size - 4 * norms) * 8 / (weights - norms) == bits


def test_rows_of_rotated_projections_change_order_and_come_back() -> None:
    """Halves become neighbours in Llama's query and key projections alone, and the way back is exact."""
    config = models.config("tiny-float32")
    rows = np.arange(256, dtype=np.float32)[:, None]
    moved = gguf_file.permuted("model.layers.0.self_attn.q_proj.weight", rows, config)
    assert moved[:4, 0].tolist() == [0, 32, 1, 33]
    back = gguf_file.permuted("model.layers.0.self_attn.q_proj.weight", moved, config, back=True)
    assert (back == rows).all()
    assert gguf_file.permuted("model.layers.0.self_attn.v_proj.weight", rows, config) is rows
    qwen = {**config, "model_type": "qwen3"}
    assert gguf_file.permuted("model.layers.0.self_attn.q_proj.weight", rows, qwen) is rows


def test_rope_factors_are_those_that_mlx_divides_by() -> None:
    """Llama 3's divisors of the rotary frequencies are the ones of mlx_lm."""
    from mlx_lm.models.rope_utils import Llama3RoPE

    config = models.config("llama-3.2-1b-float32")
    scaling = config["rope_scaling"]
    wavelengths = np.array(Llama3RoPE(64, 131072, base=config["rope_theta"], scaling_config=scaling)._freqs)
    plain = config["rope_theta"] ** (np.arange(0, 64, 2) / 64)
    assert np.allclose(gguf_file.rope_factors(config), wavelengths / plain, rtol=1e-5)
    assert gguf_file.rope_factors(models.config("tiny-float32")) is None


SCALED = {**shapes.SHAPES["tiny"], "num_hidden_layers": 2, "tie_word_embeddings": True, "rope_scaling": {
    **shapes.SHAPES["llama-3.2-1b"]["rope_scaling"], "original_max_position_embeddings": 64}}  # fmt: skip
QWEN_2 = {**SCALED, "model_type": "qwen2", "rope_scaling": None}
QWEN_3 = {**SCALED, "model_type": "qwen3", "rope_scaling": None}


@gguf_only
@pytest.mark.parametrize("framework", FRAMEWORKS[1:])
@pytest.mark.parametrize(
    "shape", [shapes.SHAPES["tiny"], SCALED, QWEN_2, QWEN_3], ids=["tiny", "scaled", "qwen2", "qwen3"]
)
def test_the_same_weights_give_the_same_tokens(
    framework: str, shape: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In float32, another framework generates MLX's greedy tokens from our files of each architecture."""
    monkeypatch.setitem(shapes.SHAPES, "tiny-other", {k: v for k, v in shape.items() if v is not None})
    kept.release("model")
    spec = "tiny-other-float32"
    on_mlx.write(spec, str(tmp_path), True)
    loaded = {}
    for name in ("mlx", framework):
        one = made(name)
        digest = one.load(spec, str(tmp_path))["digest"]
        loaded[name] = digest, one.decode(12).facts(), one.prefill(12).facts()
    kept.release("model")
    first, other = loaded["mlx"], loaded[framework]
    assert first[0] == other[0]
    assert first[1] == other[1]
    assert {**first[2], "logits": None} == {**other[2], "logits": None}
    assert np.allclose(first[2]["logits"], other[2]["logits"], atol=1e-4)


@gguf_only
def test_an_unknown_architecture_is_refused(tmp_path: Path) -> None:
    """A model type whose names and rotations are not known gives no GGUF, rather than a wrong one."""
    with pytest.raises(NotImplementedError, match="mamba2"):
        gguf_file.write(tmp_path / "x.gguf", models.config("tiny-mamba-float32"), {}, "float32")
    with pytest.raises(InputError, match="no counterpart"):
        tasks.plan(["tiny-mamba-float32"], 16)


# Checks that find what is unfair

MODEL = {
    "digest": "aa", "weights": 1000, "bytes": 4000,
    "dtypes": {"weights": "float32", "activations": "float32", "kv_cache": "float32"},
}  # fmt: skip
QUANTIZED = {**MODEL, "digest": None, "bytes": 563,
             "dtypes": {"weights": "4bit in groups of 64", "activations": "float32", "kv_cache": "float32"}}  # fmt: skip
PREFILL = {
    "prompt": "p",
    "prompt_tokens": 8,
    "chunk": 8,
    "logits_rows": 8,
    "logits": [1.0, -1.0, 2.0],
    "warm_ups": 3,
    "calls": 1,
}
DECODE = {"prompt": "d", "prompt_tokens": 9, "steps": 3, "logits_rows": 1, "sampling": "argmax", "read_by_host": "every token",
          "tokens": [1, 2, 3, 4], "warm_ups": 3, "calls": 1}  # fmt: skip
MATMUL = {"inputs": "i", "error": 1e-7, "tolerance": 1e-4, "calls": 4, "warm_ups": 3, "bits": None,
          "dtypes": {"weights": "float32", "activations": "float32"}}  # fmt: skip
QMATMUL = {**MATMUL, "bits": 4.5, "dtypes": {"weights": "4bit", "activations": "float32"}}
SPEC = "tiny-float32"


def turns(seconds: float = 1.0, **changes: Any) -> list[Turn]:
    fields = {"samples": [seconds] * 3, "busy_cores": 1.0, "waited_s": 1.0, "idle_s": 0.001, **changes}
    return [Turn(0, number, **fields) for number in range(4)]


def scene(**changed: Any) -> tuple[list[Participant], list[Row]]:
    """A fair run of MLX and PyTorch, but for what is changed on PyTorch's side."""
    about = {"version": "1", "device": "cpu", "kind": "cpu", "threads": 1, "build": ""}
    model = changed.pop("both_models", MODEL)
    participants = [
        Participant("mlx", about, [1], {SPEC: model}),
        Participant("torch", {**about, **changed.pop("about", {})}, changed.pop("affinity", [1]),
                    {SPEC: {**model, **changed.pop("model", {})}}),
    ]  # fmt: skip
    seen = changed.pop("turns", turns())
    rows = [
        Row(Task(kind, name, SPEC, "", 8, work), [Entry("mlx", facts, turns()),
            Entry("torch", {**facts, **changed.pop(name if kind == "operator" else kind, {})}, seen)], {})
        for kind, name, work, facts in (
            ("operator", "matmul", None, MATMUL), ("operator", "matmul_4bit", None, QMATMUL),
            ("prefill", SPEC, 8, PREFILL), ("decode", SPEC, 3, DECODE),
        )
    ]  # fmt: skip
    assert not changed
    return participants, rows


def findings(**changed: Any) -> dict[tuple[str, str], Check]:
    checks = fairness.checks(*scene(**changed), threads=1)
    return {(check.name, check.subject): check for check in checks}


def test_a_fair_run_passes_every_check() -> None:
    """Where all is the same, every check says so, and says what it saw of both."""
    found = findings()
    assert {check.finding for check in found.values()} == {"equal"}
    assert len(found) == 15
    assert all(set(check.seen) == {"mlx", "torch"} and check.sentence for check in found.values())


F16 = {"weights": "float32", "activations": "float16", "kv_cache": "float32"}
UNFAIR: dict[str, tuple[dict[str, Any], str, str, str]] = {
    "another type of activations": ({"model": {"dtypes": F16}}, "types", SPEC, "differs"),
    "another type in an operator": ({"matmul": {"dtypes": {**F16}}}, "types", "operators", "differs"),
    "other weights": ({"model": {"digest": "bb"}}, "weights", SPEC, "wrong"),
    "fewer weights": ({"model": {"weights": 900}}, "weights", SPEC, "wrong"),
    "more bits": ({"both_models": QUANTIZED, "model": {"bytes": 625}}, "weights", SPEC, "differs"),
    "more bits in an operator": ({"matmul_4bit": {"bits": 5.0}}, "bits", "operators", "differs"),
    "another prompt": ({"prefill": {"prompt": "q"}}, "prompt and length", SPEC, "wrong"),
    "a longer prompt": ({"prefill": {"prompt_tokens": 16}}, "prompt and length", SPEC, "wrong"),
    "fewer generated tokens": ({"decode": {"steps": 2}}, "prompt and length", SPEC, "wrong"),
    "only the last logits": ({"prefill": {"logits_rows": 1}}, "evaluated", SPEC, "differs"),
    "tokens that stay on the device": ({"decode": {"read_by_host": "at the end"}}, "evaluated", SPEC, "differs"),
    "other logits": ({"prefill": {"logits": [1.0, -1.0, 2.1]}}, "logits", SPEC, "wrong"),
    "logits that are no numbers": ({"prefill": {"logits": [1.0, -1.0, float("nan")]}}, "logits", SPEC, "wrong"),
    "other tokens": ({"decode": {"tokens": [1, 2, 9, 9]}}, "greedy", SPEC, "wrong"),
    "sampling by chance": ({"decode": {"sampling": "top-p"}}, "greedy", SPEC, "differs"),
    "a wrong result": ({"matmul": {"error": 0.5}}, "results", "operators", "wrong"),
    "other inputs": ({"matmul": {"inputs": "j"}}, "results", "operators", "wrong"),
    "less work in a sample": ({"matmul": {"calls": 2}}, "results", "operators", "wrong"),
    "another device": ({"about": {"kind": "gpu"}}, "device", "", "differs"),
    "more threads": ({"about": {"threads": 2}}, "threads", "", "differs"),
    "more cores than threads": ({"turns": turns(busy_cores=1.9)}, "threads", "", "differs"),
    "a core that others use": ({"turns": turns(busy_cores=0.5)}, "undisturbed", "", "differs"),
    "another core": ({"affinity": [0]}, "machine", "", "differs"),
    "computing while others are measured": ({"turns": turns(idle_s=0.5)}, "alone", "", "differs"),
    "a cold start": ({"turns": [replace(turns()[0], samples=[2.0]), *turns()[1:]]}, "warm", "", "differs"),
    "no warm-up": ({"matmul": {"warm_ups": 0}}, "warm", "", "differs"),
}  # fmt: skip


@pytest.mark.parametrize("what", list(UNFAIR))
def test_what_is_planted_unfair_is_found(what: str) -> None:
    """Each thing that is not the same is found by the check that is for it, and PyTorch is named."""
    changed, name, subject, finding = UNFAIR[what]
    check = findings(**changed)[name, subject]
    assert check.finding == finding
    assert check.apart == ["torch"]


def test_quantized_weights_are_compared_by_their_bits() -> None:
    """Weights that each framework quantized by itself are equal in bits or not, and tokens may part."""
    found = findings(both_models=QUANTIZED, decode={"tokens": [1, 9, 9, 9]})
    assert found["weights", SPEC].finding == "equal"
    assert "4.50 bits" in found["weights", SPEC].seen["mlx"]
    assert found["greedy", SPEC].finding == "equal"
    assert found["logits", SPEC].finding == "unknown"


def test_what_is_not_the_same_gets_no_ratio() -> None:
    """A framework that computed something else has no place in the table, with the reason."""
    _, rows = scene(matmul={"error": 0.5}, decode={"tokens": [9, 9, 9, 9]})
    placed = [command.row_of(row.task, row.entries) for row in rows]
    assert "torch" not in placed[0].standings
    assert "something else" in str(placed[0].entries[1].reason)
    checks = fairness.checks(*scene(decode={"tokens": [9, 9, 9, 9]}), threads=1)
    assert "torch" not in command.without_wrong(placed[3], checks).standings
    assert "torch" in placed[1].standings


def test_a_ratio_is_taken_within_a_round() -> None:
    """A machine that slows down for all leaves the ratio where it is."""
    slower = [replace(turn, samples=[2.0 * (1 + turn.round)]) for turn in turns()]
    mlx = [replace(turn, samples=[1.0 * (1 + turn.round)]) for turn in turns()]
    place = standing(slower, mlx)
    assert (place.ratio_low, place.ratio, place.ratio_high) == (2.0, 2.0, 2.0)
    assert standing(mlx, None).ratio is None


# Who is there, and who is not


def test_a_missing_framework_is_named_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is not installed is left out with its reason and the command, and the others go on."""
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name in ("torch", "llama_cpp") else real("json")
    )
    present, missing = command.look_for(())
    assert present == ["mlx"]
    assert missing == [
        Missing("torch", "torch not installed", "pip install 'mlx-velocity[torch]'"),
        Missing("llama.cpp", "llama_cpp not installed", "pip install 'mlx-velocity[llama-cpp]'"),
    ]
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(InputError, match="mlx and mlx_lm not installed"):
        command.look_for(())
    with pytest.raises(InputError, match="'jax' is no framework"):
        command.look_for(("jax",))


class FakeWorker:
    """Answers like a worker; dies at a task of a given name."""

    def __init__(self, log: list[str], name: str, dies_at: str) -> None:
        self.log, self.name, self.dies_at = log, name, dies_at

    def request(self, message: dict[str, Any], _timeout_s: float) -> dict[str, Any]:
        self.log.append(f"{self.name} {message['op']}")
        if message.get("name") == self.dies_at:
            raise WorkerError("exit -6 (SIGABRT)")
        return {
            "hello": {"affinity": [1]},
            "open": {"about": {"kind": "cpu"}},
            "ready": {"facts": {**MATMUL, "calls": message.get("calls") or 5}},
            "turn": {"samples": [1.0], "busy_cores": 1.0, "waited_s": 1.0, "idle_s": 0.0},
        }[message["op"]]

    def close(self) -> None:
        self.log.append(f"{self.name} close")


def rotated(dies_at: str = "") -> tuple[list[str], list[tuple[Task, list[Entry]]]]:
    log: list[str] = []
    seats = [
        rotation.Seat(name, lambda name=name: FakeWorker(log, name, dies_at if name == "torch" else ""), "cpu", 1, [1])
        for name in ("torch", "mlx")
    ]  # fmt: skip
    found: list[tuple[Task, list[Entry]]] = []
    chosen = [Task("operator", name, SPEC, "", 8) for name in ("matmul", "rope")]
    plan = rotation.Plan(6, 2, 7, {})
    rotation.rotate(
        seats,
        chosen,
        plan,
        tasks.message,
        lambda task, entries: found.append((task, entries)),
        lambda _: None,
    )
    return log, found


def test_frameworks_take_turns_in_an_order_that_is_drawn() -> None:
    """In every round each framework has one turn, not always in the same order; MLX sets the calls of all."""
    log, found = rotated()
    order = [line.split()[0] for line in log if line.endswith("turn")][:12]
    pairs = [tuple(order[index : index + 2]) for index in range(0, 12, 2)]
    assert set(pairs) == {("mlx", "torch"), ("torch", "mlx")}
    assert all(entry.facts["calls"] == 5 for _, entries in found for entry in entries)
    assert [turn.launch for _, entries in found for turn in entries[0].turns] == [0] * 12 + [1] * 12
    assert log.count("mlx close") == 2


def test_a_framework_that_dies_is_left_out_of_that_task_alone() -> None:
    """A crash costs the task it happened in; the other framework and the next task go on."""
    _, found = rotated(dies_at="matmul")
    (_, matmul), (_, rope) = found[:2]
    entries = {entry.framework: entry for entry in matmul}
    assert (entries["torch"].failed, entries["torch"].reason) == (True, "exit -6 (SIGABRT)")
    assert len(entries["mlx"].turns) == 6
    assert all(len(entry.turns) == 6 for entry in rope)


# What is shown


def run_of(**changed: Any) -> Across:
    participants, rows = scene(**changed)
    rows = [command.row_of(row.task, row.entries) for row in rows]
    checks = fairness.checks(participants, rows, 1)
    missing = [Missing("llama.cpp", "llama_cpp not installed", "pip install 'mlx-velocity[llama-cpp]'")]
    machine = {"machine": "m", "cpu": "a|chip", "gpu": ""}
    return Across(
        machine, "2026-01-02T03:04:05.000Z", 9.0, "cpu", 1, 4, 1, 7, participants, missing, rows, checks
    )


def shown(done: Across, width: int = 150) -> str:
    console = Console(width=width, record=True, file=io.StringIO())
    for part in report.terminal(done):
        console.print(part)
    return console.export_text()


def test_the_table_says_what_a_cpu_can_show_and_who_is_missing() -> None:
    """The output names the missing framework and its command, and that a CPU says little about GPUs."""
    text = shown(run_of())
    assert "left out llama.cpp: llama_cpp not installed; pip install 'mlx-velocity[llama-cpp]'" in text
    assert "says little about GPUs" in text
    assert "≠" not in text


def test_a_difference_is_marked_beside_its_ratio() -> None:
    """A ratio that a check found a difference in carries a mark, in the terminal and in Markdown."""
    done = run_of(matmul_4bit={"bits": 5.0})
    lines = {line.split()[0]: line for line in shown(done).splitlines() if line.strip()}
    assert lines["matmul_4bit"].rstrip().endswith("1.00 ≠")
    assert lines["matmul"].rstrip().endswith("1.00")
    assert "1.00 ≠ |" in report.markdown(done)
    # Of the reference, in every ratio.
    check = Check("warm", "", "differs", "cold", {"mlx": "", "torch": ""}, ["mlx"])
    assert "| 1.00 ≠ |" in report.markdown(replace(run_of(), checks=[check]))


def test_the_json_is_described_by_its_schema() -> None:
    """The JSON of a run, even with values that are no numbers, follows the schema of its version."""
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    validator = jsonschema.Draft202012Validator(SCHEMA)
    for done in (run_of(), run_of(prefill={"logits": [float("nan")] * 3})):
        validator.validate(json.loads(report.document(done)))
    assert SCHEMA["properties"]["format"]["const"] == across.FORMAT


def test_exit_codes() -> None:
    """0 where all is told apart, 3 where nothing stands beside MLX, 4 where something else was computed."""
    quiet = Console(file=io.StringIO())
    assert command.show(run_of(), None, None, True, quiet) == 0
    alone = run_of()
    assert command.show(replace(alone, participants=alone.participants[:1]), None, None, True, quiet) == 3
    assert command.show(run_of(matmul={"error": 0.5}), None, None, True, quiet) == 4


def test_mlx_alone_is_measured_for_real(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole way through a real worker: one operator and one model, written, loaded, checked and timed."""
    monkeypatch.setattr(command, "FRAMEWORKS", ("mlx",))
    options = command.AcrossOptions(("tiny-float32",), 16, (), "cpu", 1, 2, 1, "rms_norm|decode", True)
    done = command.across(options, Console())
    assert [row.task.label for row in done.rows] == ["rms_norm", "decode tiny-float32"]
    assert all(len(row.entries[0].turns) == 2 and row.standings["mlx"].seconds > 0 for row in done.rows)
    jsonschema.validate(json.loads(report.document(done)), SCHEMA)


def test_every_check_reads_what_the_frameworks_say() -> None:
    """The facts that the checks compare are facts that MLX's stages give."""
    framework = on_mlx.Mlx("cpu", 1)
    framework.load(SPEC, "")
    assert set(PREFILL) - {"warm_ups", "calls"} == set(framework.prefill(8).facts())
    assert set(DECODE) - {"warm_ups", "calls"} == set(framework.decode(8).facts())
    assert sameness.same_weights({"mlx": MODEL, "torch": MODEL})

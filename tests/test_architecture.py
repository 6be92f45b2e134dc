"""The house: imports go downwards only, NumPy and SciPy alone, one screen a function, the contract."""

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import tinylm as tl

ROOT = Path(tl.__file__).parent
FLOORS = [
    ["version", "files", "threads", "workers", "autograd"],
    ["ops", "checkpoint", "download"],
    ["nn", "text", "oracle"],
    ["beam"],
    ["models"],
    ["training", "evaluation", "generation", "interpret", "compress"],
    ["settings", "golden", "pytest_plugin", "hub"],
    ["run", "arguments"],
    ["planning", "report", "oracle_cli"],
    ["cli"],
    ["__main__", "__init__"],
]
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
ENGINE = [
    "trees",
    "rules",
    "arraylike",
    "tracing",
    "vjp",
    "transforms",
    "derivatives",
    "names",
    "fused",
    "recompute",
]
EXTRAS = {"hypothesis", "jax", "matplotlib", "mpmath", "threadpoolctl", "torch"}
FILES = sorted(ROOT.rglob("*.py"))
MODULES = {"tinylm." + ".".join(p.relative_to(ROOT).with_suffix("").parts) for p in FILES}
FILE = pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))


def imports(tree):
    """(module, node) of every import in a file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                is_module = not MODULES.isdisjoint((inner, f"{inner}.__init__"))
                yield inner if is_module else node.module, node


def room(parts):
    return parts[0].removesuffix(".py")


@FILE
def test_a_file_imports_from_lower_floors_only(path):
    mine = path.relative_to(ROOT).parts
    for module, _ in imports(ast.parse(path.read_text())):
        parts = module.split(".")
        if parts[0] != "tinylm":
            continue
        assert len(parts) > 1, "the whole package is imported from inside"
        if parts[1] != room(mine):
            assert FLOOR[parts[1]] < FLOOR[room(mine)], f"{path.name} imports {module}"
        elif room(mine) == "autograd" and mine[1] != "__init__.py" and len(parts) > 2:
            below = ENGINE.index(parts[2]) < ENGINE.index(mine[1].removesuffix(".py"))
            assert below or parts[2] == mine[1], f"{path.name} imports {module}"


def test_no_two_files_import_each_other():
    below = {}
    for path in FILES:
        name = "tinylm." + ".".join(path.relative_to(ROOT).with_suffix("").parts)
        found = {
            module
            for module, _ in imports(ast.parse(path.read_text()))
            if module.startswith("tinylm.")
        }
        below[name.removesuffix(".__init__")] = found
    done = set()

    def visit(name, above):
        assert name not in above, " -> ".join([*above, name])
        if name not in done and name in below:
            for module in below[name]:
                visit(module, [*above, name])
            done.add(name)

    for name in below:
        if name != "tinylm":
            visit(name, [])


@FILE
def test_the_core_imports_numpy_and_scipy_only(path):
    tree = ast.parse(path.read_text())
    at_the_top = set(map(id, tree.body))
    for module, node in imports(tree):
        package = module.split(".")[0]
        if package in sys.stdlib_module_names | {"numpy", "scipy", "tinylm"}:
            continue
        if package == "pytest" and path.name == "pytest_plugin.py":  # which pytest loads
            continue
        assert package in EXTRAS, f"{path.name} imports {module}"
        assert id(node) not in at_the_top, f"{module} is an extra: import it where it is used"


def test_what_importing_tinylm_loads():
    code = (
        "import sys; before = set(sys.modules); import numpy, scipy.special; base = set(sys.modules);"
        "import tinylm; print(*sorted({m.split('.')[0] for m in set(sys.modules) - base}))"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert set(loaded) - sys.stdlib_module_names <= {"tinylm", "scipy"}
    assert not {"matplotlib", "argparse", "urllib", "hypothesis", "torch"} & set(loaded)


@FILE
def test_one_screen_a_function(path):
    """At most 60 lines without the docstring; a file at most 350."""
    source = path.read_text()
    assert source.count("\n") <= 350
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            length = body[-1].end_lineno - body[0].lineno + 1 if body else 0
            assert length <= 60, f"{node.name} has {length} lines"


@FILE
def test_a_file_opens_with_a_sentence(path):
    docstring = ast.get_docstring(ast.parse(path.read_text()))
    assert docstring
    assert docstring.split("\n\n")[0].rstrip().endswith((".", "``."))


def test_every_public_name_is_documented():
    for name in tl.__all__:
        thing = getattr(tl, name)
        if name == "__version__":
            continue
        text = inspect.getdoc(thing)
        assert text, name
        assert ">>> " in text, f"{name} has no example"
        if callable(thing) and not inspect.isclass(thing) and inspect.signature(thing).parameters:
            assert re.search(r"Parameters\n-+|as for `\w+`|As `\w+`", text), f"{name}: Parameters"


CONTRACT = {
    "vjp": "(f, *primals)",
    "jvp": "(f, primals, tangents)",
    "grad": "(f, argnums=0)",
    "value_and_grad": "(f, argnums=0)",
    "hvp": "(f, primals, tangents)",
    "jacobian": "(f, argnums=0)",
    "stop_gradient": "(x)",
    "name": "(x, label)",
    "record": "(watch=None)",
    "patch": "(patches)",
    "formulas": "()",
    "derivative": "(function)",
    "softmax": "(x, axis=-1)",
    "log_softmax": "(x, axis=-1)",
    "gelu": "(x, approximate=False)",
    "relu": "(x)",
    "silu": "(x)",
    "linear": "(x, W, b=None)",
    "embedding": "(table, ids)",
    "dropout": "(x, rate, rng)",
    "layer_norm": "(x, gain, bias, eps=1e-05)",
    "rms_norm": "(x, gain, eps=1e-05)",
    "attention": "(Q, K, V, mask=None, causal=False, scale=None)",
    "multi_head_attention": "(params, query, key, value, num_heads, mask=None, causal=False, turn=None, past=None)",
    "cross_entropy": "(logits, targets, ignore_index=-100, label_smoothing=0.0, weights=None)",
    "sinusoidal_encoding": "(length, d_model)",
    "rotary": "(x, positions, base=10000.0)",
    "Trainer": "(model, params, optimizer, clip_norm=None, shards=1, threads=1, rng=None, processes=1, rates=None, communicator=None)",
    "balanced_weights": "(labels, num_classes)",
    "fit": "(trainer, batches, measure, *, best, every, patience, until)",
    "transfer": "(params, fresh, anew=())",
    "fit_power_law": "(sizes, losses)",
    "perplexity": "(model, params, ids, stride=None, batch_size=32, threads=1)",
    "pseudo_perplexity": "(model, params, ids, mask_id, special=(), batch_size=32)",
    "accuracy": "(predicted, actual)",
    "confusion_matrix": "(predicted, actual)",
    "matthews": "(predicted, actual)",
    "bleu": "(hypotheses, references, lowercase=False, tokenize='13a')",
    "rouge": "(hypotheses, references)",
    "exact_match": "(predicted, answers)",
    "answer_f1": "(predicted, answers)",
    "precision": "(predicted, actual, average='macro')",
    "recall": "(predicted, actual, average='macro')",
    "f1": "(predicted, actual, average='macro')",
    "generate": "(model, params, prompt_ids, max_new_tokens, temperature=1.0, top_k=None, top_p=None, rng=None, stop=None)",
    "beam_search": "(model, params, prompt_ids, max_new_tokens, num_beams=4, length_penalty=1.0, stop=None)",
    "save": "(path, params, **metadata)",
    "load": "(path)",
    "corpus": "(source)",
    "from_pretrained": "(directory, task=None, dtype=None)",
    "save_pretrained": "(directory, model, params, tokenizer=None, labels=(), generation=None)",
}


def test_what_is_loaded_late_is_what_type_checkers_see():
    tree = ast.parse((ROOT / "__init__.py").read_text())
    late = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {n.module.split(".")[1]: [a.name for a in n.names] for n in late.body[1:]}
    rooms = {alias.name: [] for alias in late.body[0].names}
    assert seen | rooms == tl._ROOMS
    for room, names in tl._ROOMS.items():
        assert inspect.ismodule(getattr(tl, room))
        assert set(names) <= set(tl.__all__) & set(dir(tl))
    with pytest.raises(AttributeError, match="no attribute 'GTP'"):
        _ = tl.GTP


@pytest.mark.parametrize("name", CONTRACT)
def test_the_contract_stands(name):
    signature = inspect.signature(getattr(tl, name))
    plain = [p.replace(annotation=p.empty) for p in signature.parameters.values()]
    assert str(inspect.Signature(plain)) == CONTRACT[name]
    assert name in tl.__all__


def test_the_classes_of_the_contract():
    for model in (tl.GPT, tl.BERT):
        fields = list(inspect.signature(model).parameters)
        assert fields[:5] == ["vocab_size", "context_length", "d_model", "num_heads", "num_layers"]
    assert list(inspect.signature(tl.Transformer).parameters)[:6] == [
        "vocab_size",
        "context_length",
        "d_model",
        "num_heads",
        "num_encoder_layers",
        "num_decoder_layers",
    ]
    assert list(inspect.signature(tl.SGD).parameters)[:4] == [
        "lr",
        "momentum",
        "nesterov",
        "weight_decay",
    ]
    assert list(inspect.signature(tl.AdamW).parameters)[:4] == [
        "lr",
        "betas",
        "eps",
        "weight_decay",
    ]
    kinds = (tl.CharTokenizer, tl.WordTokenizer, tl.BPETokenizer, tl.WordPieceTokenizer)
    for tokenizer in kinds:
        for method in ("train", "encode", "decode", "save", "load", "vocab_size"):
            assert hasattr(tokenizer, method)
    for tokenizer in (tl.BPETokenizer, tl.WordPieceTokenizer):
        assert list(inspect.signature(tokenizer.train).parameters)[:2] == ["text", "vocab_size"]
    assert list(inspect.signature(tl.WordTokenizer.train).parameters)[:3] == [
        "text",
        "vocab_size",
        "stop_words",
    ]

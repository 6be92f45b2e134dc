"""The check against kernels that are right, and against mutants of them: none slips through."""

from fnmatch import fnmatch

import numpy as np
import pytest
from kernels import BUGS, MODEL, bf16, flash, inputs

import tinylm as tl
from tinylm import oracle
from tinylm.oracle.reference import differentiable, tolerances
from tinylm.oracle.verdict import judge

EVERY = [(kernel, bug) for kernel, bugs in BUGS.items() for bug in bugs]
NAME = {kernel: "attention" if kernel is flash else kernel.__name__ for kernel in BUGS}
ATTRIBUTES = {kernel: {"causal": True} if kernel is flash else {} for kernel in BUGS}
BARE = {"seeds": 0, "layouts": (), "edges": ()}


def label(x):
    return x if isinstance(x, str) else x.__name__


def check(kernel, bug, seed, T=64, **options):
    return oracle.check(
        kernel(bug), NAME[kernel], inputs(kernel, seed, T), rounding=MODEL[kernel],
        **ATTRIBUTES[kernel], **options,
    )  # fmt: skip


def accepted(kernel, seed, T, bugs):
    """Which of the bugs pass: the verdicts alone, with the expected numbers computed once."""
    given = {
        name: bf16(x) if x.dtype.kind == "f" else x for name, x in inputs(kernel, seed, T).items()
    }
    arguments = {**given, **ATTRIBUTES[kernel]}
    cotangent = arguments.pop("cotangent")
    function, names = differentiable(NAME[kernel], arguments)
    arrays = {name: arguments[name] for name in names}
    expected = tolerances(function, arguments, arrays, cotangent, MODEL[kernel])
    handed = {k: x.astype(np.float32) if x.dtype.kind == "f" else x for k, x in given.items()}
    passed = []
    for bug in bugs:
        value, grads = kernel(bug)(**{name: x.copy() for name, x in handed.items()})
        got = {"value": value, **grads}
        if all(judge(n, got[n], x.value, x.allowed, io="bf16").ok for n, x in expected.items()):
            passed.append(bug)
    return passed


@pytest.mark.parametrize("kernel", BUGS, ids=label)
def test_kernels_that_are_right_are_accepted(kernel):
    for seed in range(3):
        assert check(kernel, None, seed).ok


@pytest.mark.parametrize(("T", "seeds", "with_bugs"), [(64, 32, 32), (256, 32, 1)])
def test_of_flash_attention_no_right_one_is_rejected_and_no_mutant_accepted(T, seeds, with_bugs):
    for seed in range(seeds):
        bugs = [None, *(BUGS[flash] if seed < with_bugs else ())]
        assert accepted(flash, seed, T, bugs) == [None], f"seed {seed}"


@pytest.mark.parametrize("kernel", [k for k in BUGS if k is not flash], ids=label)
def test_of_other_kernels_no_right_one_is_rejected_and_no_mutant_accepted(kernel):
    for seed in range(32):
        assert accepted(kernel, seed, 64, [None, *BUGS[kernel]]) == [None], f"seed {seed}"


@pytest.mark.parametrize(("kernel", "bug"), EVERY, ids=label)
def test_mutants_are_rejected_and_the_cause_is_named(kernel, bug):
    causes = []
    for seed in range(3):
        with pytest.raises(oracle.GradientMismatch) as caught:
            check(kernel, bug, seed, **BARE)
        causes.append(str(caught.value.report.causes[0]) if caught.value.report.causes else "none")
    named = [cause for cause in causes if fnmatch(cause, f"*{BUGS[kernel][bug]}*")]
    assert len(named) >= 2, causes


def test_causes_at_a_larger_size():
    wanted = {"delta 2% off": "*delta*, 2*%", "last block 10% off": "*S = 240 to 255, the last 16*"}
    for bug, cause in wanted.items():
        with pytest.raises(oracle.GradientMismatch) as caught:
            check(flash, bug, 0, T=256, **BARE)
        assert fnmatch(str(caught.value.report.causes[0]), f"{cause}*")


@pytest.mark.parametrize(
    ("bug", "cause"),
    [
        (None, ""),
        ("heads not summed", "the gradient of K is not summed over what shares it: only the first"),
        ("d_V 1% off", "the gradient of V is"),
    ],
)
def test_heads_that_share_keys(bug, cause):
    rng = np.random.default_rng(5)
    shapes = {
        "Q": (2, 4, 16, 8),
        "K": (2, 1, 16, 8),
        "V": (2, 1, 16, 8),
        "cotangent": (2, 4, 16, 8),
    }
    given = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
    if bug is None:
        assert oracle.check(flash(), "attention", given, rounding=MODEL[flash], causal=True).ok
        return
    with pytest.raises(oracle.GradientMismatch) as caught:
        oracle.check(flash(bug), "attention", given, rounding=MODEL[flash], causal=True, **BARE)
    assert str(caught.value.report.causes[0]).startswith(cause)


@pytest.mark.parametrize(
    ("missing", "cause"),
    [
        ("label_smoothing", "the targets are not smoothed"),
        ("weights", "the weights of the classes are missing"),
    ],
)
def test_options_of_the_cross_entropy_that_are_missing(missing, cause):
    rng = np.random.default_rng(6)
    options = {"label_smoothing": 0.1, "weights": rng.uniform(0.5, 2, 5)}
    given = {
        "logits": rng.standard_normal((16, 5)),
        "targets": np.where(rng.random(16) < 0.2, -100, rng.integers(0, 5, 16)),
        "cotangent": 0.7,
    }

    def kernel(left):
        def run(logits, targets, cotangent):
            loss, pullback = tl.vjp(lambda x: tl.cross_entropy(x, targets, **left), logits)
            return loss, {"logits": pullback(cotangent)[0]}

        return run

    strict = oracle.Rounding(io="f32")
    assert oracle.check(
        kernel(options), "cross_entropy", given, rounding=strict, **options, **BARE
    ).ok
    options_left = {key: x for key, x in options.items() if key != missing}
    with pytest.raises(oracle.GradientMismatch) as caught:
        oracle.check(
            kernel(options_left), "cross_entropy", given, rounding=strict, **options, **BARE
        )
    assert caught.value.report.causes[0].text == cause


def test_an_intermediate_that_was_not_said_to_be_rounded():
    strict = oracle.Rounding(io="f32")

    def kernel(Q, K, V, cotangent):
        def rounded(weights):
            return bf16(weights)

        from tinylm.oracle.mistakes import Program

        given = {"Q": Q, "K": K, "V": V}
        function = differentiable("attention", given)[0]
        made = Program(function, given, given, cotangent, {}).run({"weights": rounded})
        return made.pop("value"), made

    rng = np.random.default_rng(0)
    given = dict(zip(("Q", "K", "V", "cotangent"), rng.standard_normal((4, 32, 16)), strict=True))
    with pytest.raises(oracle.GradientMismatch) as caught:
        oracle.check(kernel, "attention", given, rounding=strict, **BARE)
    assert caught.value.report.causes[0].text == "'weights' is rounded to bf16"
    declared = oracle.Rounding(io="f32", stores={"weights": "bf16"})
    assert oracle.check(kernel, "attention", given, rounding=declared, **BARE).ok


def test_what_no_mistake_explains_is_said_to_be_unexplained():
    def kernel(x, cotangent):
        noise = np.random.default_rng(1).standard_normal(x.shape)
        return 2 * x, {"x": 2 * cotangent + 0.1 * noise}

    given = {"x": np.random.default_rng(2).standard_normal((40, 10))}
    given["cotangent"] = np.random.default_rng(3).standard_normal((40, 10))
    with pytest.raises(oracle.GradientMismatch, match="none of the known mistakes") as caught:
        oracle.check(kernel, lambda x: 2 * x, given)
    assert caught.value.report.causes == ()

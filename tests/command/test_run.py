"""What a command is made of: settings, corpus, run, table, plan."""

import dataclasses
import math
import os
import time
from pathlib import Path

import numpy as np
import pytest

import tinylm as tl
from tinylm import files, planning, report
from tinylm.arguments import parse
from tinylm.autograd import trees
from tinylm.checkpoint import CheckpointError
from tinylm.run import CHECKPOINT, Corpus, Run, load_model
from tinylm.settings import Settings
from tinylm.training import SGD, AdamW, NonFiniteError

TEXT = tl.corpus("python-docs")[:20_000]
SMALL = Settings(
    layers=1, heads=2, d_model=16, context=16, batch=4, steps=10, warmup=2, evaluate_every=5
)


@pytest.fixture
def settings(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(TEXT)
    return dataclasses.replace(SMALL, data=str(path))


@pytest.fixture
def run(settings):
    return Run(settings, Corpus.read(settings))


# Settings.


def test_the_optimizer_is_the_one_asked_for():
    asked = Settings(
        optimizer="adamw", lr=0.01, final_lr=0.002, warmup=9, steps=99, beta1=0.7, beta2=0.8,
        weight_decay=0.3,
    )  # fmt: skip
    adamw = asked.build_optimizer()
    assert isinstance(adamw, AdamW)
    assert (adamw.betas, adamw.weight_decay) == ((0.7, 0.8), 0.3)
    sgd = dataclasses.replace(asked, optimizer="sgd", momentum=0.6).build_optimizer()
    assert isinstance(sgd, SGD)
    assert (sgd.momentum, sgd.weight_decay, sgd.nesterov) == (0.6, 0.3, False)
    for optimizer in (adamw, sgd):
        assert [optimizer.rate(step) for step in (0, 9, 99)] == pytest.approx([0.001, 0.01, 0.002])
        assert optimizer.decayed("W", np.ones((2, 2)))
        assert not optimizer.decayed("b", np.ones(2))


def test_rates_and_intervals_that_are_not_given():
    assert Settings(d_model=64).rates() == pytest.approx((0.01, 0.0001))
    assert Settings(d_model=128, optimizer="sgd").rates() == pytest.approx((0.3, 0.003))
    assert Settings(lr=1.0).rates() == pytest.approx((1.0, 0.01))
    assert Settings(lr=1.0, final_lr=0.0).rates() == (1.0, 0.0)
    assert Settings(steps=101).intervals() == (11, 11)
    assert Settings(steps=100, evaluate_every=7).intervals() == (7, 7)
    assert Settings(steps=100, save_every=3).intervals() == (10, 3)


def test_units_of_time():
    budgets = {"90s": 90, "2m": 120, "1h": 3600, "45": 45, "1.5m": 90}
    for text, seconds in budgets.items():
        assert parse(["train", "--budget", text]).budget == seconds
    for wrong in ("2hm", "5ms", "0.5s", "m", "-1m", "inf", ""):
        with pytest.raises(SystemExit):
            parse(["train", "--budget", wrong])


# The corpus.


def test_words_are_learned_from_the_training_text_alone(settings, tmp_path):
    head, tail = "one two three four. " * 500, "zebra " * 150
    Path(settings.data).write_text(head + tail)
    corpus = Corpus.read(dataclasses.replace(settings, tokenizer="word", vocab_size=60))
    assert " two" in corpus.tokenizer.vocabulary
    assert " zebra" not in corpus.tokenizer.vocabulary
    assert corpus.tokenizer.decode(corpus.validation) == corpus.validation_text


def test_pieces_of_words_are_learned_from_the_training_text_alone(settings):
    head, tail = "one two three four. " * 500, "zebra é " * 100
    Path(settings.data).write_text(head + tail, "utf-8")
    corpus = Corpus.read(dataclasses.replace(settings, tokenizer="bpe", vocab_size=999))
    assert "Ġthree" in corpus.tokenizer.tokens
    assert not [token for token in corpus.tokenizer.tokens[256:] if "z" in token]
    assert corpus.tokenizer.decode(corpus.validation) == corpus.validation_text
    fewer = Corpus.read(dataclasses.replace(settings, tokenizer="bpe", vocab_size=260))
    assert fewer.tokenizer.vocab_size == 260


def test_the_fingerprint_is_of_all_the_text(settings):
    before = Corpus.read(settings)
    for place in (5, -5):
        changed = list(TEXT)
        changed[place] = "~"
        Path(settings.data).write_text("".join(changed))
        with pytest.raises(ValueError, match="is not the text that the run began with"):
            Corpus.read(settings, before.tokenizer, before.fingerprint)


def test_cleaning_is_asked_for(settings):
    Path(settings.data).write_bytes(b"a  b\r\n" * 100)
    assert "\r" in Corpus.read(settings).training_text
    corpus = Corpus.read(dataclasses.replace(settings, clean=True))
    assert corpus.training_text.startswith("a b\na b\n")


# The run.


def test_a_run_clips_and_counts(run, settings):
    assert run.trainer.clip_norm == 1.0
    assert Run(dataclasses.replace(settings, clip=0.0), run.corpus).trainer.clip_norm is None
    assert run.parameters == sum(leaf.size for leaf in trees.leaves(run.trainer.params))


def test_the_curve_tells_both_losses(run, tmp_path):
    losses = []
    run.train(tmp_path, after_step=lambda run: losses.append(run.recent[-1]))
    assert [row["step"] for row in run.curve] == [0, 5, 10]
    assert run.curve[1]["training"] == pytest.approx(np.mean(losses[:5]))
    assert run.curve[2]["training"] == pytest.approx(np.mean(losses[5:]))
    held_out = tl.perplexity(run.model, run.trainer.params, run.corpus.validation).nll
    assert run.curve[2]["validation"] == pytest.approx(held_out)
    assert run.seconds > 0
    assert [row["seconds"] for row in run.curve] == sorted(row["seconds"] for row in run.curve)
    assert run.quick_loss(limit=100) != run.quick_loss()


def test_the_end_is_evaluated_once(run, tmp_path):
    seen = []
    run.train(tmp_path, after_evaluation=lambda run: seen.append(run.trainer.steps))
    Run.resume(tmp_path).train(tmp_path, after_evaluation=lambda run: seen.append("again"))
    assert seen == [0, 5, 10]


def test_a_held_out_loss_that_is_not_finite(run, tmp_path):
    run.train(tmp_path)
    saved = (tmp_path / CHECKPOINT).read_bytes()
    run.trainer.params["token_embedding"] *= 1e3
    run.trainer.params["norm"]["gain"][:] = 1e38
    run.trainer.steps, run.settings.steps = 15, 15
    with pytest.raises(
        NonFiniteError,
        match=r"step 15: the loss on the held-out text is nan; the first intermediate that is not "
        r"finite is '\w+', number \d",
    ):
        run.train(tmp_path)
    assert (tmp_path / CHECKPOINT).read_bytes() == saved


@pytest.mark.parametrize("name", [CHECKPOINT, "curve.csv"])
def test_what_a_killed_save_left_is_removed(run, tmp_path, name):
    run.save(tmp_path)
    (tmp_path / f".{name}.1234").write_text("half")
    Run.resume(tmp_path)
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("tokenizer", None), ("tokenizer", {"kind": "characters"}), ("tokenizer", {"kind": "x"}),
        ("settings", None), ("settings", {"layers": "two"}), ("fingerprint", None),
        ("batches", {"used": 1}), ("batches", None), ("curve", [{"x": 1}]), ("format", 7),
    ],
)  # fmt: skip
def test_metadata_of_something_else(run, tmp_path, key, value):
    run.save(tmp_path)
    nest, told = tl.load(tmp_path / CHECKPOINT)
    told[key] = told[key] | value if key == "settings" and value else value
    if value is None:
        del told[key]
    tl.save(tmp_path / CHECKPOINT, nest, **told)
    with pytest.raises(
        CheckpointError, match="not the checkpoint of a tinylm run|of another model"
    ):
        Run.resume(tmp_path)


def test_a_place_beyond_the_text(run):
    state = run.batches.state()
    with pytest.raises(ValueError, match="999999 windows used of"):
        run.batches.restore({**state, "used": 999_999})


def test_a_folder_is_held_by_one(tmp_path):
    message = "another process is training here"
    with files.held(tmp_path), pytest.raises(ValueError, match=message), files.held(tmp_path):
        raise AssertionError
    with files.held(tmp_path):
        pass
    assert not list(tmp_path.iterdir())


# What is printed.


def rows(table):
    return {
        line[:24].strip(): [float(number) for number in line[24:].split()]
        for line in table.splitlines()[3:]
    }


def test_the_table_is_of_the_held_out_text(run):
    model, params, corpus = run.model, run.trainer.params, run.corpus
    table = report.table(model, params, corpus)
    assert table.startswith("On 1,999 characters of held-out text, 1,999 tokens:")
    printed = rows(table)
    rival = tl.NGram(corpus.training, 7, model.vocab_size)
    for order in (1, 2, 3, 4, 5, 7):
        expected = rival.perplexity(corpus.validation, order).nll
        assert printed[f"{order}-gram, Kneser-Ney"][0] == pytest.approx(expected, abs=1e-4)
    for label, stride in (("GPT, windows of 16", None), ("GPT, 8 or more before", 8)):
        expected = tl.perplexity(model, params, corpus.validation, stride).nll
        nats, perplexity, bits = printed[label]
        assert nats == pytest.approx(expected, abs=1e-4)
        assert perplexity == pytest.approx(math.exp(expected), rel=1e-4)
        assert bits == pytest.approx(expected / math.log(2), abs=1e-4)
    limited = report.table(model, params, corpus, limit=501, what="a text")
    assert limited.startswith("On 500 characters of a text, 500 tokens (of 2,000):")


def test_bits_are_of_characters_not_of_words(settings):
    words = dataclasses.replace(settings, tokenizer="word", vocab_size=300)
    run = Run(words, Corpus.read(words))
    table = report.table(run.model, run.trainer.params, run.corpus)
    tokens = run.corpus.validation.size - 1
    characters = len(run.corpus.validation_text) - len(
        run.corpus.tokenizer.decode(run.corpus.validation[:1])
    )
    assert table.startswith(f"On {characters:,} characters of held-out text, {tokens:,} tokens:")
    nats, _, bits = rows(table)["GPT, windows of 16"]
    assert bits == pytest.approx(nats / math.log(2) * tokens / characters, rel=1e-3)


def test_few_tokens_have_short_rivals(settings):
    Path(settings.data).write_text("abcdefg")
    short = dataclasses.replace(settings, context=2, validation=0.3)
    run = Run(short, Corpus.read(short))
    assert list(rows(report.table(run.model, run.trainer.params, run.corpus))) == [
        "1-gram, Kneser-Ney", "2-gram, Kneser-Ney", "3-gram, Kneser-Ney", "4-gram, Kneser-Ney",
        "5-gram, Kneser-Ney", "GPT, windows of 2", "GPT, 1 or more before",
    ]  # fmt: skip


def test_a_row_shows_no_control_characters(run, capsys, monkeypatch):
    run.curve.append({"step": 0, "seconds": 0.0, "training": 1.0, "validation": 1.0})
    monkeypatch.setattr(report, "written", lambda run, tokens: "a\x1b[31m\nb")
    report.Status(run).after_evaluation(run)
    assert capsys.readouterr().out == "      0     1.000     1.000  a?[31m b\n"


def test_the_plan_counts_what_is_left(run, tmp_path):
    run.settings.steps = 1000
    assert "time      about 22 s, 20 ms a step" in report.plan(run, tmp_path, 0.02)
    run.trainer.steps = 500
    assert "time      about 11 s, 20 ms a step" in report.plan(run, tmp_path, 0.02)


# Planning.


def test_timing_a_step_changes_nothing(run, settings, monkeypatch):
    rates = []
    real = tl.Trainer.step

    def step(trainer, ids, targets):
        rates.append(trainer.optimizer.rate(0))
        return real(trainer, ids, targets)

    monkeypatch.setattr(tl.Trainer, "step", step)
    assert planning.seconds_per_step(settings, run.corpus) > 0
    assert set(rates) == {0.0}


def test_longer_budgets_take_larger_sizes(run, settings, monkeypatch):
    reference = planning.REFERENCE_SECONDS

    def seconds_per_step(asked, corpus):
        return reference if asked.d_model == settings.d_model else 2 * reference

    monkeypatch.setattr(planning, "seconds_per_step", seconds_per_step)
    chosen, step = planning.fit_to_budget(settings, run.corpus, 100, set())
    assert (chosen.d_model, step) == (settings.d_model, reference)
    assert 0.8 * 100 < chosen.steps * reference < 0.95 * 100
    assert planning.fit_to_budget(settings, run.corpus, 1e9, set())[0].d_model == 96
    with monkeypatch.context() as slow:
        slow.setattr(planning, "REFERENCE_SECONDS", reference / 10)
        chosen, _ = planning.fit_to_budget(settings, run.corpus, 300, set())
        assert chosen.d_model == settings.d_model, "a slow machine comes to larger sizes later"
        slow.setattr(planning, "REFERENCE_SECONDS", reference * 10)
        chosen, _ = planning.fit_to_budget(settings, run.corpus, 30, set())
        assert chosen.d_model == 96, "and a fast one sooner"
    for least, sizes in planning.LARGER:
        chosen, step = planning.fit_to_budget(settings, run.corpus, least, set())
        assert {name: getattr(chosen, name) for name in sizes} == sizes
        assert (step, chosen.steps) == (
            2 * reference, int(least * planning.TRAINING_SHARE / (2 * reference)),
        )  # fmt: skip
        chosen, _ = planning.fit_to_budget(settings, run.corpus, least, {"layers"})
        assert chosen.d_model == settings.d_model, "sizes that are asked for stay"
        chosen, _ = planning.fit_to_budget(settings, run.corpus, least, {"dropout"})
        assert (chosen.d_model, chosen.dropout) == (sizes["d_model"], settings.dropout)
    assert planning.fit_to_budget(settings, run.corpus, 1e-9, set())[0].steps == 10


# Files.


def test_what_is_written_reaches_the_disk_before_its_name(tmp_path, monkeypatch):
    done = []
    fsync, replace = os.fsync, Path.replace

    def synced(handle):
        done.append(os.fstat(handle).st_size)
        fsync(handle)

    def replaced(path, target):
        done.append("replaced")
        return replace(path, target)

    monkeypatch.setattr(files.os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", replaced)
    files.write_atomically(tmp_path / "a", [b"123", b"45"])
    assert done[:2] == [5, "replaced"], "all of the data, then the name"
    assert len(done) == 3, "then the folder"
    assert (tmp_path / "a").read_bytes() == b"12345"


def test_sampling_takes_its_options(run, tmp_path, capsys, monkeypatch):
    from tinylm import cli

    run.save(tmp_path)
    asked = {}

    def generate(model, params, prompt, tokens, temperature, top_k, top_p, rng):
        asked.update(t=temperature, k=top_k, p=top_p, draw=rng.random(), n=tokens)
        return prompt

    monkeypatch.setattr(cli, "generate", generate)
    options = "--temperature 0.3 --top-k 4 --top-p 0.5 --seed 6 --tokens 7".split()  # noqa: SIM905
    assert cli.main(["sample", str(tmp_path), *options]) == 0
    draw = np.random.default_rng(6).random()
    assert asked == {"t": 0.3, "k": 4, "p": 0.5, "draw": draw, "n": 7}


def test_the_newest_run_is_gone_on_with(settings, tmp_path, monkeypatch):
    from tinylm.cli import _default_folder

    monkeypatch.chdir(tmp_path)
    assert _default_folder(parse(["train", "--resume"])) == Path("runs/python-docs")
    for age, name in enumerate(("text", "python-docs", "text-2", "other")):
        folder = Path("runs") / name
        folder.mkdir(parents=True)
        (folder / CHECKPOINT).write_text("")
        os.utime(folder / CHECKPOINT, (time.time() - age, time.time() - age))
    assert _default_folder(parse(["train", "--resume"])) == Path("runs/text")
    assert _default_folder(parse(["train"])) == Path("runs/python-docs-2")
    resumed = parse(["train", "--resume", "--data", settings.data])
    assert _default_folder(resumed) == Path("runs/text")
    assert _default_folder(parse(["train", "--data", settings.data])) == Path("runs/text-3")


def test_the_model_of_a_run(run, tmp_path):
    run.train(tmp_path)
    _, params, tokenizer, settings, _ = load_model(tmp_path)
    assert settings == run.settings
    for a, b in zip(trees.leaves(params), trees.leaves(run.trainer.params), strict=True):
        assert np.array_equal(a, b)
    assert tokenizer.characters == run.corpus.tokenizer.characters

"""The command line: the whole chain in miniature, and everything that can go wrong."""

import csv
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tinylm as tl
from tinylm import cli, files, report
from tinylm.arguments import parse
from tinylm.autograd import trees
from tinylm.run import CHECKPOINT, Corpus, Run, load_model
from tinylm.settings import Settings

SMALL = [
    "--layers", "1", "--heads", "2", "--d-model", "16", "--context", "16", "--batch", "4",
    "--warmup", "5", "--lr", "0.01",
]  # fmt: skip


@pytest.fixture(scope="session")
def text_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("corpus") / "text.txt"
    path.write_text(tl.corpus("python-docs")[:20_000])
    return path


@pytest.fixture(scope="session")
def trained(tmp_path_factory, text_file):
    """A run of 60 steps, and what it printed."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    command = ["train", "--data", str(text_file), "--out", str(folder), "--steps", "60", *SMALL]
    assert cli.main(command) == 0
    return folder


@pytest.fixture
def run_main(tmp_path, monkeypatch, capsys):
    """Call a command in an empty folder; gives exit code, output and the lines of errors."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        try:
            code = cli.main([str(argument) for argument in arguments])
        except SystemExit as error:
            code = error.code
        output, errors = capsys.readouterr()
        return code, output, errors.splitlines()

    return call


def test_the_main_job_in_miniature(run_main, text_file):
    code, output, errors = run_main(
        "train", "--data", text_file, "--steps", 60, "--out", "run", *SMALL
    )
    assert (code, errors) == (0, [])
    assert "one document: 18,000 characters to learn from, 2,000 held out" in output
    assert re.search(r"1 layers, 2 heads, d_model 16, context 16, [\d,]+ parameters", output)
    assert "60 steps of 4 x 16 characters (0.2 times the text), AdamW" in output
    assert re.search(r"time +about .*ms a step", output)
    rows = re.findall(r"^ +(\d+) +(\d\.\d{3}) +(\d\.\d{3})  ", output, re.MULTILINE)
    assert [int(step) for step, *_ in rows] == list(range(0, 61, 6))
    assert float(rows[-1][2]) < float(rows[0][2]) - 0.5
    table = dict(re.findall(r"^(\S.{22}) +(\d+\.\d{4}) +\d", output, re.MULTILINE))
    assert len(table) == 8
    assert float(table["1-gram, Kneser-Ney     "]) > float(table["3-gram, Kneser-Ney     "])
    assert "A sample:\n" in output
    assert "\x1b" not in output
    assert "\r" not in output
    with Path("run/curve.csv").open() as file:
        curve = list(csv.DictReader(file))
    assert [row["step"] for row in curve] == [step for step, *_ in rows]
    assert float(curve[-1]["validation"]) == pytest.approx(float(rows[-1][2]), abs=1e-3)

    code, output, errors = run_main("evaluate", "run")
    assert (code, errors) == (0, [])
    assert dict(re.findall(r"^(\S.{22}) +(\d+\.\d{4}) +\d", output, re.MULTILINE)) == table

    code, output, errors = run_main(
        "sample", "run", "--prompt", "The ", "--tokens", 20, "--seed", 1
    )
    assert (code, errors) == (0, [])
    assert output.startswith("The ")
    assert len(output) == 4 + 20 + 1
    assert run_main("sample", "run", "--prompt", "The ", "--tokens", 20, "--seed", 1)[1] == output
    assert run_main("sample", "run", "--tokens", 5)[1].startswith("\n")


def test_the_checkpoint_alone_makes_the_model(trained, text_file):
    model, params, tokenizer, settings, _ = load_model(trained)
    assert model.d_model == 16
    assert settings.data == str(text_file)
    measured = tl.perplexity(model, params, tokenizer.encode(text_file.read_text()[-2000:]))
    assert measured.nll < 3.5


def test_words_and_sgd_and_the_other_options(run_main, text_file):
    options = ["--tokenizer", "word", "--vocab-size", "300", "--optimizer", "sgd", "--positions", "sinusoidal", "--d-model", "15", "--heads", "3", "--norm", "rms", "--post-norm", "--untied", "--dropout", "0.1", "--activation", "relu", "--shards", "2", "--threads", "2", "--clip", "0", "--layers", "1", "--context", "8", "--steps", "20", "--evaluate-every", "7", "--seed", "3", "--validation", "0.2"]  # fmt: skip
    code, output, errors = run_main("train", "--data", text_file, "--out", "run", *options)
    assert (code, errors) == (0, [])
    assert "GPT on 300 tokens" in output
    assert "SGD, momentum 0.9" in output
    assert re.findall(r"^ +(\d+) +\d\.\d{3}", output, re.MULTILINE) == ["0", "7", "14", "20"]
    model, *_ = load_model(Path("run"))
    assert not model.tied
    assert not model.pre_norm
    assert (model.norm, model.positions, model.dropout) == ("rms", "sinusoidal", 0.1)


def test_pieces_of_words(run_main, text_file):
    options = ["--tokenizer", "bpe", "--vocab-size", "300", "--d-model", "8", "--layers", "1", "--context", "8", "--steps", "4", "--evaluate-every", "2"]  # fmt: skip
    code, output, errors = run_main("train", "--data", text_file, "--out", "run", *options)
    assert (code, errors) == (0, [])
    assert "GPT on 300 tokens" in output
    _, _, tokenizer, *_ = load_model(Path("run"))
    assert (tokenizer.kind, tokenizer.special_tokens) == ("byte pairs", {})
    code, output, _ = run_main("sample", "run", "--prompt", "Déjà vu", "--tokens", 20, "--seed", 1)
    assert (code, output[:7]) == (0, "Déjà vu"), "bytes spell what the text never had"
    assert run_main("evaluate", "run")[0] == 0
    code, _, errors = run_main("train", "--data", text_file, *options[:3], "200")
    assert code == 1
    assert "vocab_size=200: wanted at least 256, the bytes" in errors[0]


def test_a_budget_chooses_sizes_and_steps(run_main, text_file, monkeypatch):
    monkeypatch.setattr("tinylm.planning.TRAINING_SHARE", 0.05)
    for module in (report, cli):
        monkeypatch.setattr(module, "written", lambda run, tokens: "")
    code, output, _ = run_main("train", "--data", text_file, "--budget", "3s")
    assert code == 0
    steps = int(re.search(r"training +([\d,]+) steps", output).group(1).replace(",", ""))
    assert steps >= 10
    assert Path("runs/text", CHECKPOINT).exists()
    code, output, _ = run_main("train", "--data", text_file, "--budget", "3s", "--layers", 1)
    assert ": 1 layers, 4 heads, d_model 64" in output, "sizes that are asked for stay"
    assert Path("runs/text-2", CHECKPOINT).exists()


def test_a_terminal_sees_a_moving_line(text_file, tmp_path, monkeypatch, capsys):
    shows = report.Status.after_step

    def always_shows(status, run):
        status.shown = 0
        shows(status, run)

    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(report.Status, "after_step", always_shows)
    command = ["train", "--data", str(text_file), "--out", str(tmp_path / "run"), "--steps", "10"]
    command += SMALL
    assert cli.main(command) == 0
    output = capsys.readouterr().out
    assert re.search(r"\r\x1b\[Kstep 9 of 10  loss \d\.\d{3}  \d+ s left\r", output)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "wanted a command: train, evaluate, sample or oracle"),
        ("trian", "unknown command 'trian'; did you mean train?"),
        ("xyz", "unknown command 'xyz'; there are train, evaluate, sample, oracle"),
        ("train --layer 3", "unknown argument '--layer'; did you mean --layers?"),
        ("train --dmodel=3", "unknown argument '--dmodel=3'; did you mean --d-model?"),
        ("train now", "unknown argument 'now'"),
        ("train --lr nan", "argument --lr: 'nan': wanted a finite number, not negative"),
        ("train --lr -1", "argument --lr: '-1': wanted a finite number"),
        ("train --steps 0", "argument --steps: '0': wanted a whole number, at least 1"),
        ("train --steps 1.5", "argument --steps: '1.5': wanted a whole number"),
        ("train --budget soon", "argument --budget: 'soon': wanted a time such as 90s, 2m or 1h"),
        ("train --budget 0s", "argument --budget: '0s'"),
        ("train --data= --steps 3", "argument --data: wanted a name or a path"),
        ("train --out=", "argument --out: wanted a name or a path"),
        ("train --layers 0", "argument --layers: '0': wanted a whole number, at least 1"),
        ("train --dropout 1", "argument --dropout: '1': wanted a number in [0, 1)"),
        ("train --validation 1", "argument --validation: '1': wanted a number in (0, 1)"),
        ("train --optimizer adam", "argument --optimizer: invalid choice: 'adam'"),
        ("train --positions relative", "argument --positions: invalid choice"),
        ("train --d-model 130", "GPT: d_model=130: wanted a multiple of num_heads=4"),
        ("train --preset laptop --budget 1m", "--preset and --budget: give one of them"),
        ("train --positions rotary --d-model 12", "wanted an even d_model / num_heads"),
        ("train --steps 5 --budget 1m", "--steps and --budget: give one of them"),
        ("evaluate", "the following arguments are required: RUN"),
        ("sample run --temperature inf", "argument --temperature: 'inf'"),
        ("sample run --top-p 0", "argument --top-p: '0': wanted a number in (0, 1]"),
        ("sample run --promt x", "unknown argument '--promt'; did you mean --prompt?"),
        ("orcale verify d", "unknown command 'orcale'; did you mean oracle?"),
        ("oracle", "the following arguments are required: export, compare or verify"),
        ("oracle exprt d", "invalid choice: 'exprt'"),
        ("oracle export", "the following arguments are required: DIR"),
        ("oracle export d --sed 3", "unknown argument '--sed'; did you mean --seed?"),
        ("oracle export d e", "tinylm oracle export: unknown argument 'e'"),
        ("oracle export d --seed -1", "argument --seed: '-1': wanted a whole number, at least 0"),
        ("oracle export d --ops relu,rule", "argument --ops: 'rule': wanted some of attention, "),
        ("oracle export d --ops=", "argument --ops: '': wanted some of"),
        ("oracle export d --formats csv", "'csv': wanted some of npz, safetensors, json"),
        ("oracle compare golden", "the following arguments are required: GOT"),
        ("oracle compare golden got --format f64", "argument --format: invalid choice: 'f64'"),
        ("oracle verify --all d", "unknown argument '--all'"),
    ],
)
def test_bad_command_lines(run_main, monkeypatch, arguments, message):
    def loaded(*args):
        raise AssertionError("something was loaded before the command line was checked")

    monkeypatch.setattr(Corpus, "read", loaded)
    monkeypatch.setattr(cli, "load_model", loaded)
    code, output, errors = run_main(*arguments.split())
    assert (code, output) == (2, "")
    assert len(errors) == 1
    assert message in errors[0]


def test_help_and_version(run_main):
    code, output, errors = run_main("train", "--help")
    assert (code, errors) == (0, [])
    for flag in ("--data", "--budget", "--resume", "--d-model", "--final-lr"):
        assert flag in output
    assert run_main("--version")[1] == f"tinylm {tl.__version__}\n"


# The work fails: one line, exit code 1, nothing lost.


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "there is no text in this file"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "not a text file: byte 0x89 at offset 0"),
        (b"short text", "the training text has 9 tokens: wanted more than 16 for a context of 16"),
        (b"x", "too few to hold out 10% for validation"),
    ],
)
def test_texts_that_cannot_be_learned(run_main, tmp_path, content, message):
    path = tmp_path / "data"
    path.write_bytes(content)
    code, _, errors = run_main("train", "--data", path, "--steps", 5, *SMALL)
    assert code == 1
    assert len(errors) == 1
    assert message in errors[0]
    assert not Path("runs").exists()


def test_data_that_is_not_there(run_main):
    code, _, errors = run_main("train", "--data", "nowhere.txt", "--steps", 5)
    assert code == 1
    assert errors[0].startswith("tinylm: nowhere.txt: no such file or folder, and no corpus")


def test_an_unknown_character_at_evaluation(run_main, trained, tmp_path):
    (tmp_path / "russian.txt").write_text("привет")
    code, _, errors = run_main("evaluate", trained, "--data", tmp_path / "russian.txt")
    assert code == 1
    assert errors == [f"tinylm: {errors[0][8:]}"]
    assert "the character 'п' at position 0 is not among the" in errors[0]
    (tmp_path / "one.txt").write_text("a")
    code, _, errors = run_main("evaluate", trained, "--data", tmp_path / "one.txt")
    assert (code, errors[0][-34:]) == (1, "one.txt: 1 tokens: wanted two or more"[-34:])


def test_prompts_that_cannot_be(run_main, trained):
    for prompt, message in (("ж", "the character 'ж' at position 0"), ("", "--prompt is empty")):
        code, _, errors = run_main("sample", trained, "--prompt", prompt)
        assert code == 1
        assert message in errors[0]


def test_a_folder_that_cannot_be_written(run_main, text_file, tmp_path):
    (tmp_path / "file").write_text("in the way")
    code, _, errors = run_main(
        "train", "--data", text_file, "--out", "file/run", "--steps", 5, *SMALL
    )
    assert code == 1
    assert re.fullmatch("tinylm: cannot write to file/run: .*file is not a folder", errors[0])
    assert not list(tmp_path.glob("runs"))


def test_a_run_is_not_overwritten(run_main, trained, text_file):
    before = (trained / CHECKPOINT).read_bytes()
    code, _, errors = run_main("train", "--data", text_file, "--out", trained, "--steps", 5, *SMALL)
    assert code == 1
    assert errors == [f"tinylm: {trained} holds a run already: --resume goes on with it"]
    assert (trained / CHECKPOINT).read_bytes() == before


def test_a_disk_that_is_full_while_saving(run_main, text_file, monkeypatch):
    saves = []

    def write(path, pieces):
        saves.append(path)
        if len(saves) > 8:
            raise OSError(28, "No space left on device", str(path))
        real(path, pieces)

    real = files.write_atomically
    monkeypatch.setattr("tinylm.checkpoint.write_atomically", write)
    monkeypatch.setattr("tinylm.run.write_atomically", write)
    command = ("train", "--data", text_file, "--out", "run", "--steps", 60, *SMALL)
    code, _, errors = run_main(*command)
    assert code == 1
    assert len(errors) == 1
    assert errors[0].startswith(
        "tinylm: cannot write to run: No space left on device; the last good"
    )
    assert errors[0].endswith("checkpoint, of step 12, stays in run")
    assert Run.resume(Path("run")).trainer.steps == 12


def test_a_loss_that_is_not_finite(run_main, text_file):
    command = ["train", "--data", text_file, "--out", "run", "--steps", 60, "--clip", 0]
    command += [*SMALL[:-1], "1e30"]
    code, _, errors = run_main(*command)
    assert code == 1
    assert len(errors) == 1
    assert re.match(
        r"tinylm: step \d+: (the loss is \w+|a gradient is not finite); .*is '\w+', number \d of that "
        r"name; the last good checkpoint, of step \d+, stays in run",
        errors[0],
    )
    params = load_model(Path("run"))[1]
    assert np.isfinite(params["token_embedding"]).all()


@pytest.mark.parametrize(
    "damage", ["truncated", "flipped", "empty", "another model", "no run", "other sizes"]
)
def test_damaged_checkpoints(run_main, trained, tmp_path, damage):
    folder = tmp_path / "damaged"
    folder.mkdir()
    path = folder / CHECKPOINT
    raw = bytearray((trained / CHECKPOINT).read_bytes())
    nest, metadata = tl.load(trained / CHECKPOINT)
    if damage == "truncated":
        path.write_bytes(raw[:-100])
        message = "not a whole checkpoint"
    elif damage == "flipped":
        raw[-1000] ^= 4
        path.write_bytes(raw)
        message = "the data do not have the sha256"
    elif damage == "empty":
        path.write_bytes(b"")
        message = "not a whole checkpoint: 0 bytes are too few"
    elif damage == "another model":
        nest["params"]["blocks"][0]["attention"]["W_Q"] = np.zeros((3, 3))
        tl.save(path, nest, **metadata)
        message = r"the checkpoint of another model: blocks\.0\.attention\.W_Q has shape \(3, 3\), and the model wants \(16, 16\)"
    elif damage == "no run":
        tl.save(path, {"W": np.ones(2)})
        message = "not the checkpoint of a tinylm run 1"
    else:
        metadata["settings"]["layers"] = 2
        tl.save(path, nest, **metadata)
        message = "the checkpoint of another model: the nests differ at 'blocks'"
    for command in (
        ["sample", folder],
        ["evaluate", folder],
        ["train", "--resume", "--out", folder],
    ):
        code, _, errors = run_main(*command)
        assert code == 1
        assert len(errors) == 1
        assert re.search(f"damaged/checkpoint.safetensors: .*{message}", errors[0]), errors


def test_settings_of_another_version(run_main, trained, tmp_path):
    nest, metadata = tl.load(trained / CHECKPOINT)
    metadata["settings"]["warp"] = 9
    (tmp_path / "run").mkdir()
    tl.save(tmp_path / "run" / CHECKPOINT, nest, **metadata)
    code, _, errors = run_main("sample", "run")
    assert code == 1
    assert "not the checkpoint of a tinylm run 1" in errors[0]


# Going on.


def test_resume_takes_the_settings_of_the_run(run_main, trained, text_file):
    code, output, errors = run_main("train", "--resume", "--out", trained)
    assert (code, errors) == (0, [])
    assert "resumed   after step 60" in output
    code, _, errors = run_main("train", "--resume", "--out", trained, "--d-model", 32)
    assert code == 1
    assert errors == [f"tinylm: {trained} was begun with --d-model 16, not 32"]
    same = ["--data", text_file, "--steps", 60, *SMALL]
    assert run_main("train", "--resume", "--out", trained, *same)[0] == 0


def test_resume_begins_what_is_not_there(run_main, text_file):
    command = ["train", "--data", text_file, "--steps", 5, "--resume", *SMALL]
    assert run_main(*command)[0] == 0
    code, output, _ = run_main(*command)
    assert code == 0
    assert "resumed   after step 5" in output
    assert [path.name for path in Path("runs").iterdir()] == ["text"]


def test_another_corpus_is_noticed(run_main, text_file, tmp_path):
    path = tmp_path / "moving.txt"
    path.write_text(text_file.read_text())
    assert run_main("train", "--data", path, "--out", "run", "--steps", 5, *SMALL)[0] == 0
    path.write_text(text_file.read_text()[:-1] + "!")
    code, _, errors = run_main("train", "--resume", "--out", "run")
    assert code == 1
    assert re.search(
        "moving.txt is not the text that the run began with: the sha256 was", errors[0]
    )


def test_a_loss_that_grows_without_bound(run_main, text_file):
    """Measured on the held-out text, where no step would have stopped it."""
    command = ["train", "--data", text_file, "--out", "run", "--steps", 60, "--clip", 0]
    command += ["--evaluate-every", 1, "--warmup", 0, *SMALL[:-4], "--lr", "1e20"]
    code, _, errors = run_main(*command)
    assert code == 1
    assert len(errors) == 1
    assert re.search(r"step \d+: .*the last good checkpoint, of step \d+, stays in run", errors[0])
    command[-1] = 300
    command[command.index("--out") + 1] = "large"
    command[command.index("--steps") + 1] = 1
    code, output, errors = run_main(*command)
    assert (code, errors) == (0, [])
    assert "A sample:" in output


def test_the_run_may_not_lie_in_its_own_text(run_main, text_file, tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text(text_file.read_text())
    code, _, errors = run_main(
        "train", "--data", "notes", "--out", "notes/run", "--steps", 5, *SMALL
    )
    assert code == 1
    assert "notes/run lies in" in errors[0]
    assert not Path("notes/run").exists()


def test_data_that_cannot_be_looked_at(run_main):
    for data, message in (("a" * 300, "File name too long"), ("a\0b", "embedded null")):
        code, _, errors = run_main("train", "--data", data, "--steps", 5)
        assert code == 1
        assert len(errors) == 1
        assert message in errors[0]


def test_resume_compares_what_was_given_only(run_main, text_file):
    begin = ["train", "--data", text_file, "--out", "run", "--steps", 6, *SMALL]
    assert run_main(*begin, "--evaluate-every", 4)[0] == 0
    assert run_main("train", "--out", "run", "--resume", "--steps", 6)[0] == 0
    assert run_main("train", "--out", "run", "--resume", "--evaluate-every", 4)[0] == 0
    code, _, errors = run_main("train", "--out", "run", "--resume", "--evaluate-every", 5)
    assert (code, errors) == (1, ["tinylm: run was begun with --evaluate-every 4, not 5"])


def test_two_processes_do_not_share_a_folder(run_main, text_file):
    command = ["train", "--data", text_file, "--out", "run", "--steps", 5, "--resume", *SMALL]
    assert run_main(*command)[0] == 0
    with files.held(Path("run")):
        code, _, errors = run_main(*command)
    assert (code, errors) == (1, ["tinylm: run: another process is training here"])


def test_evaluation_of_a_folder_takes_every_file(run_main, trained, text_file, tmp_path):
    (tmp_path / "more").mkdir()
    text = text_file.read_text()
    (tmp_path / "more" / "a.txt").write_text(text[:3000])
    (tmp_path / "more" / "b.txt").write_text(text[5000:7000])
    code, output, _ = run_main("evaluate", trained, "--data", "more")
    assert code == 0
    assert output.startswith("On 5,001 characters of more, 5,001 tokens:")


def test_a_run_that_appears_meanwhile_stays(run_main, text_file, monkeypatch):
    begun = cli._begun

    def begun_slowly(arguments):
        Path("run").mkdir()
        Path("run", CHECKPOINT).write_text("of another process")
        return begun(arguments)

    monkeypatch.setattr(cli, "_begun", begun_slowly)
    code, _, errors = run_main("train", "--data", text_file, "--out", "run", "--steps", 5, *SMALL)
    assert (code, errors) == (1, ["tinylm: run: another process has trained here meanwhile"])
    assert Path("run", CHECKPOINT).read_text() == "of another process"


def test_a_run_is_found_from_another_folder(run_main, text_file, tmp_path, monkeypatch):
    (tmp_path / "mine.txt").write_text(text_file.read_text())
    assert run_main("train", "--data", "mine.txt", "--out", "run", "--steps", 5, *SMALL)[0] == 0
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert cli.main(["evaluate", "../run"]) == 0


def test_a_terminal_without_the_letters(tmp_path):
    (tmp_path / "east.txt").write_text("東京" * 500)
    small = ["--layers", "1", "--heads", "1", "--d-model", "8", "--context", "8", "--steps", "3"]
    command = [
        "train",
        "--data",
        str(tmp_path / "east.txt"),
        "--out",
        str(tmp_path / "run"),
        *small,
    ]
    ascii_only = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = subprocess.run(
        [sys.executable, "-m", "tinylm", *command],
        capture_output=True, text=True, env=ascii_only, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert "?" in done.stdout


def test_no_output_at_all(run_main, trained, monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    assert cli.main(["sample", str(trained), "--tokens", "3"]) == 0


def test_a_preset_is_settings_that_flags_can_change():
    asked = parse(["train", "--preset", "laptop", "--steps", "9", "--data", "python-docs"])
    assert asked.settings == Settings(
        data="python-docs", layers=4, heads=4, d_model=128, context=64, batch=12, steps=9
    )
    assert {"data", "layers", "steps"} <= asked.given
    hour = parse(["train", "--preset", "hour"]).settings
    params = hour.model(65).init(np.random.default_rng(0))
    assert sum(p.size for p in trees.leaves(params)) == 2_669_184  # as docs/recipes.md says
    assert hour.rates() == pytest.approx((0.002, 0.00002))

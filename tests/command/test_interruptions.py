"""Runs that are killed or interrupted at any moment, and go on to the very same end."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest

import tinylm as tl
from tinylm.autograd import trees
from tinylm.run import CHECKPOINT, uninterrupted

STEPS = 150


@pytest.fixture(scope="module")
def command(tmp_path_factory):
    """A run in which everything is random that can be: dropout, shards, threads."""
    path = tmp_path_factory.mktemp("corpus") / "text.txt"
    path.write_text(tl.corpus("python-docs")[:20_000])
    return (
        f"{sys.executable} -m tinylm train --resume --data {path} --steps {STEPS} --layers 1 --heads 2 "
        "--d-model 16 --context 16 --batch 4 --dropout 0.1 --shards 2 --threads 2 --save-every 7"
    ).split()


HEEDFUL = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
"""A shell that runs the tests in the background has all of its processes ignore a Ctrl-C."""


def start(command, folder):
    python, _, module, *arguments = command  # python -m module arguments
    code = f"{HEEDFUL}; import runpy; runpy.run_module({module!r}, run_name='__main__')"
    return subprocess.Popen(
        [python, "-c", code, *arguments, "--out", folder],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(command, folder):
    process = start(command, folder)
    output, errors = process.communicate(timeout=300)
    assert (process.returncode, errors) == (0, ""), output
    return output


@pytest.fixture(scope="module")
def uninterrupted_run(command, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "whole"
    began = time.monotonic()
    finish(command, folder)
    return folder, time.monotonic() - began


def assert_the_same_end(folder, whole):
    nest, told = tl.load(folder / CHECKPOINT)
    expected, expected_told = tl.load(whole / CHECKPOINT)
    assert [p for p, _ in trees.paths(nest)] == [p for p, _ in trees.paths(expected)]
    for (path, a), b in zip(trees.paths(nest), trees.leaves(expected), strict=True):
        assert a.tobytes() == b.tobytes(), path
    for one in (told, expected_told):
        del one["seconds"]
        for row in one["curve"]:
            del row["seconds"]
    assert told == expected_told


def test_twenty_kills(command, uninterrupted_run, tmp_path):
    """SIGKILL at random moments, from the import of NumPy to the last table."""
    whole, seconds = uninterrupted_run
    folder = tmp_path / "run"
    moments = random.Random(20)
    for _ in range(20):
        process = start(command, folder)
        time.sleep(moments.uniform(0.1, 0.9 * seconds))
        process.kill()
        process.communicate()
    finish(command, folder)
    assert_the_same_end(folder, whole)
    assert not list(folder.glob(".*")), "nothing half-written is left"


def test_five_interruptions(command, uninterrupted_run, tmp_path):
    whole, _ = uninterrupted_run
    moments = random.Random(5)
    for i in range(5):
        folder = tmp_path / f"run-{i}"
        process = start(command, folder)
        lines = [process.stdout.readline() for _ in range(moments.randint(8, 14))]
        assert any("held out" in line for line in lines), lines
        time.sleep(moments.uniform(0, 0.05))
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=300)
        assert process.returncode == 130, (output, errors)
        assert errors == "tinylm: interrupted\n"
        assert "Interrupted after step" in output
        assert f"Go on with: tinylm train --resume --out {folder}" in output
        assert "resumed   after step" in finish(command, folder)
        assert_the_same_end(folder, whole)


def test_a_reader_that_goes_away(command, tmp_path):
    process = start(command, tmp_path / "run")
    process.stdout.readline()
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()
    assert (process.wait(timeout=300), errors) == (1, "")


def test_an_interrupt_is_put_off_and_not_lost():
    reached = []

    def work():
        with uninterrupted():
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)
            reached.append(True)

    with pytest.raises(KeyboardInterrupt):
        work()
    assert reached
    with uninterrupted():
        pass
    with pytest.raises(ValueError, match="mine"), uninterrupted():
        raise ValueError("mine")

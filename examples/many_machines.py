"""One training on 1, 2 and 4 processes, which may be machines: the same model, and one may be killed.

A batch is cut into four shards; then all ranks (processes of MPI) need the sum of the gradients. It
goes around a ring (Patarasuk and Yuan 2009), on which each rank sends 2 (P - 1)/P times the
gradient; the rival is that one rank collects all and sends each of the others the sum. The table
counts bytes, and holds gradient and losses against a single rank's. Then one of four is killed, and
two go on from the checkpoint. Needs the extra `mpi`; takes 3 minutes.

``mpiexec -n 2 python examples/many_machines.py`` trains only, from the checkpoint in --out, if any.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import common
import numpy as np

import tinylm as tl
from tinylm.autograd import trees
from tinylm.text import Batches
from tinylm.threads import ONE_THREAD
from tinylm.training.ranks import Counted

LENGTH = {True: (24, 10), False: (400, 50)}  # quick or not: steps, and steps between checkpoints
BY_MPIEXEC = {"PMI_RANK", "PMIX_RANK", "OMPI_COMM_WORLD_RANK"} & {*os.environ}


def rank(run):
    """What each process does: train, from the last checkpoint on."""
    from mpi4py import MPI

    world, text = Counted(MPI.COMM_WORLD), tl.corpus(run.data or "python-docs")
    losses, (steps, interval) = [], LENGTH[run.quick]
    tokenizer = tl.CharTokenizer.train(text)
    model = tl.GPT(tokenizer.vocab_size, 64, d_model=64, num_heads=4, num_layers=2, dropout=0.1)
    trainer = tl.Trainer(
        model, model.init(run.rng), tl.AdamW(3e-3), clip_norm=1.0, shards=4,
        rng=run.rng.spawn(1)[0], communicator=world,
    )  # fmt: skip
    batches = Batches(tokenizer.encode(text), 64, 16, run.rng)  # the same on all ranks
    if (checkpoint := run.out / "checkpoint.safetensors").exists():
        nest, told = tl.load(checkpoint)
        trainer.params, trainer.optimizer_state = nest["params"], nest["optimizer"]
        trainer.steps, losses = told["steps"], told["losses"]
        trainer.rng.bit_generator.state = told["dropout"]
        batches.restore(told["batches"])
    processes, first = MPI.COMM_WORLD.allgather(os.getpid()), trainer.steps
    began, world.bytes_sent = time.perf_counter(), 0
    for step in range(first + 1, steps + 1):
        losses.append(trainer.step(*next(batches)))
        if world.rank:
            continue  # the first rank keeps what all have
        if step == 1:  # the first moment is a tenth of the gradient now
            m = trees.leaves(trainer.optimizer_state["m"])
            np.save(run.out / "gradient.npy", np.concatenate([x.ravel() for x in m]))
        if step % interval == 0 or step == steps:
            tl.save(
                checkpoint, {"params": trainer.params, "optimizer": trainer.optimizer_state},
                steps=step, dropout=trainer.rng.bit_generator.state, batches=batches.state(),
                losses=losses, seconds=(time.perf_counter() - began) / (step - first),
                sent=world.bytes_sent // (step - first), first=first + 1,
            )  # fmt: skip
        print("step", step, f"loss {losses[-1]:.4f} processes", *processes, flush=True)
    raise SystemExit  # the tables are for who started the ranks


def trained(run, ranks, folder, kill_after=None):
    """Have so many ranks train, or kill the last; the first gradient, what is kept, the last step."""
    places = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    if not (mpiexec := shutil.which("mpiexec", path=places)):
        raise SystemExit("this example needs MPI: pip install 'tinylm[mpi]'")
    words = [mpiexec, "-n", ranks, sys.executable, "-m", "mpi4py", __file__, "--out", folder]
    words += ["--seed", run.seed, *["--quick"] * run.quick, *["--data", run.data] * bool(run.data)]
    words, told, step = [*map(str, words)], subprocess.PIPE, 0
    with subprocess.Popen(words, stdout=told, env=os.environ | ONE_THREAD) as job:  # noqa: S603
        for line in job.stdout:
            if line.startswith(b"step ") and (step := int(line.split()[1])) == kill_after:
                os.kill(int(line.split()[-1]), signal.SIGKILL)
    if (job.returncode == 0) == bool(kill_after):
        raise SystemExit(f"mpiexec ended with {job.returncode}; has it mpi4py, of 'tinylm[mpi]'?")
    return np.load(folder / "gradient.npy"), tl.load(folder / "checkpoint.safetensors")[1], step


def main(run):
    (steps, interval), rows, curves, gradients = LENGTH[run.quick], [], {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for P in (1, 2, 4):
            run.progress(f"{P} ranks")
            gradients[P], kept, _ = trained(run, P, Path(folder, str(P)))
            whole, curves[f"{P} ranks"] = gradients[1], np.array(kept["losses"])
            rows.append({
                "ranks": P, "seconds a step": kept["seconds"],
                "gradient off by": np.linalg.norm(gradients[P] - whole) / np.linalg.norm(whole),
                "losses off by": np.max(np.abs(curves[f"{P} ranks"] - curves["1 ranks"])),
                "last loss": kept["losses"][-1], "bytes sent a step": kept["sent"],
                "2 (P - 1)/P gradients": 2 * (P - 1) * whole.nbytes // P,
                "sent by one that collects": (P - 1) * whole.nbytes,
            })  # fmt: skip
        _, kept, reached = trained(run, 4, Path(folder, "killed"), interval + interval // 2)
        _, again, _ = trained(run, 2, Path(folder, "killed"))
    first, alone, joined = again["first"], curves.pop("1 ranks"), np.array(again["losses"])
    run.table(f"{whole.size:,} parameters in float32, {steps} steps, against one rank", rows)
    run.say(
        "The ranks share one machine: bytes tell more than seconds; a loss and a checksum are sent "
        "too. If one collects, all together send the same, and the busiest of 4 twice as much."
    )
    run.table(f"One of 4 is killed, and 2 go on; every {interval} steps a checkpoint is kept", [{
        "killed after step": reached, "kept of step": kept["steps"], "first step then": first,
        "made again": reached + 1 - first, "losses off by": np.max(np.abs(joined - alone)),
    }])  # fmt: skip
    figure, (left, right) = common.pyplot().subplots(1, 2, figsize=(9, 3.6))
    left.plot(alone, color="silver", linewidth=5, label="1 rank")
    left.plot(joined, label="4 ranks, one killed, then 2")
    left.axvline(reached, color="black", linestyle=":", label="the kill")
    for label, curve in {**curves, "4, one killed, then 2": joined}.items():
        right.plot(np.abs(curve - alone), label=label)
    for axes, what in ((left, "loss, nats a character"), (right, "difference from 1 rank")):
        axes.set(xlabel="step", ylabel=what)
        axes.legend()
    run.picture(figure, "The losses of one rank and of ranks of which one is killed, on one curve")


if __name__ == "__main__":
    common.start(rank if BY_MPIEXEC else main)

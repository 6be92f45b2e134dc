"""Ranks under MPI: the ring's sum is that of MPI's own Allreduce; needs the extra `mpi`."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = """
import numpy as np
from mpi4py import MPI
import tinylm as tl
from tinylm.training.ranks import Counted, all_reduce

world = Counted(MPI.COMM_WORLD)
for dtype in (np.float16, np.float32, np.float64):
    for n in (0, 1, 2, 1000):
        x = np.random.default_rng(world.rank).standard_normal(n).astype(dtype)
        theirs = np.empty(n)
        MPI.COMM_WORLD.Allreduce(x.astype(np.float64), theirs)
        all_reduce(world, x)
        np.testing.assert_allclose(x, theirs, rtol=0, atol=20 * np.finfo(dtype).eps)
assert world.bytes_sent > 0
model = tl.GPT(vocab_size=5, context_length=3, d_model=4, num_heads=2, num_layers=1)
trainer = tl.Trainer(
    model, model.init(np.random.default_rng(0)), tl.SGD(0.1), shards=3, communicator=MPI.COMM_WORLD
)
ids = np.arange(12).reshape(3, 4) % 5
alone = float(model.loss(trainer.params, ids[:, :-1], ids[:, 1:]))
assert abs(trainer.step(ids[:, :-1], ids[:, 1:]) - alone) < 1e-6
open(f"rank-{world.rank}-agrees", "x").close()  # what ranks print may be interleaved
"""


@pytest.mark.skipif(importlib.util.find_spec("mpi4py") is None, reason="needs the extra mpi")
def test_the_ring_is_mpis_own_sum(tmp_path):
    own = Path(sys.executable).parent
    mpiexec = shutil.which("mpiexec", path=f"{own}{os.pathsep}{os.environ['PATH']}")
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    done = subprocess.run(
        [mpiexec, "-n", "3", sys.executable, "-m", "mpi4py", program],
        check=False,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert {path.name for path in tmp_path.glob("*-agrees")} == {
        f"rank-{rank}-agrees" for rank in range(3)
    }

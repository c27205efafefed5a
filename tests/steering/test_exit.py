"""A process that ends while the model's thread is still at work ends in order."""

import subprocess
import sys
from pathlib import Path

CODE = """
from tests.tiny import make_model
from sonde.steering.batching import Batcher
from sonde.steering.request import Sampling
model = make_model()
batcher = Batcher(model)
for _ in range(8):
    batcher.submit(model.tokenize("who are you"), [], Sampling(max_tokens=40), lambda piece: None)
print("asked")
"""


def test_the_interpreter_may_end_at_any_moment():
    for _ in range(2):
        ended = subprocess.run(
            [sys.executable, "-c", CODE], capture_output=True, text=True, timeout=120, cwd=Path(__file__).parents[2]
        )
        assert (ended.returncode, ended.stdout) == (0, "asked\n"), ended.stderr

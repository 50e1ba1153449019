"""The table of times on a card: an error costs its own row and is in the JSON."""

import importlib.util
import json
import subprocess
import sys
from multiprocessing import dummy
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "gpu.py"

pytestmark = pytest.mark.skipif(not SCRIPT.exists(), reason="the benchmarks are not here")


@pytest.fixture
def gpu(monkeypatch):
    spec = importlib.util.spec_from_file_location("gpu", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    # Where its dataclasses look for their module.
    monkeypatch.setitem(sys.modules, "gpu", module)
    spec.loader.exec_module(module)
    return module


class Threads:
    """Threads in place of processes, which nobody has to wait for."""

    Pipe = staticmethod(dummy.Pipe)

    class Process(dummy.Process):
        def start(self):
            self.daemon = True
            super().start()

        def kill(self):
            pass

        def join(self):
            pass


def asked(gpu, monkeypatch, serve, rows):
    """Answers to rows, and how many processes they took."""
    starts = []

    def counted(pipe, device):
        starts.append(device)
        serve(pipe)

    monkeypatch.setattr(gpu, "serve", counted)
    runner = gpu.Runner("cuda")
    runner._context = Threads()
    found = [runner.ask(row, 0.5) for row in rows]
    runner.stop()
    return found, len(starts)


def test_an_error_that_sticks_to_its_process_costs_one_row(gpu, monkeypatch):
    def serve(pipe):
        pipe.send({})
        answer = {"seconds": 1.0}
        while (row := pipe.recv()) is not None:
            if row[0] == "bad":
                answer = {"error": "an illegal address"}
            pipe.send(answer)

    found, n_starts = asked(gpu, monkeypatch, serve, ["good", "bad", "good", "good"])
    good, bad = {"seconds": 1.0}, {"error": "an illegal address"}
    assert found == [good, bad, good, good]
    assert n_starts == 2


def test_rows_that_take_too_long_are_named(gpu, monkeypatch):
    found, n_starts = asked(gpu, monkeypatch, lambda pipe: pipe.send({}), ["late", "late"])
    assert found == 2 * [{"error": "killed after 0 s"}]
    assert n_starts == 2


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_without_a_card_the_error_is_in_the_table(tmp_path):
    path = tmp_path / "gpu.json"
    command = [sys.executable, str(SCRIPT), str(path)]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 1
    assert "cuda cannot be used" in found.stderr
    table = json.loads(path.read_text())
    assert "CUDA" in table["machine"]["error"] or "NVIDIA" in table["machine"]["error"]
    assert table["rows"] == []

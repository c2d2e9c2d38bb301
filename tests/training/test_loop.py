"""Claims about training: resumable to the bit, blind to test spots, stopped when it collapses."""

import json
import math
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from spotwise.constants import BARCODES, IMAGES, TEST
from spotwise.data.folds import Fold, read_fold, write_fold
from spotwise.errors import SetupError
from spotwise.models.registry import restore
from spotwise.models.sizes import Sizes
from spotwise.training import checkpoints, loop
from spotwise.training.checkpoints import State, locked
from spotwise.training.dataset import Spots
from spotwise.training.loop import TIMINGS, Run, learning_rates, train
from spotwise.training.training_options import TrainingOptions

METHOD = {"image_size": 32, "patch_size": 16, "encoder_dim": 16, "encoder_depth": 1, "encoder_heads": 2}
METHOD |= {"embedding_dim": 16, "gene_tokens": 2, "attention_heads": 2, "fusion_heads": 2}
OPTIONS = TrainingOptions(device="cpu", epochs=30, batch_size=8, learning_rate=1e-3, threads=1)
SAVING = OPTIONS.model_copy(update={"save_every_minutes": 1e-3})  # every few steps
PX, GENES, SPOTS = 32, 12, 30


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Write a fold of three slides whose expression follows the colour of the patch."""
    folder = tmp_path_factory.mktemp("world")
    rng = np.random.default_rng(0)
    colour = rng.uniform(size=(3, SPOTS, 3))
    images = 255 * (0.7 * colour[:, :, None, None] + 0.3 * rng.uniform(size=(3, SPOTS, PX, PX, 3)))
    expression = (colour @ rng.normal(size=(3, GENES)) + 0.1 * rng.normal(size=(3, SPOTS, GENES))).astype(np.float32)
    for slide in range(3):
        with h5py.File(folder / f"S{slide}.h5", "w") as file:
            file[IMAGES] = images[slide].astype(np.uint8)
            file[BARCODES] = np.array([f"{spot}" for spot in range(SPOTS)], dtype="S")
    n = 3 * SPOTS
    role = np.array(["train"] * (SPOTS + 20) + ["val"] * (SPOTS - 20) + ["test"] * SPOTS, dtype=object)
    fold = Fold(
        genes=np.array([f"G{gene}" for gene in range(GENES)], dtype=object),
        is_hvg=np.ones(GENES, dtype=bool),
        is_marker=np.zeros(GENES, dtype=bool),
        expression=expression.reshape(n, GENES),
        sample=np.repeat(np.array(["S0", "S1", "S2"], dtype=object), SPOTS),
        patient=np.repeat(np.array(["P0", "P1", "P2"], dtype=object), SPOTS),
        barcode=np.tile(np.array([f"{spot}" for spot in range(SPOTS)], dtype=object), 3),
        role=role,
        patch=np.tile(np.arange(SPOTS), 3),
        spatial=rng.uniform(size=(n, 2)),
        array=np.tile(np.stack(np.divmod(np.arange(SPOTS), 6), axis=1), (3, 1)),
        total_counts=rng.uniform(100, 200, size=n).astype(np.float32),
        cohort="c",
        protocol="patient",
        fold=0,
    )
    write_fold(folder / "fold.h5", fold)
    return folder


def arguments(world, out, options=OPTIONS, seed=0, fold="fold.h5", method=METHOD):
    """Return the arguments of `train`, with outputs and state under ``out``."""
    return {
        "fold_path": world / fold,
        "patches": {f"S{slide}": world / f"S{slide}.h5" for slide in range(2)},  # none of the test slide's
        "method": "CMRCNet",
        "method_options": method,
        "options": options,
        "seed": seed,
        "code": "1",
        "state_root": out / "state",
        "model": out,
    }


def trained(world, out, **changes):
    train(**arguments(world, out, **changes))
    return outputs(out)


def outputs(out):
    """Weights as bytes, and the history without what a clock wrote."""
    lines = [line.split("\t") for line in (out / "history.tsv").read_text().splitlines()]
    kept = [column for column, name in enumerate(lines[0]) if name not in TIMINGS]
    return (out / "weights.safetensors").read_bytes(), [[line[column] for column in kept] for line in lines]


@pytest.fixture(scope="module")
def reference(world, tmp_path_factory):
    return trained(world, tmp_path_factory.mktemp("reference"))


SMALL = {
    "STNet": {"pretrained": "no", "image_size": 32, "growth_rate": 4, "blocks": "1-1"},
    "HisToGene": {"window": 20, "image_size": 8, "dim": 8, "layers": 1, "heads": 2},
    "NH2ST": {"encoder": "test_byobnet", "pretrained": "no", "image_size": 32, "neighbours": 4, "dim": 8}
    | {"hypergraph_hidden": 8, "decoder_hidden": 8, "fusion_heads": 2, "fusion_hidden": 8},
    # with its memory banks
    "MicNet": {"encoder": "test_resnet", "pretrained": "no", "image_size": 32, "embedding_dim": 4, "gene_hidden": "8"},
}


@pytest.mark.parametrize("method", SMALL)
def test_an_interrupted_training_of_any_kind_ends_with_the_same_bits(world, tmp_path, method, monkeypatch):
    options = OPTIONS.model_copy(update={"epochs": 3, "save_every_minutes": 1e-9})

    def run(out):
        train(**arguments(world, out, options=options, method=SMALL[method]) | {"method": method})
        return outputs(out)

    whole = run(tmp_path / "whole")
    batch, requests = Spots.batch, 0

    def cut_short(spots, *given):
        nonlocal requests
        requests += 1
        if requests == 9:
            raise KeyboardInterrupt
        return batch(spots, *given)

    with monkeypatch.context() as interrupted:
        interrupted.setattr(Spots, "batch", cut_short)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "cut")
    assert run(tmp_path / "cut") == whole
    assert json.loads((tmp_path / "cut/summary.json").read_text())["started_times"] == 2


CHILD = """
import sys, pickle
from spotwise.models.sizes import Sizes
from spotwise.training.loop import train
train(**pickle.loads(sys.stdin.buffer.read()))
"""


def start(world, out, **changes):
    """Start a training as a separate process."""
    import pickle

    child = subprocess.Popen([sys.executable, "-c", CHILD], stdin=subprocess.PIPE, env=os.environ | {"PYTHONPATH": SRC})
    child.stdin.write(pickle.dumps(arguments(world, out, **changes)))
    child.stdin.close()
    return child


SRC = str(Path(__file__).parents[2] / "src")


def interrupt(world, out, how, delay, **changes):
    """Start the training, signal it ``delay`` seconds after it saved something; its exit code."""
    begun = time.time_ns()
    child = start(world, out, **changes)
    while child.poll() is None and not any(path.stat().st_mtime_ns > begun for path in out.glob("state/*/last.pt")):
        time.sleep(0.005)
    time.sleep(delay)
    child.send_signal(how)
    return child.wait()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_killed_and_resumed_training_equals_the_uninterrupted_one_bit_for_bit(world, tmp_path, reference, how):
    delays = random.Random(int(how))
    stops = 0
    for _ in range(2):
        code = interrupt(world, tmp_path, how, delays.uniform(0, 0.2), options=SAVING)
        if code == 0:
            break
        stops += 1
        assert code == (-how if how == signal.SIGKILL else 128 + how)
        assert not (tmp_path / "weights.safetensors").exists()
    assert stops > 0, "the training was over before it could be interrupted"
    if code != 0:
        assert start(world, tmp_path, options=SAVING).wait() == 0
    assert outputs(tmp_path) == reference
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["started_times"] == stops + 1
    assert not (tmp_path / "state").exists()


def test_a_state_saved_in_the_middle_of_an_epoch_changes_nothing(world, tmp_path, reference):
    options = OPTIONS.model_copy(update={"save_every_minutes": 1e-9})  # after every step
    assert interrupt(world, tmp_path, signal.SIGKILL, 0.1, options=options) == -signal.SIGKILL
    assert trained(world, tmp_path, options=options) == reference


@pytest.fixture
def saves(monkeypatch):
    """Record epoch and step of each saved state."""
    kept, save = [], State.save

    def recorded(state, content):
        kept.append((content["epoch"], content["step"]))
        save(state, content)

    monkeypatch.setattr(State, "save", recorded)
    return kept


@pytest.mark.parametrize(("minutes", "count"), [(60, 0), (1e-9, 3 * (6 + 1))], ids=["long", "short"])
def test_states_are_saved_by_time_and_not_by_epoch(world, tmp_path, saves, minutes, count):
    """3 epochs of 50 // 8 = 6 steps, and an end of each epoch."""
    train(**arguments(world, tmp_path, options=OPTIONS.model_copy(update={"epochs": 3, "save_every_minutes": minutes})))
    assert len(saves) == count


def test_the_interval_runs_across_epochs(world, tmp_path, saves, monkeypatch):
    """A clock that moves by a minute per step: 18 steps, a state after each seventh minute."""
    clock, step = [0.0], Run._train_step

    def slow(run, batch):
        clock[0] += 60
        step(run, batch)

    monkeypatch.setattr(loop.time, "monotonic", lambda: clock[0] + 1e-6 * next(ticks))
    ticks = iter(range(10**9))
    monkeypatch.setattr(Run, "_train_step", slow)
    train(**arguments(world, tmp_path, options=OPTIONS.model_copy(update={"epochs": 3, "save_every_minutes": 6.5})))
    assert saves == [(2, 1), (3, 2)]


@pytest.mark.parametrize("during", ["_train_step", "_validate"])
def test_sigterm_saves_a_state_that_was_not_due(world, tmp_path, reference, saves, monkeypatch, during):
    method, calls = getattr(Run, during), 0

    def signalled(run, given):
        nonlocal calls
        calls += 1
        if calls == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return method(run, given)

    with monkeypatch.context() as asked_to_stop:
        asked_to_stop.setattr(Run, during, signalled)
        with pytest.raises(SystemExit) as stopped:
            train(**arguments(world, tmp_path))
    assert stopped.value.code == 128 + signal.SIGTERM
    assert saves == [{"_train_step": (1, 3), "_validate": (4, 0)}[during]]
    assert trained(world, tmp_path) == reference


def test_a_training_killed_after_its_best_epoch_publishes_that_epoch(world, tmp_path, monkeypatch):
    """The rate is so high that a later epoch is worse, and the process ends without a word after the last save."""
    options = OPTIONS.model_copy(update={"learning_rate": 0.05, "save_every_minutes": 1e-9})
    whole = trained(world, tmp_path / "whole", options=options)
    best = json.loads((tmp_path / "whole/summary.json").read_text())["best_epoch"]
    assert best < OPTIONS.epochs
    validate = Run._validate

    def cut_short(run, spots):
        if run.epoch == best + 1:
            raise KeyboardInterrupt
        return validate(run, spots)

    with monkeypatch.context() as interrupted:
        interrupted.setattr(Run, "_validate", cut_short)
        with pytest.raises(KeyboardInterrupt):
            train(**arguments(world, tmp_path / "cut", options=options))
    assert trained(world, tmp_path / "cut", options=options) == whole


def test_a_damaged_state_costs_the_training_so_far_and_no_bit(world, tmp_path, reference):
    assert interrupt(world, tmp_path, signal.SIGKILL, 0, options=SAVING) == -signal.SIGKILL
    (state,) = tmp_path.glob("state/*/last.pt")
    state.write_bytes(state.read_bytes()[:-1000])
    assert trained(world, tmp_path) == reference
    assert json.loads((tmp_path / "summary.json").read_text())["started_times"] == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 1},
        {"options": OPTIONS.model_copy(update={"learning_rate": 2e-3})},
        {"method": METHOD | {"masked_fraction": 0.3}},
    ],
    ids=["seed", "learning rate", "method option"],
)
def test_a_changed_parameter_starts_a_new_training(world, tmp_path, reference, changes):
    interrupted, clean = tmp_path / "interrupted", tmp_path / "clean"
    assert interrupt(world, interrupted, signal.SIGKILL, 0, options=SAVING) == -signal.SIGKILL
    result = trained(world, interrupted, **changes)
    assert result == trained(world, clean, **changes)
    assert result != reference
    assert json.loads((interrupted / "summary.json").read_text())["started_times"] == 1


def test_training_does_not_see_the_test_spots(world, tmp_path, reference):
    fold = read_fold(world / "fold.h5")
    expression = fold.expression.copy()
    expression[fold.role == TEST] = np.nan
    write_fold(world / "blind.h5", replace(fold, expression=expression))
    assert trained(world, tmp_path, fold="blind.h5") == reference


def test_the_kept_epoch_is_that_of_the_lowest_validation_loss(world, tmp_path, reference):
    train(**arguments(world, tmp_path))
    header, *rows = reference[1]
    losses = [float(row[header.index("val_total")]) for row in rows]
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["best_epoch"] == 1 + int(np.argmin(losses))
    assert len(rows) == OPTIONS.epochs
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("longest", [0.01, 0.05, None])
def test_a_clipped_gradient_is_no_longer_than_its_limit(world, tmp_path, longest):
    """One step of plain SGD moves the parameters by the gradient times the learning rate."""
    fold = read_fold(world / "fold.h5")
    training = fold.rows("train")
    rate = {"learning_rate": 0.1, "final_learning_rate": 0.1, "optimiser": "sgd", "momentum": 0, "weight_decay": 0}
    options = OPTIONS.model_copy(update={"epochs": 1, "batch_size": len(training), "clip_norm": longest, **rate})
    train(**arguments(world, tmp_path, options=options, method=SMALL["STNet"]) | {"method": "STNet"})
    after = restore("STNet", Sizes.of(fold), SMALL["STNet"], tmp_path / "weights.safetensors").state_dict()
    before = Run(Sizes.of(fold), "STNet", SMALL["STNet"], options, 0, torch.device("cpu"), fresh=True).model
    before.begin(torch.from_numpy(fold.expression[training]))
    moved = sum(float((after[name] - value).detach().square().sum()) for name, value in before.named_parameters())
    gradient = math.sqrt(moved) / 0.1
    if longest is None:
        assert gradient > 0.1
    else:
        assert gradient == pytest.approx(longest, rel=1e-3)


def test_learning_rate_follows_the_released_schedule():
    rates = learning_rates(TrainingOptions())
    known = {1: 9.993833e-5, 2: 9.975349e-5, 30: 5.5e-5, 59: 1.006167e-5, 60: 1e-5}
    assert len(rates) == 60
    for epoch, rate in known.items():
        assert rates[epoch - 1] == pytest.approx(rate, rel=1e-6)


def test_a_run_that_asks_for_a_gpu_and_gets_none_stops(world, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SetupError, match="torch sees no GPU"):
        train(**arguments(world, tmp_path, options=OPTIONS.model_copy(update={"device": "cuda"})))
    assert list(tmp_path.iterdir()) == []


def test_two_trainings_of_the_same_do_not_share_a_state(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "HANDOVER_SECONDS", 0)
    with locked(tmp_path), pytest.raises(SetupError, match=rf"another process .*{os.getpid()}"), locked(tmp_path):
        pass


def test_a_resumed_training_knows_whether_weights_were_pretrained(world, tmp_path):
    fold = read_fold(world / "fold.h5")
    first = Run(Sizes.of(fold), "CMRCNet", METHOD, OPTIONS, 0, torch.device("cpu"), fresh=True)
    first.pretrained_loaded = False
    state = State(tmp_path, "a")
    first.save(state)
    second = Run(Sizes.of(fold), "CMRCNet", METHOD, OPTIONS, 0, torch.device("cpu"), fresh=False)
    second.resume(state.load())
    assert second.pretrained_loaded is False
    assert second.attempt == 2


def test_a_finished_training_clears_what_other_parameters_left(tmp_path):
    root = tmp_path / "state"
    with locked(root):
        (root / "left").mkdir()
        State(root, "mine").save({"epoch": 1})
        State(root, "mine").discard()
    assert not root.exists()


def test_momentum_is_that_of_sgd():
    """Under a constant gradient of 1, the second step of SGD is 1 + momentum times the first."""
    model = torch.nn.Linear(1, 1, bias=False)
    options = TrainingOptions(optimiser="sgd", momentum=0.7, learning_rate=0.1, weight_decay=0.0)
    optimiser = loop._optimiser(model, options, torch.device("cpu"))
    weights = [model.weight.item()]
    for _ in range(2):
        model.weight.grad = torch.ones(1, 1)
        optimiser.step()
        weights.append(model.weight.item())
    assert weights[0] - weights[1] == pytest.approx(0.1)
    assert weights[1] - weights[2] == pytest.approx(0.17)

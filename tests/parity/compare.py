"""Trains with touchstone and with plain PyTorch, and compares everything; `just parity` runs it.

    PYTHON=/path/to/python just parity      prints a table and fails beyond the tolerance
        --peers         also against TRL's trainers (peers.py; needs transformers and trl)
        --write         also writes reference.json, which `cargo test --test parity` checks everywhere

Needs torch, numpy and safetensors. touchstone writes a folder per checkpoint and case: the problem (settings, and rows in
the order in which they were trained on), the weights before and after, and of every step the loss, the norm and the
gradients.
"""

import argparse
import json
import os
import pathlib
import platform
import subprocess
import sys
import tempfile

import torch
from safetensors.torch import load_file

import reference
from trajectory import Trajectory, largest, print_table

TOLERANCE = 1e-4
# Differences of a tensor's gradients are relative to its largest gradient in all steps, since in some step they may nearly
# cancel. Some are zero in exact arithmetic, such as those of a bias that moves both scores of a pair alike: a tensor whose
# largest gradient is below this share of the largest of all is compared with that share.
FLOOR = 1e-3
# A norm below this share of the largest of all steps is compared with that share: RLOO's gradient vanishes, or nearly so, where all
# responses to a prompt are worth almost the same, and what is left is rounding.
NORM_FLOOR = 1e-2
# Optimiser steps, from 1, whose gradients reference.json holds.
KEPT = (1, 10, 20)
HERE = pathlib.Path(__file__).resolve().parent


def of_reference(folder, dtype):
    """The trajectory of reference.py on the problem in `folder`."""
    problem = json.loads((folder / "problem.json").read_text())
    weights = load_file(folder / "start.safetensors")
    for second, prefix in (("critic", "value_network"), ("reference", "reference")):
        if (folder / f"{second}.safetensors").exists():
            tensors = load_file(folder / f"{second}.safetensors")
            weights |= {f"{prefix}.{name}": weight for name, weight in tensors.items()}
    torch.set_default_dtype(dtype)
    trainer = reference.METHODS[problem["method"]](problem, {name: weight.to(dtype) for name, weight in weights.items()})
    torch.set_default_dtype(torch.float32)
    # PPO returns its policy alone.
    end = {name.removeprefix("policy."): weight for name, weight in trainer.weights.items()
           if not name.startswith("value_")}
    trajectory = Trajectory(trainer.losses, trainer.norms, trainer.gradients, end)
    trajectory.margin = getattr(trainer, "margin", None)
    return trajectory


def differences(found, expected):
    """The largest difference of each quantity over all steps, relative as the page says."""
    assert len(found.losses) == len(expected.losses) and len(found.gradients) == len(expected.gradients)
    for step, (ours, theirs) in enumerate(zip(found.gradients, expected.gradients), 1):
        assert ours.keys() == theirs.keys(), f"step {step}: gradients of {ours.keys() ^ theirs.keys()} on one side only"
    scales = {name: max(largest(step[name]) for step in expected.gradients) for name in expected.gradients[0]}
    floor = FLOOR * max(scales.values())
    assert found.end.keys() == expected.end.keys()
    return {
        "loss": max(abs(a - b) / max(1.0, abs(b)) for a, b in zip(found.losses, expected.losses)),
        "gradient norm": max(abs(a - b) / max(b, NORM_FLOOR * max(expected.norms)) for a, b in zip(found.norms, expected.norms)),
        "gradients": max(largest(ours[name] - theirs[name]) / max(scale, floor)
                         for ours, theirs in zip(found.gradients, expected.gradients) for name, scale in scales.items()),
        "parameters": max(largest(found.end[name] - end) / max(1.0, largest(end)) for name, end in expected.end.items()),
    }


def fingerprints(tensors):
    """Of every tensor, by name: its norm, and its projection on cos(0), cos(1), …, which hardly any error leaves alone."""
    flat = [tensors[name].flatten() for name in sorted(tensors)]
    direction = [torch.arange(len(values), dtype=torch.float64).cos() for values in flat]
    return [[rounded(values.norm().item()), rounded((values @ cos).item())] for values, cos in zip(flat, direction)]


def rounded(value):
    return float(f"{value:.7g}")


def committed(folder, trajectory):
    """What reference.json holds of one case."""
    problem = json.loads((folder / "problem.json").read_text())
    rollouts = [[row["response"] for row in update["rollouts"]] for update in problem.get("updates", [])]
    return {
        "losses": [rounded(loss) for loss in trajectory.losses],
        "norms": [rounded(norm) for norm in trajectory.norms],
        "rollouts": rollouts,
        "trained": sorted(trajectory.gradients[0]),
        "gradients": {step: fingerprints(trajectory.gradients[step - 1]) for step in KEPT},
        "saved": sorted(trajectory.end),
        "end": fingerprints(trajectory.end),
    }


def train(folder):
    """touchstone's trajectories, written into `folder`."""
    command = "cargo test --release --test parity -- --ignored write_trajectories".split()
    subprocess.run(command, cwd=HERE, env=os.environ | {"TOUCHSTONE_PARITY": folder}, check=True)


def compare(folder):
    """A table of differences, what reference.json is to hold, and the largest difference."""
    rows, kept, worst = [], {}, 0.0
    for case in sorted(path.parent for path in folder.glob("*/*/problem.json")):
        precise = of_reference(case, torch.float64)
        single = of_reference(case, torch.float32)
        start = load_file(case / "start.safetensors")
        ours = differences(Trajectory.of_touchstone(case), precise)
        theirs = differences(single, precise)
        moved = max(largest(value - start[name].double()) for name, value in precise.end.items())
        name = f"{case.parent.name}/{case.name}"
        kept[name] = committed(case, precise)
        worst = max(worst, *ours.values())
        cells = [f"{ours[quantity]:.1e} ({theirs[quantity]:.1e})" for quantity in ours]
        margin = f"{precise.margin:.1e}" if precise.margin else ""
        rows.append([name, *cells, f"{moved:.3f}", margin])
    print_table(["case", *ours, "moved by", "sampling margin"], rows)
    print(f"\ntouchstone against float64 (PyTorch's own float32 against float64); PyTorch {torch.__version__}, "
          f"Python {platform.python_version()}\n")
    return kept, worst


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", action="store_true", help="also against TRL's trainers")
    parser.add_argument("--write", action="store_true", help="also writes reference.json")
    wanted = parser.parse_args()
    # Threads only get into each other's way on tensors this small.
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        train(folder)
        kept, worst = compare(pathlib.Path(folder))
        if wanted.peers:
            import peers

            worst = max(worst, peers.compare(pathlib.Path(folder)))
    if wanted.write:
        text = json.dumps({"torch": torch.__version__, "tolerance": TOLERANCE, "floor": FLOOR, "norm_floor": NORM_FLOOR, "cases": kept})
        (HERE / "reference.json").write_text(text.replace(' "losses"', '\n"losses"') + "\n")
    if worst > TOLERANCE:
        sys.exit(f"the largest difference, {worst:.1e}, is beyond {TOLERANCE:.0e}")


if __name__ == "__main__":
    main()

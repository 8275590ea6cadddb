#!/usr/bin/env python3
"""Our speed beside PyTorch's: the cases of benches/training.rs and peer.py in turns, on one thread, as a Markdown table.

    python3 -m venv /tmp/peer && /tmp/peer/bin/pip install torch==2.9.0     # x86-64 Linux: 7 GB, no GPU needed
    PYTHON=/tmp/peer/bin/python benches/peer/compare.py                    # or: PYTHON=… just bench-peer

For every case and size the two programs run in turns, ours then PyTorch, for a number of rounds, so that both meet the
same neighbours and the same clock. A round's speed is tokens / median time of its repetitions. The table shows the median
speed over rounds of each, the median of the ratios of the rounds, with the smallest and the largest, and the largest
resident set of each program in any round.
"""

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CASES = ["train", "generate", "reward", "reward_train", "ppo"]
SIZES = ["mini-1b", "mini-2.8b", "mistral-mini-1b", "mistral-mini-2.8b"]


def fail(message: str):
    sys.exit(f"{Path(sys.argv[0]).name}: {message}")


def built() -> str:
    """Path of the compiled bench `training`."""
    command = ["cargo", "bench", "--bench", "training", "--no-run", "--message-format", "json"]
    run = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if run.returncode != 0:
        fail("`cargo bench --bench training --no-run` failed")
    for line in run.stdout.splitlines():
        message = json.loads(line)
        if message.get("executable") and message["target"]["name"] == "training":
            return message["executable"]
    fail("cargo built no executable for the bench `training`")


def torch_version(python: str) -> str:
    try:
        run = subprocess.run([python, "-c", "import torch; print(torch.__version__)"], capture_output=True, text=True)
    except OSError as error:
        fail(f"cannot start PYTHON={python}: {error}")
    if run.returncode != 0:
        fail(f"{python} has no PyTorch; the head of this file says how to install it, then set PYTHON")
    return run.stdout.strip()


def speed(command: list[str], case: str, size: str, seconds: float) -> tuple[float, float]:
    """Tokens per second of one case and size in a process of its own, on one thread, and its largest resident set in MiB."""
    environment = os.environ | {"RAYON_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    arguments = ["--case", case, "--size", size, "--seconds", str(seconds)]
    process = subprocess.Popen(command + arguments, stdout=subprocess.PIPE, text=True, env=environment)
    said = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    code = process.returncode = os.waitstatus_to_exitcode(status)
    if code != 0:
        fail(f"{command[0]} ended with {code} at {case}, {size}")
    return json.loads(said)["tokens_per_second"], usage.ru_maxrss / 1024


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3, help="turns per case and size")
    parser.add_argument("--seconds", type=float, default=3.0, help="least time per turn")
    parser.add_argument("--case", choices=CASES, action="append", help="only this case (may be given again)")
    parser.add_argument("--size", choices=SIZES, action="append", help="only this size (may be given again)")
    options = parser.parse_args()
    python = os.environ.get("PYTHON", sys.executable)
    torch = torch_version(python)
    ours, peer = [built(), "--json"], [python, str(ROOT / "benches/peer/peer.py")]
    load = f", load {os.getloadavg()[0]:.1f} at the start" if hasattr(os, "getloadavg") else ""
    print(f"{datetime.date.today()}, {processor()}, {os.cpu_count()} cores, one thread each, PyTorch {torch}, "
          f"{options.rounds} rounds of {options.seconds:g} s{load}.\n")
    print("| case | size | ours, tokens/s | PyTorch, tokens/s | ours / PyTorch | smallest–largest | ours, MiB | PyTorch, MiB |")
    print("|---|---|--:|--:|--:|--:|--:|--:|", flush=True)
    for case in options.case or CASES:
        for size in options.size or SIZES:
            pairs = [[speed(command, case, size, options.seconds) for command in (ours, peer)]
                     for _ in range(options.rounds)]
            ratios = sorted(a / b for (a, _), (b, _) in pairs)
            (a, our_mib), (b, their_mib) = (
                (statistics.median(speeds), max(sizes)) for speeds, sizes in (zip(*column) for column in zip(*pairs)))
            print(f"| {case} | {size} | {a:,.0f} | {b:,.0f} | {statistics.median(ratios):.2f} "
                  f"| {ratios[0]:.2f}–{ratios[-1]:.2f} | {our_mib:.0f} | {their_mib:.0f} |", flush=True)


if __name__ == "__main__":
    main()

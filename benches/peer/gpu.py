#!/usr/bin/env python3
"""A CUDA machine examined: does touchstone compute there what it should, and how fast, beside transformers and PyTorch.

    PYTHON=/tmp/peer/bin/python just bench-gpu                        # feature cuda, cuda:0, Pythia-1B's shape
        --features cuda,tch --device cuda:0 --device libtorch:cuda:0  # LibTorch needs LIBTORCH, with libtorch_cuda.so in it
        --dry-run                                                     # the same on this machine's processor, at a tiny shape

PYTHON names a Python with torch and transformers; without them the peer is left out. First `touchstone conformance` on every
device. Then for every device and case two programs in turns, ours and the peer, each in a process of its own: an SFT step, a
batch of responses, a PPO update, at the lengths and batches of the experiment's scale `paper` (prompts of 512, responses of
53), with random weights. The table has tokens per second, the share of the GPU's peak that the model's operations reach (none
where the table of `touchstone plan` does not know the GPU), and the most memory that was in use: the GPU's as nvidia-smi says
it five times a second, on a processor the process's largest resident set. Memory of a GPU includes what allocators hold back
for later, and whatever else uses the GPU. The exit code is 1 if a device does not compute what it should.
"""

import argparse
import datetime
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

from compare import ROOT, fail, processor

CASES = ["sft", "generate", "ppo"]
# The peer's critic is a head on the policy's features.
CRITIC = ["--set", "ppo.critic=zero_head"]
PAPER = ["--scale", "paper", "--size", "pythia-1b", *CRITIC]
TINY = ["--scale", "mini", "--size", "mini-1b", *CRITIC, "--set", "sft.batch_size=4", "--set", "generation.batch_size=4",
        "--set", "ppo.rollouts=4", "--set", "ppo.minibatches=2", "--set", "ppo.epochs=1"]


def built(features: str) -> str:
    """Path of the compiled program."""
    command = ["cargo", "build", "--release", "--features", features, "--message-format", "json"]
    run = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if run.returncode != 0:
        fail(f"`cargo build --release --features {features}` failed")
    for line in run.stdout.splitlines():
        message = json.loads(line)
        if message.get("executable") and message["target"]["name"] == "touchstone":
            return message["executable"]
    fail("cargo built no program `touchstone`")


def nvidia_smi(index: str, query: str) -> str:
    command = ["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader,nounits", "--id", index]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def run(command: list[str], gpu: str | None) -> tuple[dict, float]:
    """The line of JSON that `command` prints, and the most GiB in use while it ran."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    most, over = 0.0, threading.Event()

    def watch():
        nonlocal most
        while not over.wait(0.2):
            most = max(most, float(nvidia_smi(gpu, "memory.used")) / 1024)

    watcher = threading.Thread(target=watch)
    if gpu is not None:
        watcher.start()
    said = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    over.set()
    if gpu is not None:
        watcher.join()
    if os.waitstatus_to_exitcode(status) != 0:
        fail(f"`{' '.join(command[:2])} …` ended with {os.waitstatus_to_exitcode(status)}")
    return json.loads(said), most if gpu is not None else usage.ru_maxrss / (1 << 20)


def missing_peer(python: str) -> str | None:
    """Why the peer cannot run, if it cannot."""
    try:
        tried = subprocess.run([python, "-c", "import torch, transformers"], capture_output=True, text=True)
    except OSError as error:
        return f"{python} does not start: {error}"
    return None if tried.returncode == 0 else f"{python} cannot import torch and transformers; set PYTHON"


def cells(line: dict, seconds: float, gib: float) -> list[str]:
    """Speed, share of the peak, memory."""
    utilisation = line["model_flops_utilisation"]
    share = "–" if utilisation is None else f"{utilisation * line['median_s'] / seconds:.1%}"
    return [f"{line['tokens'] / seconds:,.0f}", share, f"{gib:.2f}"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dry-run", action="store_true", help="on this machine's processor, at a tiny shape")
    parser.add_argument("--features", default="cuda", help="cargo features to build with")
    parser.add_argument("--program", help="a program that is built already")
    parser.add_argument("--device", action="append", help="cuda:N or libtorch:cuda:N (may be given again)")
    parser.add_argument("--case", choices=CASES, action="append", help="only this case (may be given again)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each case that count")
    options = parser.parse_args()
    if not options.dry_run and shutil.which("nvidia-smi") is None:
        fail("there is no nvidia-smi and so no NVIDIA GPU; --dry-run tries the rest")
    program = options.program or built("default" if options.dry_run else options.features)
    devices = options.device or (["flex"] if options.dry_run else ["cuda:0"])
    shape = TINY if options.dry_run else PAPER
    effort = ["--warm-up", "0" if options.dry_run else "2", "--rounds", "1" if options.dry_run else str(options.rounds)]
    python = os.environ.get("PYTHON", sys.executable)
    without = missing_peer(python)

    agree = True
    for device in devices:
        agree &= subprocess.run([program, "conformance", "--device", device]).returncode == 0
    where = processor() if options.dry_run else ", ".join(sorted({nvidia_smi(gpu_of(d), "name") for d in devices}))
    print(f"\n{datetime.date.today()}, {where}, {options.rounds if not options.dry_run else 1} rounds"
          f"{'; a dry run, whose numbers mean nothing' if options.dry_run else ''}"
          f"{f'; without the peer: {without}' if without else ''}.\n")
    print("| device | case | dtype | rows at once | ours, tokens/s | of peak | GiB | peer, tokens/s | of peak | GiB | ours / peer |")
    print("|---|---|---|--:|--:|--:|--:|--:|--:|--:|--:|", flush=True)
    for device in devices:
        for case in options.case or CASES:
            gpu = gpu_of(device)
            line, gib = run([program, "bench", *shape, "--device", device, "--case", case, *effort], gpu)
            row = [device, case, line["training"]["dtype"], str(line["micro_batch"] or "all")]
            row += cells(line, line["median_s"], gib)
            if without:
                row += ["–"] * 4
            else:
                peer = [python, str(ROOT / "benches/peer/transformers_peer.py"), json.dumps(line), *effort]
                theirs, their_gib = run(peer, gpu)
                row += [*cells(line, theirs["median_s"], their_gib), f"{theirs['median_s'] / line['median_s']:.2f}"]
            print("| " + " | ".join(row) + " |", flush=True)
    sys.exit(0 if agree else 1)


def gpu_of(device: str) -> str | None:
    """The number of the GPU that a device is."""
    return device.rsplit(":", 1)[-1] if "cuda" in device else None


if __name__ == "__main__":
    main()

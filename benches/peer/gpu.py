#!/usr/bin/env python3
"""A CUDA machine examined: does touchstone compute there what it should, and how fast, beside transformers and PyTorch.

    PYTHON=/tmp/peer/bin/python just bench-gpu                        # feature cuda, cuda:0, Pythia-1B's shape
        --features cuda,tch --device cuda:0 --device libtorch:cuda:0  # LibTorch needs LIBTORCH, with libtorch_cuda.so in it
        --dry-run                                                     # the same on this machine's processor, at a tiny shape

PYTHON names a Python with torch and transformers; without them the peers are left out. First `touchstone conformance` on every
device. Then for every device and case three programs in turns, each in a process of its own: ours, transformers, and the ceiling
(`ceiling.py`: torch's kernels with nothing around them; none for PPO). A case is an SFT step, a batch of responses or a PPO update,
at the lengths and batches of the experiment's scale `paper` (prompts of 512, responses of 53), with random weights. The table has
our set-up, the seconds of one repetition, tokens per second, the share of the GPU's peak that the model's operations reach (none where
the table of `touchstone plan` does not know the GPU), and the most memory that was in use: the GPU's as nvidia-smi says it five times
a second, on a processor the process's largest resident set. Memory of a GPU includes what allocators hold back for later, and
whatever else uses the GPU.

With --profile, and CUPTI and a C compiler there, ours runs once more under `profile.c`, which prints kernels, launches, copies and the
share of the time in which the GPU was busy. The exit code is 1 if a device does not compute what it should; what TF32 explains is no
fault of a device that multiplies in it.
"""

import argparse
import datetime
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
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


def run(command: list[str], gpu: str | None) -> tuple[list[dict], float]:
    """The lines of JSON that `command` prints, and the most GiB in use while it ran."""
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
    return [json.loads(line) for line in said.splitlines()], most if gpu is not None else usage.ru_maxrss / (1 << 20)


def profiler(folder: Path) -> Path | None:
    """The compiled profiler, if CUPTI and a C compiler are here."""
    places = [Path("/usr/local/cuda"), *(Path(path) / "nvidia" for path in sys.path)]
    headers = next((found for place in places if place.is_dir() for found in place.rglob("cupti.h")), None)
    library = next((found for place in places if place.is_dir() for found in place.rglob("libcupti.so*")), None)
    if headers is None or library is None or shutil.which("cc") is None:
        return None
    kernels = re.findall(r"CUpti_ActivityKernel\d+", (headers.parent / "cupti_activity.h").read_text())
    newest = max(kernels, key=lambda name: int(name.removeprefix("CUpti_ActivityKernel")))
    out = folder / "libprofile.so"
    source = ROOT / "benches/peer/profile.c"
    command = ["cc", "-O2", "-shared", "-fPIC", f"-DKERNEL={newest}", str(source), "-o", str(out), f"-I{headers.parent}", str(library), "-lpthread"]
    return out if subprocess.run(command).returncode == 0 else None


def missing_peer(python: str) -> str | None:
    """Why the peer cannot run, if it cannot."""
    try:
        tried = subprocess.run([python, "-c", "import torch, transformers"], capture_output=True, text=True)
    except OSError as error:
        return f"{python} does not start: {error}"
    return None if tried.returncode == 0 else f"{python} cannot import torch and transformers; set PYTHON"


def row(line: dict, by: str, setup: str, seconds: float, gib: float) -> str:
    """A line of the table: where, what, by which program, and what it took."""
    utilisation = line["model_flops_utilisation"]
    share = "–" if utilisation is None else f"{utilisation * line['median_s'] / seconds:.1%}"
    cells = [line["device"], line["case"], line["training"]["dtype"], str(line["micro_batch"] or "all"), by, setup, f"{seconds:.3f}",
             f"{line['tokens'] / seconds:,.0f}", share, f"{gib:.2f}", f"{seconds / line['median_s']:.2f}"]
    return "| " + " | ".join(cells) + " |"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dry-run", action="store_true", help="on this machine's processor, at a tiny shape")
    parser.add_argument("--features", default="cuda", help="cargo features to build with")
    parser.add_argument("--program", help="a program that is built already")
    parser.add_argument("--device", action="append", help="cuda:N or libtorch:cuda:N (may be given again)")
    parser.add_argument("--case", choices=CASES, action="append", help="only this case (may be given again)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each case that count")
    parser.add_argument("--profile", action="store_true", help="where the GPU's time goes, in ours")
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
    print("| device | case | dtype | rows at once | program | set-up, s | step, s | tokens/s | of peak | GiB | times ours |")
    print("|---|---|---|--:|---|--:|--:|--:|--:|--:|--:|", flush=True)
    lines = []
    for device in devices:
        gpu = gpu_of(device)
        for case in options.case or CASES:
            [line], gib = run([program, "bench", *shape, "--device", device, "--case", case, *effort], gpu)
            lines.append(line)
            print(row(line, "touchstone", f"{line['setup_s']:.1f}", line["median_s"], gib), flush=True)
            for peer in [] if without else ["transformers_peer.py", "ceiling.py"]:
                theirs, gib = run([python, str(ROOT / "benches/peer" / peer), json.dumps(line), *effort], gpu)
                for one in theirs:
                    by = peer.split("_")[0].removesuffix(".py") + ("" if one["case"] == case else f", {one['case']}")
                    print(row(line, by, "–", one["median_s"], gib), flush=True)
    if options.profile:
        profile(program, shape, lines)
    sys.exit(0 if agree else 1)


def profile(program: str, shape: list[str], lines: list[dict]):
    """Prints where the time of one repetition of each line goes."""
    with tempfile.TemporaryDirectory() as folder:
        library = profiler(Path(folder))
        if library is None:
            print("\nNo profile: CUPTI (cupti.h, libcupti.so) or a C compiler is missing.")
            return
        for line in lines:
            said = Path(folder) / "said"
            environment = {**os.environ, "CUDA_INJECTION64_PATH": str(library), "PROFILE_OUT": str(said)}
            command = [program, "bench", *shape, "--device", line["device"], "--case", line["case"], "--warm-up", "1", "--rounds", "1"]
            subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)
            print(f"\n{line['device']}, {line['case']}, set-up and two repetitions:\n")
            print(said.read_text() if said.exists() else "the profiler was not loaded: no program of CUDA ran")


def gpu_of(device: str) -> str | None:
    """The number of the GPU that a device is."""
    return device.rsplit(":", 1)[-1] if "cuda" in device else None


if __name__ == "__main__":
    main()

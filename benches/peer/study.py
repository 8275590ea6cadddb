#!/usr/bin/env python3
"""One seed of the main study beside Hugging Face's TRL, end to end: the same stages in turns, as Markdown tables.

    python3 -m venv /tmp/trl && /tmp/trl/bin/pip install torch==2.9.0 transformers==4.57.1 trl==0.24.0
    cargo build --release && PYTHON=/tmp/trl/bin/python benches/peer/study.py        # or: PYTHON=… just bench-study

Ours is `touchstone reproduce benches/peer/study.toml` from an empty store to its report, one stage at a time; the peer is
benches/peer/study_trl.py, whose stages are set to what touchstone's plan says. They run in turns: the peer, ours, and the peer with
what its imports made frozen out of garbage collection (`gc.freeze()`, one line that a user may add). Each has one thread. Before,
and not timed, touchstone makes what the peer reads: the base checkpoint, demonstrations, preferences and held-out posts of the
embedded world. Processor seconds count what a program and its children computed, wherever other programs share the machine.
`--profile smoke --turns 1` tries everything in a minute.
"""

import argparse
import datetime
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from compare import ROOT, fail, processor

EXPERIMENT = ROOT / "benches/peer/study.toml"
ONE_THREAD = {"RAYON_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
# Rows of the table of stages: its name, the kind of stage on both sides, and the methods whose stages count here.
STAGES = [
    ("SFT", "sft", "sft"),
    ("pairs sampled", "pairs", "irl spin"),
    ("rewards of IRL", "reward", "irl"),
    ("PPO of IRL", "ppo", "irl"),
    ("SPIN (DPO)", "spin", "spin"),
    ("reward of RLHF", "reward", "rlhf"),
    ("PPO of RLHF", "ppo", "rlhf"),
    ("held-out pairs sampled", "heldout_pairs", "all"),
    ("evaluation of policies", "evaluate", "sft irl spin rlhf"),
    ("evaluation of rewards", "evaluate_reward", "irl spin rlhf"),
]


def measured(command, log):
    """Wall seconds, processor seconds and MiB of the largest process of a command and its children; what it says goes to `log`."""
    started = time.perf_counter()
    with open(log, "wb") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said, env=os.environ | ONE_THREAD, cwd=ROOT)
        _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - started
    code = process.returncode = os.waitstatus_to_exitcode(status)
    if code != 0:
        fail(f"`{' '.join(map(str, command))}` ended with {code}: {log.read_text(errors='replace')[-2000:]}")
    return {"wall": wall, "cpu": usage.ru_utime + usage.ru_stime, "mib": usage.ru_maxrss / 1024}


def rows_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


class Ours:
    """touchstone, and the folder in which it works here."""

    def __init__(self, binary, profile, folder):
        self.binary, self.profile, self.folder = binary, profile, folder

    def run(self, *words):
        command = [self.binary, *map(str, words)]
        run = subprocess.run(command, cwd=ROOT, env=os.environ | ONE_THREAD, capture_output=True, text=True)
        if run.returncode != 0:
            fail(f"`{' '.join(map(str, command))}` ended with {run.returncode}: {run.stderr[-2000:]}")
        return run.stdout

    def plan(self, store, *overrides):
        """Stages by key, each behind its inputs; their specifications are written to the store."""
        words = ["plan", EXPERIMENT, "--profile", self.profile, "--store", store, "--json", "--record", *overrides]
        return {stage["key"]: stage for stage in json.loads(self.run(*words))["stages"]}

    def artifact(self, store, plan, wanted):
        """The folder of a stage's artifact, which is computed if it is missing, and its inputs before it."""
        needed, todo = set(), [wanted]
        while todo:
            key = todo.pop()
            needed.add(key)
            todo += [item for value in plan[key]["spec"]["inputs"].values() for item in as_list(value)]
        for key in plan:
            if key in needed and not (store / "artifacts" / key[:2] / key).exists():
                self.run("stage", key, "--store", store)
        return store / "artifacts" / wanted[:2] / wanted

    def reproduce(self, turn):
        """Costs of the whole study, and the manifests of its stages."""
        store = self.folder / f"ours-{turn}"
        command = [self.binary, "reproduce", EXPERIMENT, "--profile", self.profile, "--store", store, "--out", store / "reports",
                   "--jobs", "1"]
        cost = measured(command, self.folder / f"ours-{turn}.log")
        stages = []
        for path in sorted((store / "artifacts").glob("*/*/manifest.json")):
            manifest = json.loads(path.read_text())
            stages.append(manifest | {"work": work(path.parent, manifest["spec"], store)})
        return cost | {"stages": stages}


def as_list(value):
    return value if isinstance(value, list) else [value]


def prepare(ours, folder):
    """Fills `folder` with what the peer reads."""
    store = ours.folder / "prepared"
    plan = ours.plan(store)
    keys = lambda kind, label="", plan=plan: [
        key for key, stage in plan.items() if stage["spec"]["kind"] == kind and label in stage["label"]]
    of_kind = lambda kind, label="": plan[keys(kind, label)[0]]["spec"]["settings"]
    evaluation = of_kind("evaluate")
    if evaluation["decoding"] or of_kind("ppo")["ppo"]["critic"] != "reward_copy":
        fail(f"{EXPERIMENT} asks for decodings or for a critic that the peer does not have")
    settings = {
        "seed": plan[keys("sft")[0]]["spec"]["seed"],
        "generation": of_kind("sft")["generation"],
        "sft": of_kind("sft")["sft"],
        "pairs": of_kind("pairs"),
        "reward": of_kind("reward")["reward"],
        "ppo": {method: of_kind("ppo", f"{method}/")["ppo"] for method in ("irl", "rlhf")},
        "spin": of_kind("spin")["spin"],
        "heldout_pairs": of_kind("heldout_pairs"),
        "evaluate": evaluation,
        "irl_rounds": len(keys("ppo", "irl/")),
        "spin_rounds": len(keys("spin", "spin/")),
    }
    folder.mkdir()
    (folder / "settings.json").write_text(json.dumps(settings, indent=1))
    base = plan[keys("sft")[0]]["spec"]["inputs"]["base"]
    shutil.copytree(ours.artifact(store, plan, base), folder / "base")
    write(folder / "demonstrations.jsonl", [
        {"prompt": row["prompt"], "response": row["response"]}
        for row in rows_of(ours.artifact(store, plan, keys("demonstrations")[0]) / "demonstrations.jsonl")])
    for name, label in (("preferences", "/seed"), ("test_preferences", "/test")):
        rows = rows_of(ours.artifact(store, plan, keys("preferences", label)[0]) / "pairs.jsonl")
        write(folder / f"{name}.jsonl", [
            {"prompt": row["prompt"], "chosen": row["chosen"]["text"], "rejected": row["rejected"]["text"]} for row in rows])
    # The held-out posts stand beside samples; at a high temperature no sample equals the reference, so that none is left out.
    posts = evaluation["evaluation_set"]["posts"]
    hot = ours.plan(store, "--set", "evaluation.temperature=5.0", "--set", f"evaluation.on_policy_pairs={posts}")
    rows = rows_of(ours.artifact(store, hot, keys("heldout_pairs", plan=hot)[0]) / "demonstrated.jsonl")
    write(folder / "posts.jsonl", [{"prompt": row["prompt"], "response": row["chosen"]["text"]} for row in rows])


def work(artifact, spec, store):
    """Rows that a stage of touchstone read, drew or answered, and its optimiser steps, as its files have them."""
    settings = spec["settings"]
    of = lambda role: store / "artifacts" / spec["inputs"][role][:2] / spec["inputs"][role]
    count = lambda path: len(rows_of(path))
    curve = lambda: json.loads((artifact / "curve.json").read_text())
    match spec["kind"]:
        case "sft":
            return count(of("demonstrations") / "demonstrations.jsonl"), len(curve()["loss"])
        case "reward" | "spin":
            return curve()["pairs"], len(curve()["loss"])
        case "ppo":
            updates, ppo = len(curve()), settings["ppo"]
            return updates * ppo["rollouts"], updates * ppo["epochs"] * ppo["minibatches"]
        case "pairs":
            return count(artifact / "pairs.jsonl"), 0
        case "heldout_pairs":
            return 2 * settings["posts"], 0
        case "evaluate":
            return count(artifact / "answers.jsonl"), 0
        case "evaluate_reward":
            own = of("heldout_pairs")
            files = [own / "on_policy.jsonl", own / "demonstrated.jsonl", of("preferences") / "pairs.jsonl"]
            return sum(map(count, files)), 0
    return 0, 0


def peer(python, rows, out, *more):
    """Costs of the peer: of the whole process, of its imports and of its stages."""
    cost = measured([python, ROOT / "benches/peer/study_trl.py", rows, out, *more], out.with_suffix(".log"))
    return cost | json.loads((out / "stages.json").read_text())


def grouped(turns, method_of):
    """For every row of the table of stages: number of stages, rows, steps, tokens, and the mean of their seconds over the turns."""
    found = {}
    for name, kind, methods in STAGES:
        of_turns = [[stage for stage in turn["stages"] if stage["kind"] == kind and method_of(stage) in methods.split()]
                    for turn in turns]
        total = lambda key: statistics.fmean(sum(stage[key] for stage in stages) for stages in of_turns)
        found[name] = {key: total(key) for key in ("rows", "steps", "tokens", "wall_seconds", "cpu_seconds")}
        found[name]["stages"] = len(of_turns[0])
    return found


def our_method(stage):
    return "all" if stage["kind"] == "heldout_pairs" else stage["label"].split("/")[0]


def table_of_stages(ours, *peers):
    for turn in ours:
        for stage in turn["stages"]:
            stage["kind"] = stage["spec"]["kind"]
            stage["rows"], stage["steps"] = stage.pop("work")
    a, *others = [grouped(ours, our_method)] + [grouped(turns, lambda stage: stage["method"]) for turns in peers]
    print("| stage | stages | rows, ours / TRL | steps, ours / TRL | tokens, ours / TRL | ours, s | TRL, s | TRL / ours "
          "| frozen, s | frozen / ours |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|")
    for name, *_ in STAGES:
        x, y = a[name], others[0][name]
        if x["stages"] != y["stages"]:
            fail(f"{name}: {x['stages']} stages of touchstone and {y['stages']} of the peer")
        known = lambda value: f"{value:,.0f}" if value else "–"
        both = lambda key: f"{known(x[key])} / {known(y[key])}" if x[key] or y[key] else ""
        seconds = " | ".join(f"{z[name]['cpu_seconds']:.2f} | {z[name]['cpu_seconds'] / x['cpu_seconds']:.1f}" for z in others)
        print(f"| {name} | {x['stages']} | {both('rows')} | {both('steps')} | {both('tokens')} | {x['cpu_seconds']:.2f} "
              f"| {seconds} |")
    mine, *rest = [statistics.fmean(map(total, turns)) - sum(stage["cpu_seconds"] for stage in stages.values())
                   for turns, stages, total in zip((ours, *peers), (a, *others), (whole, *[after_imports] * len(peers)))]
    print(f"| everything else | | | | | {mine:.2f} | {' | '.join(f'{seconds:.2f} | ' for seconds in rest)} |\n")


def whole(turn, key="cpu"):
    return turn[key]


def after_imports(turn, key="cpu"):
    return turn["after_imports"][f"{key}_seconds"]


def table_of_totals(ours, *peers):
    print("| seconds | ours | TRL | TRL / ours, of each turn | frozen | frozen / ours, of each turn |")
    print("|---|--:|--:|--:|--:|--:|")
    for key, name in (("cpu", "processor"), ("wall", "wall")):
        for what, of_peer in (("with", whole), ("without", after_imports)):
            cells = [f"{name}, {what} imports", f"{statistics.fmean(turn[key] for turn in ours):.1f}"]
            for turns in peers:
                cells.append(f"{statistics.fmean(of_peer(turn, key) for turn in turns):.1f}")
                cells.append(", ".join(f"{of_peer(b, key) / a[key]:.1f}" for a, b in zip(ours, turns)))
            print(f"| {' | '.join(cells)} |")
    largest, *others = [f"{max(turn['mib'] for turn in turns):.0f}" for turns in (ours, *peers)]
    print(f"| MiB of the largest process | {largest} | {' | '.join(f'{mib} | ' for mib in others)}|\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--turns", type=int, default=2, help="runs of each")
    parser.add_argument("--profile", default="standard", help="profile of benches/peer/study.toml: standard or smoke")
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    parser.add_argument("--touchstone", type=Path, default=target / "release/touchstone", help="the program, built for release")
    parser.add_argument("--keep", type=Path, help="new folder for what both sides write, which is removed otherwise")
    options = parser.parse_args()
    python = os.environ.get("PYTHON", sys.executable)
    if not options.touchstone.exists():
        fail(f"{options.touchstone} is missing: `cargo build --release` makes it")
    if options.keep:
        options.keep.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as scratch:
        folder = (options.keep or Path(scratch)).resolve()
        program = Ours(options.touchstone.resolve(), options.profile, folder)
        prepare(program, folder / "rows")
        ours, theirs, frozen, load = [], [], [], []
        for turn in range(options.turns):
            load.append(os.getloadavg()[0])
            theirs.append(peer(python, folder / "rows", folder / f"trl-{turn}"))
            ours.append(program.reproduce(turn))
            frozen.append(peer(python, folder / "rows", folder / f"frozen-{turn}", "--freeze"))
    versions = ", ".join(f"{name} {version}" for name, version in theirs[0]["versions"].items())
    print(f"{datetime.date.today()}, {processor()}, {os.cpu_count()} cores, one thread each; {versions}; profile {options.profile}, "
          f"{options.turns} turns, load {', '.join(f'{value:.1f}' for value in load)} before each.\n")
    table_of_totals(ours, theirs, frozen)
    print("Processor seconds of stages, in the mean over turns:\n")
    table_of_stages(ours, theirs, frozen)


if __name__ == "__main__":
    main()

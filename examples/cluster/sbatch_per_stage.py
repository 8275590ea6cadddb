#!/usr/bin/env python3
"""One Slurm job for each stage of a plan that is not done, behind the jobs of its inputs.

    touchstone plan EXPERIMENT --json --record --store /shared/runs > plan.json
    sbatch_per_stage.py plan.json -- --partition=cpu --account=abc

For stages that take an hour or more each and differ in what they need. Short ones would spend their time in the
queue. Options after `--` go to every sbatch. The same command again submits only what is neither done nor queued.
"""
import argparse
import json
import math
import shlex
import subprocess
import sys
from pathlib import Path


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("plan", type=Path, help="what `touchstone plan --json --record` printed")
    parser.add_argument("--touchstone", default="touchstone", help="the program, as the nodes find it")
    parser.add_argument("--device", help="where tensors are computed [default: the plan's first device]")
    parser.add_argument("--gpus", type=int, default=0, help="GPUs for each job")
    parser.add_argument("--slack", type=float, default=2.0, help="time limit and memory, in multiples of the estimates")
    parser.add_argument("--least-minutes", type=int, default=10, help="the shortest time limit")
    parser.add_argument("--dry-run", action="store_true", help="print the commands and submit nothing")
    words = sys.argv[1:]
    place = words.index("--") if "--" in words else len(words)
    arguments = parser.parse_args(words[:place])
    arguments.sbatch = words[place + 1:]
    return arguments


def queued(name):
    """Numbers of the jobs in the queue, by the key of their stage."""
    words = ["squeue", "--noheader", "--me", "--name", name, "--states=PENDING,RUNNING,REQUEUED", "--format=%i %k"]
    listed = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    jobs = {}
    for line in listed.splitlines():
        number, _, comment = line.partition(" ")
        if comment.startswith("touchstone:"):
            jobs[comment.removeprefix("touchstone:").strip()] = number
    return jobs


def submission(stage, jobs, plan, arguments, name):
    """The sbatch command of one stage."""
    key, needs = stage["key"], stage["resources"]
    device = arguments.device or plan["devices"][0]
    minutes = max(arguments.least_minutes, math.ceil(arguments.slack * needs["seconds"] / 60))
    words = [
        "sbatch", "--parsable", f"--job-name={name}", f"--comment=touchstone:{key}",
        "--requeue", "--open-mode=append", "--kill-on-invalid-dep=yes",
        f"--output={plan['store']}/logs/{key}.%j.log",
        "--nodes=1", "--ntasks=1", f"--cpus-per-task={max(1, needs['processors'])}", f"--time={minutes}",
    ]
    if arguments.gpus:
        # The estimate is of the GPU's memory; that of the machine is the site's default, or yours behind --.
        words.append(f"--gpus-per-node={arguments.gpus}")
    else:
        mebibytes = math.ceil(arguments.slack * needs["memory_bytes"]["total"] / 2**20)
        words.append(f"--mem={max(256, mebibytes)}M")
    behind = sorted({jobs[key] for key in stage["spec"]["inputs"].values() if key in jobs})
    if behind:
        words.append("--dependency=afterok:" + ":".join(behind))
    run = [arguments.touchstone, "stage", key, "--store", plan["store"], "--device", device]
    return words + arguments.sbatch + ["--wrap", "exec " + shlex.join(run)]


def main():
    arguments = parse()
    plan = json.loads(arguments.plan.read_text())
    if plan["format"] != 1:
        sys.exit(f"{arguments.plan} has format {plan['format']}, and this script knows format 1")
    name = f"touchstone-{plan['experiment']}"
    (Path(plan["store"]) / "logs").mkdir(parents=True, exist_ok=True)
    jobs = {} if arguments.dry_run else queued(name)
    before, submitted = len(jobs), 0
    # Every stage stands behind its inputs in a plan.
    for stage in plan["stages"]:
        if stage["done"] or stage["key"] in jobs:
            continue
        words = submission(stage, jobs, plan, arguments, name)
        if arguments.dry_run:
            print(shlex.join(words))
            jobs[stage["key"]] = stage["key"][:12]
            continue
        answer = subprocess.run(words, capture_output=True, text=True)
        if answer.returncode != 0:
            sys.exit(
                f"sbatch refused stage {stage['label']}: {answer.stderr.strip()}\n"
                f"{submitted} jobs are submitted; the same command goes on, `scancel --me --name {name}` cancels them"
            )
        # With several clusters the answer is `number;cluster`.
        jobs[stage["key"]] = answer.stdout.strip().split(";")[0]
        submitted += 1
    if not arguments.dry_run:
        print(f"{submitted} jobs submitted, {before} were queued: touchstone status --store {plan['store']}")


if __name__ == "__main__":
    main()

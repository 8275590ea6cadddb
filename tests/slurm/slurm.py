#!/usr/bin/env python3
"""A stand-in for Slurm's commands, for tests: called as sbatch, squeue, scancel, scontrol or sinfo.

The folder $STANDIN holds its state: `calls` has a line for every call; `jobs/<array>_<task>.json` is a task. Files change what
it does: `silent` (the controller does not answer), `refuse` (sbatch refuses with this text), `hold` (tasks wait with this
reason), `sinfo` (what sinfo prints). Workers run as plain processes of this machine.
"""

import json
import os
import pathlib
import signal
import subprocess
import sys

folder = pathlib.Path(os.environ["STANDIN"])
jobs = folder / "jobs"
jobs.mkdir(exist_ok=True)
tool, words = pathlib.Path(sys.argv[0]).name, sys.argv[1:]


def value(option):
    found = [word.split("=", 1)[1] for word in words if word.startswith(option + "=")]
    return found[-1] if found else None


def text(name):
    path = folder / name
    return path.read_text().strip() if path.exists() else None


def alive(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def tasks():
    found = []
    for path in sorted(jobs.glob("*.json")):
        task = json.loads(path.read_text())
        if task["state"] == "RUNNING" and not alive(task["pid"]):
            task["state"] = "COMPLETED"
        found.append((path, task))
    return found


def sbatch():
    script = sys.stdin.read()
    if text("refuse"):
        sys.exit(f"sbatch: error: {text('refuse')}")
    if "--test-only" in words:
        return
    (folder / "script").write_text(script)
    number = len({path.name.split("_")[0] for path in jobs.glob("*.json")}) + 1
    while list(jobs.glob(f"{number}_*")):
        number += 1
    last = int(value("--array").split("-")[1])
    for index in range(last + 1):
        task = {"name": value("--job-name"), "comment": value("--comment"), "state": "PENDING", "reason": text("hold") or "None"}
        if not text("hold"):
            place = {"SLURM_ARRAY_JOB_ID": str(number), "SLURM_ARRAY_TASK_ID": str(index), "SLURMD_NODENAME": f"node{index}"}
            output = value("--output").replace("%A", str(number)).replace("%a", str(index))
            process = subprocess.Popen(["bash"], stdin=subprocess.PIPE, stdout=open(output, "a"), stderr=subprocess.STDOUT,
                                       env={**os.environ, **place}, start_new_session=True)
            process.stdin.write(script.encode())
            process.stdin.close()
            task |= {"state": "RUNNING", "pid": process.pid}
        (jobs / f"{number}_{index}.json").write_text(json.dumps(task))
    print(number)


def squeue():
    for path, task in tasks():
        if task["name"] == value("--name"):
            array, index = path.stem.split("_")
            node = f"node{index}" if task["state"] == "RUNNING" else ""
            print("|".join([array, index, task["state"], task["reason"], node, task["comment"]]))


def scancel():
    numbers = [word for word in words if not word.startswith("-")]
    for path, task in tasks():
        if path.stem in numbers and task["name"] == value("--name"):
            if task["state"] == "RUNNING":
                os.killpg(task["pid"], signal.SIGTERM)
            path.write_text(json.dumps({**task, "state": "CANCELLED"}))


with open(folder / "calls", "a") as calls:
    calls.write(" ".join([tool, *words]) + "\n")
if text("silent") is not None:
    sys.exit(f"{tool}: error: Unable to contact slurm controller (connect failure)")
if tool == "sinfo":
    print(text("sinfo") or "main*|64|64000|(null)")
elif tool != "scontrol":
    {"sbatch": sbatch, "squeue": squeue, "scancel": scancel}[tool]()

"""What `touchstone conformance` is compared with: its problems in float64, by the methods of reference.py.

    /path/to/python tests/parity/conformance.py            PyTorch's own float32 against float64, and sampling margins
        --write         also writes src/conformance/reference.safetensors

Needs torch and safetensors. touchstone writes the problems: weights, rows, uniforms, settings.
"""

import argparse
import json
import math
import os
import pathlib
import subprocess
import tempfile

import torch
from safetensors.torch import load_file, save_file

import decoders
import reference
from trajectory import largest, print_table

HERE = pathlib.Path(__file__).resolve().parent
KEPT = HERE.parents[1] / "src/conformance/reference.safetensors"
# Of these problems a reference is kept; the others are too large.
NAMES = ("parallel", "sequential", "grouped")
# No uniform may be nearer to drawing another token, no nucleus and no greedy choice nearer to another.
LEAST_MARGIN = {"parallel": 1e-4, "sequential": 1e-4, "grouped": 1e-4, "wide": 1e-5}
FLOOR = 1e-3


def flat(responses):
    """Token ids, each response closed by -1."""
    return torch.tensor([float(token) for ids in responses for token in (*ids, -1)])


def draw(logits, uniform, temperature, top_p):
    """One token of `logits` [vocabulary], and by how much of probability (or of its logarithm) another was missed."""
    if temperature == 0:
        first, second = logits.topk(2).values
        return logits.argmax().item(), (first - second).item()
    probabilities = (logits / temperature).softmax(-1)
    order, margin = torch.arange(len(probabilities)), math.inf
    if top_p < 1:
        probabilities, order = probabilities.sort(descending=True)
        before = probabilities.cumsum(-1) - probabilities
        margin = (before - top_p).abs().min().item()
        probabilities = probabilities * (before < top_p)
    cumulated = probabilities.cumsum(-1) / probabilities.sum()
    rank = (cumulated <= uniform).sum().item()
    if top_p < 1:
        # Nor may those next to it take its place.
        near = (probabilities[max(rank - 1, 0) : rank + 2] + 1e-300).log()
        margin = min(margin, (near[:-1] - near[1:]).min().item())
    return order[rank].item(), min(margin, (cumulated[:-1] - uniform).abs().min().item())


def samples(said, weights, config):
    """Sampled token by token, each with a whole forward pass; and the least margin."""
    drawn, least = {}, math.inf
    for sampling in said["samplings"]:
        responses = []
        for item in said["prompts"]:
            ids = []
            for uniform in item["uniforms"]:
                logits = decoders.logits(weights, config, item["prompt"] + ids)[-1]
                token, margin = draw(logits, uniform, sampling["temperature"], sampling["top_p"])
                ids.append(token)
                least = min(least, margin)
                if token == said["eos"]:
                    break
            responses.append(ids)
        drawn[sampling["name"]] = flat(responses)
    return drawn, least


def trained(method, problem, weights):
    """Losses, the last step's gradients, and what all steps changed."""
    trainer = reference.METHODS[method](problem, weights)
    change = {name: (trainer.weights[name] - weights[name]).detach() for name in weights}
    return {"all": torch.tensor(trainer.losses)}, trainer.gradients[-1], change, trainer


def observe(folder, dtype):
    """Every quantity of the problem in `folder` by name, and the sampling margin."""
    torch.set_default_dtype(dtype)
    said = json.loads((folder / "problem.json").read_text())
    config = said["sft"]["config"]
    policy, reward = ({name: weight.to(dtype) for name, weight in load_file(folder / f"{model}.safetensors").items()}
                      for model in ("policy", "reward"))
    rows = said["sft"]["steps"][0]
    with torch.no_grad():
        whole = [decoders.logits(policy, config, row["prompt"] + row["response"][:-1])[len(row["prompt"]) - 1 :]
                 for row in rows]
        observed = {
            "logits": {"all": torch.cat(whole).flatten()},
            "log-probabilities": {"all": torch.cat([reference.log_probs(policy, config, row) for row in rows])},
            "scores": {"all": torch.stack([reference.score(reward, config, row) for row in rows])},
        }
        observed["sampled tokens"], margin = samples(said["samples"], policy, config)
    for method, weights in (("sft", policy), ("reward", reward)):
        title = {"sft": "SFT"}.get(method, method)
        losses, gradients, change, _ = trained(method, said[method], weights)
        observed |= {f"{title} loss": losses, f"{title} gradients": gradients, f"{title} step": change}

    d = config["hidden_size"]
    if said["ppo"]["settings"]["critic"] == "zero_head":
        critic = {"value_head.weight": torch.zeros(1, d), "value_head.bias": torch.zeros(1)}
    else:
        critic = {f"value_network.{name}": weight for name, weight in reward.items()}
    steps = reference.METHODS["ppo"](said["ppo"], policy | critic)
    change = {name: (steps.weights[f"policy.{name}"] - weight).detach() for name, weight in policy.items()}
    observed |= {
        "PPO tokens": {"all": flat(row["response"] for row in said["ppo"]["updates"][0]["rollouts"])},
        "PPO losses": {"all": torch.tensor(steps.losses)},
        "PPO gradients": steps.gradients[-1],
        "PPO steps": change,
    }
    torch.set_default_dtype(torch.float32)
    return observed, min(margin, steps.margin)


def difference(found, expected):
    """The largest, relative as src/conformance/compare.rs says."""
    floor = FLOOR * max(largest(tensor) for tensor in expected.values())
    assert found.keys() == expected.keys()
    return max(largest(found[name].double() - tensor.double()) / max(largest(tensor), floor, 1e-300)
               for name, tensor in expected.items())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="also writes src/conformance/reference.safetensors")
    wanted = parser.parse_args()
    torch.set_num_threads(1)
    kept, rows = {}, []
    with tempfile.TemporaryDirectory() as root:
        command = "cargo test --release --test parity -- --ignored write_problems".split()
        subprocess.run(command, cwd=HERE, env=os.environ | {"TOUCHSTONE_CONFORMANCE": root}, check=True)
        for folder in sorted(pathlib.Path(root).iterdir()):
            precise, margin = observe(folder, torch.float64)
            assert margin >= LEAST_MARGIN[folder.name], f"{folder.name}: the sampling margin is {margin:.1e}: another seed"
            print(f"{folder.name}: sampling margin {margin:.1e}")
            single, _ = observe(folder, torch.float32)
            rows += [[folder.name, quantity, f"{difference(single[quantity], tensors):.1e}"]
                     for quantity, tensors in precise.items()]
            if folder.name in NAMES:
                kept |= {f"{folder.name}/{quantity}/{name}": tensor.float().contiguous()
                         for quantity, tensors in precise.items() for name, tensor in tensors.items()}
    print(f"\nPyTorch {torch.__version__}, its float32 against its float64:\n")
    print_table(["problem", "quantity", "relative difference"], rows)
    if wanted.write:
        save_file(kept, KEPT)


if __name__ == "__main__":
    main()

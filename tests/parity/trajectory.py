"""What is compared: a training run, seen from outside."""

import json

from safetensors.torch import load_file


class Trajectory:
    """Losses, norms, gradients per step and the last weights, in float64 whatever computed them."""

    def __init__(self, losses, norms, gradients, end):
        self.losses, self.norms = losses, norms
        self.gradients = [{name: value.double() for name, value in step.items()} for step in gradients]
        self.end = {name: value.detach().double() for name, value in end.items()}

    @classmethod
    def of_touchstone(cls, folder):
        said = json.loads((folder / "trajectory.json").read_text())
        gradients = [load_file(folder / f"gradients-{step}.safetensors") for step in range(1, len(said["losses"]) + 1)]
        return cls(said["losses"], said["norms"], gradients, load_file(folder / "end.safetensors"))


def largest(tensor):
    return tensor.abs().max().item()


def print_table(header, rows):
    print("| " + " | ".join(header) + " |")
    print("| :-- |" + " --: |" * (len(header) - 1))
    for row in rows:
        print("| " + " | ".join(row) + " |")

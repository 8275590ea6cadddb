"""The same rows in the same order through transformers' models and TRL's trainers, compared with touchstone's trajectories;
`just parity --peers` runs it.

`as ours` gives TRL the optimiser and the schedule of docs/methods/README.md, which leaves its losses, its batches and its
model to differ; `as theirs` lets it make both from the same numbers, which shows what their conventions are worth.
PPO is not in TRL any more (it left with version 1), so it is not here.
"""

import json
import os
import pathlib
import tempfile

os.environ["HF_HUB_OFFLINE"] = "1"
import datasets
import tokenizers
import torch
import transformers
import trl
from safetensors.torch import load_file, save_file

import reference
from trajectory import Trajectory, largest, print_table

STEPS = 20
# Case → its trainer, and what its rows are there.
CASES = {
    "sft": (trl.SFTTrainer, trl.SFTConfig, lambda row: labelled(row, hidden=len(row["prompt"]))),
    "sft-all": (trl.SFTTrainer, trl.SFTConfig, lambda row: labelled(row, hidden=1)),
    "spin": (trl.DPOTrainer, trl.DPOConfig, lambda pair: {
        "prompt": "", "prompt_ids": pair["chosen"]["prompt"], "chosen_ids": pair["chosen"]["response"],
        "rejected_ids": pair["rejected"]["response"]}),
    "reward-eq11": (trl.RewardTrainer, trl.RewardConfig, lambda pair: {
        f"{side}_ids": pair[side]["prompt"] + pair[side]["response"] for side in ("chosen", "rejected")}),
}
QUANTITIES = ("loss", "gradient norm", "parameters")


def labelled(row, hidden):
    """A row whose first `hidden` tokens are not trained on.

    Nothing predicts the first token of a row. If it has a label, transformers counts it among the tokens that the loss is
    divided by.
    """
    ids = row["prompt"] + row["response"]
    return {"input_ids": ids, "labels": [-100] * hidden + ids[hidden:]}


def ordered(trainer_class):
    """The trainer, given tokens, in the order of the problem and not in one of its own."""

    class Ordered(trainer_class):
        losses: list

        def _prepare_dataset(self, dataset, *_, **__):
            return dataset

        def get_train_dataloader(self):
            ends = torch.tensor(self.sizes).cumsum(0).tolist()
            steps = [list(range(end - size, end)) for size, end in zip(self.sizes, ends)]
            return torch.utils.data.DataLoader(self.train_dataset, batch_sampler=steps, collate_fn=self.data_collator)

        def compute_loss(self, *arguments, **named):
            loss = super().compute_loss(*arguments, **named)
            self.losses.append((loss[0] if isinstance(loss, tuple) else loss).item())
            return loss

    return Ordered


def model(problem, start, folder):
    """The start as transformers loads it, from a checkpoint of ours."""
    reward = problem["method"] == "reward"
    kind = transformers.AutoModelForSequenceClassification if reward else transformers.AutoModelForCausalLM
    # Padding is an id that no row holds, which the head of a reward model looks for.
    config = {"model_type": "gpt_neox", "attention_bias": True} | problem["config"] | {
        "num_labels": 1, "pad_token_id": problem["config"]["vocab_size"] - 1}
    if config["model_type"] == "mistral":
        # With types of layers it would be opened as another class.
        del config["layer_types"]
    pathlib.Path(folder, "config.json").write_text(json.dumps(config))
    save_file(start, pathlib.Path(folder, "model.safetensors"), metadata={"format": "pt"})
    return kind.from_pretrained(folder, dtype=torch.float32)


def tokenizer(problem):
    """A tokenizer that is not asked for anything but its padding and its end."""
    size = problem["config"]["vocab_size"]
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({f"t{id}": id for id in range(size)}, unk_token="t0"))
    return transformers.PreTrainedTokenizerFast(tokenizer_object=words, pad_token=f"t{size - 1}", eos_token="t1")


def train(problem, start, as_ours, case):
    trainer_class, config_class, row = CASES[case]
    settings, optimiser = problem["settings"], problem["settings"]["optimiser"]
    with tempfile.TemporaryDirectory() as folder:
        start = model(problem, start, folder)
        more = {"beta": settings["beta"]} if case == "spin" else {}
        arguments = config_class(
            output_dir=folder, max_steps=STEPS, per_device_train_batch_size=max(map(len, problem["steps"])),
            learning_rate=optimiser["learning_rate"], lr_scheduler_type=optimiser["schedule"],
            warmup_steps=optimiser["warmup_steps"], adam_beta1=optimiser["beta_1"], adam_beta2=optimiser["beta_2"],
            adam_epsilon=optimiser["epsilon"], weight_decay=optimiser["weight_decay"],
            max_grad_norm=optimiser["clip_norm"], max_length=None, bf16=False, gradient_checkpointing=False,
            use_cpu=True, logging_steps=1, save_strategy="no", report_to="none", disable_tqdm=True, **more)
        optimisers = (None, None)
        if as_ours:
            adamw = torch.optim.AdamW(start.parameters(), lr=optimiser["learning_rate"],
                                      betas=(optimiser["beta_1"], optimiser["beta_2"]), eps=optimiser["epsilon"],
                                      weight_decay=optimiser["weight_decay"])
            share = lambda step: reference.rate(optimiser, min(step, STEPS - 1), STEPS) / optimiser["learning_rate"]
            optimisers = (adamw, torch.optim.lr_scheduler.LambdaLR(adamw, share))
        rows = datasets.Dataset.from_list([row(item) for step in problem["steps"] for item in step])
        trainer = ordered(trainer_class)(model=start, args=arguments, train_dataset=rows,
                                         processing_class=tokenizer(problem), optimizers=optimisers)
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.sizes, trainer.losses = [len(step) for step in problem["steps"]], []
        trainer.train()
        norms = [entry["grad_norm"] for entry in trainer.state.log_history if "grad_norm" in entry]
        # Without a tied head, which is the embedding once more.
        parameters = dict(trainer.model.named_parameters())
        return Trajectory(trainer.losses, norms, [], parameters)


def differences(ours, theirs):
    """Largest differences over the steps, as compare.py measures them."""
    assert len(ours.losses) == len(theirs.losses) == len(ours.norms) == len(theirs.norms) == STEPS
    return [
        max(abs(a - b) / max(1.0, abs(b)) for a, b in zip(ours.losses, theirs.losses)),
        max(abs(a - b) / b for a, b in zip(ours.norms, theirs.norms)),
        max(largest(ours.end[name] - end) / max(1.0, largest(end)) for name, end in theirs.end.items()),
    ]


def compare(folder):
    """Prints a table; returns the largest difference where TRL was given our optimiser."""
    transformers.utils.logging.set_verbosity_error()
    worst, rows = 0.0, []
    for case in sorted(path.parent for path in folder.glob("*/*/problem.json") if path.parent.name in CASES):
        problem, start = json.loads((case / "problem.json").read_text()), load_file(case / "start.safetensors")
        ours = Trajectory.of_touchstone(case)
        same, default = (differences(ours, train(problem, start, as_ours, case.name)) for as_ours in (True, False))
        worst = max(worst, *same)
        trainer = CASES[case.name][0].__name__
        rows.append([f"{case.parent.name}/{case.name}", trainer, *(f"{value:.1e}" for value in same + default)])
    header = ["case", "trainer", *QUANTITIES, *(f"{quantity}, as theirs" for quantity in QUANTITIES)]
    print_table(header, rows)
    print(f"\ntransformers {transformers.__version__}, TRL {trl.__version__}, PyTorch {torch.__version__}\n")
    return worst

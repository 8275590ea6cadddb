"""One seed of the main study by Hugging Face's TRL and transformers; benches/peer/study.py runs it beside touchstone.

    python benches/peer/study_trl.py ROWS OUT [--freeze]

ROWS is a folder that study.py fills: `settings.json` (what each stage of touchstone's plan is set to), the rows of the
embedded world (`demonstrations.jsonl`, `preferences.jsonl`, `test_preferences.jsonl`, `posts.jsonl`), and the base checkpoint in
`base/`. OUT gets the policies and `stages.json`: for each stage its rows, optimiser steps, slots that went through a model
(padding included), seconds and processor seconds, and what was measured.

SFTTrainer, RewardTrainer, PPOTrainer and DPOTrainer do the training; sampling is transformers' `generate` on batches of similar
length; scores and log-probabilities are forward passes without gradients on such batches. One thread, float32.
"""

import time

STARTED = time.perf_counter(), time.process_time()

import argparse
import contextlib
import copy
import functools
import gc
import json
import logging
import os
import pathlib
import statistics
import tempfile
import warnings

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
import datasets
import torch
import transformers
from torch.nn.functional import log_softmax
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, PreTrainedTokenizerFast
from transformers.models.gpt_neox.modeling_gpt_neox import GPTNeoXModel
from trl import (
    DPOConfig, DPOTrainer, PPOConfig, PPOTrainer, RewardConfig, RewardTrainer, SFTConfig, SFTTrainer,
)

IMPORTED = time.perf_counter(), time.process_time()

torch.set_num_threads(1)
warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)
transformers.utils.logging.set_verbosity_error()
datasets.disable_progress_bars()

SCORED_AT_ONCE = 128


class Stages:
    """Seconds and work of every stage."""

    def __init__(self):
        self.done = []
        self.slots = 0
        forward = GPTNeoXModel.forward

        @functools.wraps(forward)
        def counted(model, input_ids=None, *arguments, **named):
            self.slots += input_ids.numel()
            return forward(model, input_ids, *arguments, **named)

        GPTNeoXModel.forward = counted

    @contextlib.contextmanager
    def stage(self, kind, method):
        entry, self.slots = {"kind": kind, "method": method, "rows": 0, "steps": 0}, 0
        wall, cpu = time.perf_counter(), time.process_time()
        yield entry
        seconds = {"wall_seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}
        self.done.append(entry | seconds | {"tokens": self.slots})


def padded(rows, side, value):
    return pad_sequence([torch.tensor(row) for row in rows], batch_first=True, padding_value=value, padding_side=side)


def batches(lengths, size):
    """Indices in batches of similar length."""
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    return [order[first : first + size] for first in range(0, len(order), size)]


class Study:
    def __init__(self, rows, out):
        self.stages, self.out = Stages(), out
        with self.stages.stage("load", "all"):
            self.settings = json.loads((rows / "settings.json").read_text())
            self.generation = self.settings["generation"]
            self.tokenizer = PreTrainedTokenizerFast(
                tokenizer_file=str(rows / "base/tokenizer.json"), eos_token="<|endoftext|>", pad_token="<|padding|>",
                padding_side="left")
            self.pad, self.eos = self.tokenizer.pad_token_id, self.tokenizer.eos_token_id
            read = lambda name: [json.loads(line) for line in (rows / name).read_text().splitlines()]
            self.demonstrations = self.encoded(read("demonstrations.jsonl"))
            self.preferences = self.encoded(read("preferences.jsonl"))
            self.test_preferences = self.encoded(read("test_preferences.jsonl"))
            self.posts = self.encoded(read("posts.jsonl"))
            self.base = AutoModelForCausalLM.from_pretrained(rows / "base", dtype=torch.float32)

    def encoded(self, rows):
        """Rows with the tokens of their texts; a response ends with one end token and is cut to the limit."""
        ids = lambda key: self.tokenizer([row[key] for row in rows])["input_ids"]
        for key in list(rows[0]):
            for row, tokens in zip(rows, ids(key)):
                tokens = tokens if key == "prompt" else (tokens + [self.eos])[: self.generation["max_response_tokens"]]
                row[key + "_ids"] = tokens
        return rows

    # --- Sampling and reading --------------------------------------------------------------------------------------------

    @torch.no_grad()
    def sampled(self, model, prompts, temperature):
        """A response to every prompt; greedy ones at temperature 0."""
        model.eval()
        how = dict(do_sample=True, temperature=temperature, top_k=0) if temperature > 0 else dict(do_sample=False)
        responses = [None] * len(prompts)
        for at in batches([len(prompt) for prompt in prompts], self.generation["batch_size"]):
            ids = padded([prompts[i] for i in at], "left", self.pad)
            found = model.generate(
                input_ids=ids, attention_mask=(ids != self.pad).long(), pad_token_id=self.pad, eos_token_id=self.eos,
                max_new_tokens=self.generation["max_response_tokens"], **how)
            for i, response in zip(at, found[:, ids.shape[1] :].tolist()):
                ended = response.index(self.eos) + 1 if self.eos in response else len(response)
                responses[i] = response[:ended]
        return responses

    @torch.no_grad()
    def log_probs(self, model, prompts, responses):
        """log π(response | prompt) of every row, with logits of responses alone."""
        model.eval()
        found = [0.0] * len(prompts)
        for at in batches([len(p) + len(r) for p, r in zip(prompts, responses)], SCORED_AT_ONCE):
            left, right = padded([prompts[i] for i in at], "left", self.pad), padded([responses[i] for i in at], "right", self.pad)
            ids = torch.cat([left, right], 1)
            mask = (ids != self.pad).long()
            logits = model(input_ids=ids, attention_mask=mask, position_ids=(mask.cumsum(1) - 1).clamp(min=0),
                           logits_to_keep=right.shape[1] + 1).logits[:, :-1]
            tokens = log_softmax(logits, -1).gather(2, right[..., None])[..., 0]
            for i, value in zip(at, (tokens * (right != self.pad)).sum(1).tolist()):
                found[i] = value
        return found

    @torch.no_grad()
    def scores(self, reward, prompts, responses):
        """r(prompt, response) of every row."""
        reward.eval()
        rows, found = [p + r for p, r in zip(prompts, responses)], [0.0] * len(prompts)
        for at in batches([len(row) for row in rows], SCORED_AT_ONCE):
            ids = padded([rows[i] for i in at], "right", self.pad)
            scores = reward(input_ids=ids, attention_mask=(ids != self.pad).long()).logits[:, 0]
            for i, score in zip(at, scores.tolist()):
                found[i] = score
        return found

    # --- Training --------------------------------------------------------------------------------------------------------

    def arguments(self, config, folder, settings, **more):
        """Arguments that all trainers share; `settings` are a stage's of touchstone."""
        adamw = settings["optimiser"]
        defaults = dict(
            learning_rate=adamw["learning_rate"], lr_scheduler_type=adamw["schedule"], warmup_steps=adamw["warmup_steps"],
            adam_beta1=adamw["beta_1"], adam_beta2=adamw["beta_2"], adam_epsilon=adamw["epsilon"],
            weight_decay=adamw["weight_decay"], max_grad_norm=adamw["clip_norm"])
        return config(
            output_dir=folder, use_cpu=True, bf16=False, gradient_checkpointing=False, report_to="none", save_strategy="no",
            eval_strategy="no", disable_tqdm=True, seed=self.settings["seed"], **defaults, **more)

    def epochs(self, settings):
        return dict(num_train_epochs=settings["epochs"], per_device_train_batch_size=settings["batch_size"])

    def run(self, trainer):
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.train()
        return trainer.state.global_step

    def save(self, model, name):
        model.save_pretrained(self.out / name)
        self.tokenizer.save_pretrained(self.out / name)

    def sft(self):
        settings = self.settings["sft"]
        with self.stages.stage("sft", "sft") as entry, tempfile.TemporaryDirectory() as folder:
            rows = datasets.Dataset.from_list([
                {"input_ids": row["prompt_ids"] + row["response_ids"],
                 "completion_mask": [0] * len(row["prompt_ids"]) + [1] * len(row["response_ids"])}
                for row in self.demonstrations])
            policy = copy.deepcopy(self.base)
            arguments = self.arguments(SFTConfig, folder, settings, max_length=None, completion_only_loss=True, **self.epochs(settings))
            entry["rows"] = len(rows)
            entry["steps"] = self.run(SFTTrainer(policy, arguments, train_dataset=rows, processing_class=self.tokenizer))
            self.save(policy, "sft")
        return policy

    def pairs(self, method, policy):
        """A sample of the policy behind every demonstration."""
        with self.stages.stage("pairs", method) as entry:
            prompts = [row["prompt_ids"] for row in self.demonstrations]
            samples = self.sampled(policy, prompts, self.settings["pairs"]["temperature"])
            texts = self.tokenizer.batch_decode(samples, skip_special_tokens=True)
            entry["rows"] = len(samples)
        return [{"prompt": row["prompt"], "prompt_ids": row["prompt_ids"], "chosen": row["response"],
                 "chosen_ids": row["response_ids"], "rejected": text, "rejected_ids": ids}
                for row, text, ids in zip(self.demonstrations, texts, samples) if ids != row["response_ids"]]

    def reward(self, method, number, start, pairs):
        """A reward by eq. 11 (Bradley–Terry), whose head then centres and scales it over its training responses."""
        settings = self.settings["reward"]
        with self.stages.stage("reward", method) as entry, tempfile.TemporaryDirectory() as folder:
            rows = datasets.Dataset.from_list([
                {f"{side}_input_ids": pair["prompt_ids"] + pair[f"{side}_ids"] for side in ("chosen", "rejected")}
                for pair in pairs])
            reward = AutoModelForSequenceClassification.from_pretrained(
                self.out / start, num_labels=1, pad_token_id=self.pad, dtype=torch.float32)
            arguments = self.arguments(RewardConfig, folder, settings, max_length=None, **self.epochs(settings))
            entry["rows"] = len(rows)
            entry["steps"] = self.run(RewardTrainer(reward, arguments, train_dataset=rows, processing_class=self.tokenizer))
            both = [(pair["prompt_ids"], pair[f"{side}_ids"]) for pair in pairs for side in ("chosen", "rejected")]
            scores = self.scores(reward, *zip(*both))
            mean, deviation = statistics.fmean(scores), statistics.pstdev(scores)
            head = torch.nn.Linear(reward.config.hidden_size, 1)
            with torch.no_grad():
                head.weight.copy_(reward.score.weight / deviation)
                head.bias.fill_(-mean / deviation)
            reward.score = head
            self.save(reward, f"{method}-reward-{number}")
        return reward

    def ppo(self, method, number, policy, reference, reward):
        """PPO from `policy`, near `reference`; its critic starts as a copy of the reward."""
        settings = self.settings["ppo"][method]
        with self.stages.stage("ppo", method) as entry, tempfile.TemporaryDirectory() as folder:
            rows = datasets.Dataset.from_list([{"input_ids": row["prompt_ids"]} for row in self.demonstrations])
            policy, reference, critic = (copy.deepcopy(model) for model in (policy, reference, reward))
            arguments = self.arguments(
                PPOConfig, folder, settings, total_episodes=settings["updates"] * settings["rollouts"],
                per_device_train_batch_size=settings["rollouts"] // settings["minibatches"],
                gradient_accumulation_steps=settings["minibatches"], num_mini_batches=settings["minibatches"],
                local_rollout_forward_batch_size=settings["rollouts"], num_ppo_epochs=settings["epochs"],
                response_length=self.generation["max_response_tokens"], temperature=settings["temperature"], stop_token="eos",
                missing_eos_penalty=1.0, kl_coef=settings["kl_coefficient"], gamma=settings["gamma"], lam=settings["lambda"],
                cliprange=settings["clip"], cliprange_value=settings["clip_value"], vf_coef=settings["value_coefficient"],
                num_sample_generations=0)
            trainer = PPOTrainer(
                arguments, self.tokenizer, policy, reference, reward, rows, critic, eval_dataset=rows.select(range(1)))
            with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
                updates = self.run(trainer)
            entry["rows"] = updates * settings["rollouts"]
            entry["steps"] = updates * settings["epochs"] * settings["minibatches"]
            self.save(policy, f"{method}-{number}")
        return policy

    def spin(self, number, opponent, pairs):
        """DPO against the previous iterate, whose log-probabilities are computed once."""
        settings = self.settings["spin"]
        with self.stages.stage("spin", "spin") as entry, tempfile.TemporaryDirectory() as folder:
            # DPOTrainer appends the end and then cuts, so a response without an end keeps its tokens.
            rows = datasets.Dataset.from_list([{key: pair[key] for key in ("prompt", "chosen", "rejected")} for pair in pairs])
            policy = copy.deepcopy(opponent)
            arguments = self.arguments(
                DPOConfig, folder, settings, beta=settings["beta"], precompute_ref_log_probs=True, max_length=None,
                precompute_ref_batch_size=SCORED_AT_ONCE, max_prompt_length=None,
                max_completion_length=self.generation["max_response_tokens"], **self.epochs(settings))
            entry["rows"] = len(rows)
            entry["steps"] = self.run(DPOTrainer(policy, args=arguments, train_dataset=rows, processing_class=self.tokenizer))
            self.save(policy, f"spin-{number}")
        return policy

    # --- Measuring -------------------------------------------------------------------------------------------------------

    def heldout_pairs(self, sft):
        """Two samples for each of the first held-out posts."""
        with self.stages.stage("heldout_pairs", "all") as entry:
            posts = self.posts[: self.settings["heldout_pairs"]["posts"]]
            prompts = [post["prompt_ids"] for post in posts]
            first, second = (self.sampled(sft, prompts, self.settings["heldout_pairs"]["temperature"]) for _ in range(2))
            entry["rows"] = 2 * len(posts)
        own = [(prompt, a, b) for prompt, a, b in zip(prompts, first, second)]
        shown = [(post["prompt_ids"], post["response_ids"], a) for post, a in zip(posts, first)]
        known = [(row["prompt_ids"], row["chosen_ids"], row["rejected_ids"]) for row in self.test_preferences]
        return {"on_policy": own, "demonstration": shown, "preference": known}

    def evaluate(self, method, policy, sft, reward=None):
        """Sampled and greedy answers to the held-out posts; KL to SFT, likelihood of the references, the reward of the samples."""
        with self.stages.stage("evaluate", method) as entry:
            prompts, references = ([post[key] for post in self.posts] for key in ("prompt_ids", "response_ids"))
            sampled = self.sampled(policy, prompts, self.settings["evaluate"]["temperature"])
            greedy = self.sampled(policy, prompts, 0.0)
            own, theirs = (self.log_probs(model, prompts, sampled) for model in (policy, sft))
            likelihood = self.log_probs(policy, prompts, references)
            measured = {
                "length": statistics.fmean(map(len, sampled)), "length_greedy": statistics.fmean(map(len, greedy)),
                "eos_rate": statistics.fmean(response[-1] == self.eos for response in sampled),
                "kl": statistics.fmean(a - b for a, b in zip(own, theirs)), "entropy": -statistics.fmean(own),
                "demo_log_likelihood": statistics.fmean(likelihood)}
            if reward is not None:
                measured["learned_reward"] = statistics.fmean(self.scores(reward, prompts, sampled))
            entry["rows"], entry["measured"] = len(prompts), measured

    def evaluate_reward(self, method, pairs, score):
        """Shares of held-out pairs that a reward ranks as they are labelled; pairs of own samples have no label here."""
        with self.stages.stage("evaluate_reward", method) as entry:
            measured = {}
            for name, rows in pairs.items():
                prompts, chosen, rejected = zip(*rows)
                ahead = [a > b for a, b in zip(score(prompts, chosen), score(prompts, rejected))]
                measured[name] = statistics.fmean(ahead)
                entry["rows"] += len(rows)
            entry["measured"] = measured

    # --- The study -------------------------------------------------------------------------------------------------------

    def study(self):
        sft = self.sft()
        heldout = self.heldout_pairs(sft)
        self.evaluate("sft", sft, sft)
        first = self.pairs("irl", sft)

        policy, drawn = sft, [first]
        for number in range(1, self.settings["irl_rounds"] + 1):
            if number > 1:
                drawn.append(self.pairs("irl", policy))
            reward = self.reward("irl", number, "sft", sum(drawn, []))
            policy = self.ppo("irl", number, policy, sft, reward)
            self.evaluate("irl", policy, sft, reward)
            self.evaluate_reward("irl", heldout, functools.partial(self.scores, reward))

        policy, drawn = sft, [first]
        for number in range(1, self.settings["spin_rounds"] + 1):
            if number > 1:
                drawn.append(self.pairs("spin", policy))
            policy = self.spin(number, policy, sum(drawn[-2:], []))
            self.evaluate("spin", policy, sft)
            implicit = lambda prompts, responses: [
                a - b for a, b in zip(*(self.log_probs(model, prompts, responses) for model in (policy, sft)))]
            self.evaluate_reward("spin", heldout, implicit)

        reward = self.reward("rlhf", 1, "sft", self.preferences)
        policy = self.ppo("rlhf", 1, sft, sft, reward)
        self.evaluate("rlhf", policy, sft, reward)
        self.evaluate_reward("rlhf", heldout, functools.partial(self.scores, reward))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("rows", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--freeze", action="store_true", help="keep what the imports made out of garbage collection")
    wanted = parser.parse_args()
    if wanted.freeze:
        gc.freeze()
    wanted.out.mkdir(parents=True, exist_ok=True)
    study = Study(wanted.rows, wanted.out)
    torch.manual_seed(study.settings["seed"])
    study.study()
    ended = time.perf_counter(), time.process_time()
    seconds = lambda start, end: {"wall_seconds": end[0] - start[0], "cpu_seconds": end[1] - start[1]}
    import trl

    versions = {library.__name__: library.__version__ for library in (torch, transformers, trl)}
    (wanted.out / "stages.json").write_text(json.dumps({
        "versions": versions, "imports": seconds(STARTED, IMPORTED), "after_imports": seconds(IMPORTED, ended),
        "stages": study.stages.done}))


if __name__ == "__main__":
    main()

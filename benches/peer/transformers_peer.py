"""The peer for speed on a GPU: what one line of `touchstone bench` timed, done by transformers and PyTorch at the same shapes.

    touchstone bench tldr --scale paper --case sft --device cuda:0 >line
    /path/to/python benches/peer/transformers_peer.py "$(cat line)"          # gpu.py does both

GPT-NeoX of transformers with random weights, its own `generate`, attention by scaled_dot_product_attention, torch's AdamW
(fused on a GPU). Trained weights, gradients and moments are float32; with bf16, forward and backward run under autocast, and
what is only read is held in bf16, as on our side. Rows and micro-batches are those of the line. Prints one line of JSON.
"""

import argparse
import contextlib
import copy
import json
import statistics

import torch
import torch.nn as nn
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from peer import Ppo, measure, random_ids, step, token_logprobs


class Policy(nn.Module):
    """Language model, with a value head that reads detached features."""

    def __init__(self, config):
        super().__init__()
        self.model = GPTNeoXForCausalLM(config)
        self.value = nn.Linear(config.hidden_size, 1)
        nn.init.zeros_(self.value.weight)

    @torch.no_grad()
    def generate(self, prompt, count):
        """prompt [batch, time] with `count` sampled tokens behind it."""
        return self.model.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=count, do_sample=True,
                                   temperature=1.0, top_k=0, top_p=1.0, pad_token_id=0)

    def response(self, ids, prompt_length):
        """Log-probabilities and values at each response token, both [batch, response] in float32."""
        hidden = self.model.gpt_neox(ids).last_hidden_state[:, prompt_length - 1 : -1]
        logprobs = token_logprobs(self.model.get_output_embeddings()(hidden).float(), ids[:, prompt_length:])
        return logprobs, self.value(hidden.detach().to(self.value.weight.dtype)).float()[..., 0]


class Reward(nn.Module):
    """A scalar at the last token."""

    def __init__(self, config):
        super().__init__()
        self.trunk = GPTNeoXForCausalLM(config).gpt_neox
        self.head = nn.Linear(config.hidden_size, 1)

    @torch.no_grad()
    def forward(self, ids):
        return self.head(self.trunk(ids).last_hidden_state[:, -1])[:, 0].float()


class ReadPpo(Ppo):
    """Draws and reads with the policy in the type that is computed in, a copy made anew for every update if it is another."""

    dtype: torch.dtype = torch.float32

    def actor(self):
        # Out of training, or transformers would keep no keys and values under gradient checkpointing.
        return (self.policy if self.dtype == torch.float32 else copy.deepcopy(self.policy).to(self.dtype)).eval()

    def loss(self, *rows):
        self.policy.train()
        return super().loss(*rows)


def adamw(model, settings, device):
    betas = settings["beta_1"], settings["beta_2"]
    return torch.optim.AdamW(model.parameters(), lr=settings["learning_rate"], betas=betas, eps=settings["epsilon"],
                             weight_decay=settings["weight_decay"], fused=device.type == "cuda")


def trainable(line, config):
    policy = Policy(config)
    if line["training"]["gradient_checkpointing"]:
        policy.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return policy.train()


def sft(line, config, dtype, device):
    policy, settings = trainable(line, config), line["settings"]
    optimiser = adamw(policy, settings["optimiser"], device)
    rows, prompt, response = settings["batch_size"], line["prompt"], line["response"]
    # A prompt that weighs nothing is not read.
    first = prompt if settings["prompt_weight"] == 0 else 1
    weight = torch.tensor([settings["prompt_weight"]] * (prompt - first) + [1.0] * response)

    def once():
        ids = random_ids(rows, prompt + response, config.vocab_size)
        parts = ids.split(line["micro_batch"] or rows)
        losses = (-(policy.response(part, first)[0] * weight).sum() / (rows * weight.sum()) for part in parts)
        return step(optimiser, policy.model, losses, settings["optimiser"]["clip_norm"])

    return once


def generate(line, config, dtype, device):
    policy = Policy(config).to(dtype).eval()
    rows = line["settings"]["batch_size"]
    return lambda: policy.generate(random_ids(rows, line["prompt"], config.vocab_size), line["response"]).tolist()


def ppo(line, config, dtype, device):
    policy, settings = trainable(line, config), line["settings"]
    assert settings["critic"] == "zero_head", "the peer has a value head on the policy's features"
    whole = ReadPpo(
        policy, copy.deepcopy(policy).to(dtype).eval(), Reward(config).to(dtype).eval(),
        adamw(policy, settings["optimiser"], device), config.vocab_size, settings["rollouts"], line["prompt"],
        line["response"], settings["epochs"], settings["minibatches"], line["micro_batch"],
    )
    whole.dtype = dtype
    return lambda: whole.update(*whole.rollout())


CASES = {"sft": sft, "generate": generate, "ppo": ppo}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("line", type=json.loads, help="a line of `touchstone bench`")
    parser.add_argument("--warm-up", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    line = options.line
    device = torch.device("cuda", int(line["device"].rsplit(":", 1)[-1])) if "cuda" in line["device"] else torch.device("cpu")
    torch.set_default_device(device)
    torch.manual_seed(0)
    known = {key: line["config"][key] for key in line["config"] if not key.endswith("_token_id")}
    config = GPTNeoXConfig(**known, bos_token_id=None, eos_token_id=None)
    dtype = torch.bfloat16 if line["training"]["dtype"] == "bf16" else torch.float32
    autocast = torch.autocast(device.type, dtype) if dtype != torch.float32 else contextlib.nullcontext()
    once = CASES[line["case"]](line, config, dtype, device)
    with autocast:
        median = statistics.median(measure(once, 0.0, options.rounds, options.warm_up))
    said = {"case": line["case"], "tokens_per_second": line["tokens"] / median, "median_s": median,
            "torch": torch.__version__}
    print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main()

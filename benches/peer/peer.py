"""The peer for speed: the same work in plain PyTorch, on one CPU thread, at the sizes of the embedded world.

    python3 -m venv /tmp/peer && /tmp/peer/bin/pip install torch==2.9.0     # x86-64 Linux: 7 GB, no GPU needed
    /tmp/peer/bin/python benches/peer/peer.py                              # or: just bench-peer, inside the venv

Prints one line of JSON per case and size: case, size, tokens_per_second = tokens / median_s, median_s over the rounds,
rounds, tokens, and fastest_s, the round least disturbed by neighbours. Cases, whose shapes `cargo bench` shares:

    train        one optimiser step of next-token prediction: batch 48, 52 tokens (mini-1b) or 60 (mini-2.8b).
                 tokens = batch x length. Forward, backward, clipping to global norm 1, AdamW, loss read back.
    generate     batch 64, prompt 48, 48 sampled tokens, KV cache, temperature 1, multinomial sampling, no stopping.
                 tokens = batch x sampled tokens; the prefill is in the time, not in the tokens.
    reward       scores of a batch of 64 texts of 68 tokens: trunk and scalar head at the last token, no gradient.
                 tokens = batch x length.
    reward_train one optimiser step of the Bradley-Terry loss on 32 pairs of responses of 24 tokens to one prompt of 44
                 each, both texts whole, as TRL does; otherwise as train. tokens = 2 x pairs x length.
    ppo_update   PPO on 64 stored rollouts, prompt 44 and response 24: advantages, then 2 epochs of 4 minibatches, each
                 with clipped ratio and clipped value loss on response tokens, clipping to norm 1, AdamW.
                 tokens = epochs x batch x length.
    ppo          a whole iteration: rollout, log-probabilities of policy and reference, values, reward, then ppo_update.
                 tokens = batch x response tokens.

Sizes are those of the embedded world as GPT-NeoX, and as Mistral (mistral-...): 4 query heads that share 2 key heads, root-mean-
square norms, rotary embedding on whole heads, a gated feed-forward layer, no biases; 3 x width inner dimensions give a layer as
many weights as the GPT-NeoX of the same width has.

All rows are full, so no padding is computed. Attention is scaled_dot_product_attention, float32 throughout. Weights and
data are random: time does not depend on them.
"""

import argparse
import json
import statistics
import time
from dataclasses import dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F

VOCABULARY = 256
ROTARY_SHARE = 0.25


@dataclass(frozen=True)
class Size:
    name: str
    width: int
    layers: int
    heads: int
    train_length: int
    key_heads: int | None = None  # of a Mistral; none for a GPT-NeoX


SIZES = [Size("mini-1b", 64, 2, 4, 52), Size("mini-2.8b", 96, 3, 6, 60),
         Size("mistral-mini-1b", 64, 2, 4, 52, 2), Size("mistral-mini-2.8b", 96, 3, 4, 60, 2)]


def rotary_tables(length: int, dims: int) -> tuple[torch.Tensor, torch.Tensor]:
    """cos and sin, [length, dims], of the angles of rotary position embedding, base 10000."""
    inverse = 10000 ** -(torch.arange(0, dims, 2) / dims)
    angles = torch.arange(length)[:, None] * inverse.repeat(2)
    return angles.cos(), angles.sin()


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotates the first cos.shape[-1] dimensions of each head of x, [batch, heads, time, head]."""
    dims = cos.shape[-1]
    rotated, kept = x[..., :dims], x[..., dims:]
    first, second = rotated.chunk(2, dim=-1)
    return torch.cat([rotated * cos + torch.cat([-second, first], dim=-1) * sin, kept], dim=-1)


def cached(key, value, cache):
    """Keys and values with those of `cache` before them, which then holds all; unchanged without a cache."""
    if cache is None:
        return key, value
    if cache:
        key, value = torch.cat([cache[0], key], dim=2), torch.cat([cache[1], value], dim=2)
    cache[:] = [key, value]
    return key, value


class Block(nn.Module):
    """One GPT-NeoX layer with parallel residual: x + attention(norm(x)) + feed-forward(norm'(x))."""

    def __init__(self, size: Size):
        super().__init__()
        width = size.width
        self.heads, self.head = size.heads, width // size.heads
        self.norm_attention, self.norm_feed = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query_key_value, self.dense = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x, cos, sin, cache=None):
        batch, time_, width = x.shape
        mixed = self.query_key_value(self.norm_attention(x)).view(batch, time_, self.heads, 3 * self.head)
        query, key, value = mixed.transpose(1, 2).chunk(3, dim=-1)
        query, key = rotate(query, cos, sin), rotate(key, cos, sin)
        key, value = cached(key, value, cache)
        attended = F.scaled_dot_product_attention(query, key, value, is_causal=time_ > 1)
        attended = self.dense(attended.transpose(1, 2).reshape(batch, time_, width))
        return x + attended + self.down(F.gelu(self.up(self.norm_feed(x))))


class MistralBlock(nn.Module):
    """One Mistral layer: h = x + attention(norm(x)), then h + feed-forward(norm'(h)), gated by SiLU."""

    def __init__(self, size: Size):
        super().__init__()
        width, inner = size.width, 3 * size.width
        self.heads, self.key_heads, self.head = size.heads, size.key_heads, width // size.heads
        self.norm_attention, self.norm_feed = nn.RMSNorm(width, eps=1e-6), nn.RMSNorm(width, eps=1e-6)
        self.query, self.output = nn.Linear(width, width, bias=False), nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, self.key_heads * self.head, bias=False)
        self.value = nn.Linear(width, self.key_heads * self.head, bias=False)
        self.gate, self.up = nn.Linear(width, inner, bias=False), nn.Linear(width, inner, bias=False)
        self.down = nn.Linear(inner, width, bias=False)

    def forward(self, x, cos, sin, cache=None):
        batch, time_, width = x.shape
        normed = self.norm_attention(x)
        query, key, value = (linear(normed).view(batch, time_, -1, self.head).transpose(1, 2)
                             for linear in (self.query, self.key, self.value))
        key, value = cached(rotate(key, cos, sin), value, cache)
        attended = F.scaled_dot_product_attention(rotate(query, cos, sin), key, value, is_causal=time_ > 1, enable_gqa=True)
        x = x + self.output(attended.transpose(1, 2).reshape(batch, time_, width))
        normed = self.norm_feed(x)
        return x + self.down(F.silu(self.gate(normed)) * self.up(normed))


class Trunk(nn.Module):
    """Token ids [batch, time] to hidden states [batch, time, width]."""

    def __init__(self, size: Size, positions: int = 128):
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, size.width)
        mistral = size.key_heads is not None
        block, share = (MistralBlock, 1) if mistral else (Block, ROTARY_SHARE)
        self.blocks = nn.ModuleList(block(size) for _ in range(size.layers))
        self.norm = nn.RMSNorm(size.width, eps=1e-6) if mistral else nn.LayerNorm(size.width)
        cos, sin = rotary_tables(positions, int(size.width // size.heads * share))
        self.register_buffer("cos", cos)
        self.register_buffer("sin", sin)

    def forward(self, ids, start=0, caches=None):
        positions = slice(start, start + ids.shape[1])
        cos, sin = self.cos[positions], self.sin[positions]
        x = self.embedding(ids)
        for index, block in enumerate(self.blocks):
            x = block(x, cos, sin, caches[index] if caches else None)
        return self.norm(x)


class Policy(nn.Module):
    """Language model, with a value head that reads detached features."""

    def __init__(self, size: Size):
        super().__init__()
        self.trunk = Trunk(size)
        self.logits = nn.Linear(size.width, VOCABULARY, bias=False)
        self.value = nn.Linear(size.width, 1)
        nn.init.zeros_(self.value.weight)

    def forward(self, ids):
        return self.logits(self.trunk(ids))

    @torch.no_grad()
    def generate(self, prompt, count):
        """prompt [batch, time] with `count` sampled tokens behind it."""
        caches = [[] for _ in self.trunk.blocks]
        ids, fresh = prompt, prompt
        for _ in range(count):
            hidden = self.trunk(fresh, start=ids.shape[1] - fresh.shape[1], caches=caches)
            fresh = torch.multinomial(self.logits(hidden[:, -1]).softmax(-1), 1)
            ids = torch.cat([ids, fresh], dim=1)
        return ids

    def response(self, ids, prompt_length):
        """Log-probabilities and values at each response token, both [batch, response]."""
        hidden = self.trunk(ids)[:, prompt_length - 1 : -1]
        return token_logprobs(self.logits(hidden), ids[:, prompt_length:]), self.value(hidden.detach())[..., 0]


class Reward(nn.Module):
    """A scalar at the last token."""

    def __init__(self, size: Size):
        super().__init__()
        self.trunk = Trunk(size)
        self.head = nn.Linear(size.width, 1)

    def forward(self, ids):
        return self.head(self.trunk(ids)[:, -1])[:, 0]


def token_logprobs(logits, targets):
    return logits.log_softmax(-1).gather(-1, targets[..., None])[..., 0]


def step(optimiser, model, losses, clip_norm=1.0):
    """One optimiser step on the sum of `losses`, each with a backward pass of its own; returns the sum."""
    optimiser.zero_grad(set_to_none=True)
    total = 0.0
    for loss in losses:
        loss.backward()
        total = total + loss.detach()
    nn.utils.clip_grad_norm_(model.parameters(), clip_norm or float("inf"))
    optimiser.step()
    return total.item()


def adamw(model):
    return torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.98), weight_decay=0.0)


def random_ids(batch, length, vocabulary=VOCABULARY):
    return torch.randint(vocabulary, (batch, length))


def train(size: Size):
    model, batch = Policy(size), 48
    optimiser = adamw(model)

    def once():
        ids = random_ids(batch, size.train_length + 1)
        logits = model(ids[:, :-1])
        return step(optimiser, model, [F.cross_entropy(logits.reshape(-1, VOCABULARY), ids[:, 1:].reshape(-1))])

    return once, batch * size.train_length


def generate(size: Size):
    model, batch, prompt, count = Policy(size), 64, 48, 48
    return lambda: model.generate(random_ids(batch, prompt), count), batch * count


def reward(size: Size):
    model, batch, length = Reward(size), 64, 68

    @torch.no_grad()
    def once():
        return model(random_ids(batch, length)).tolist()

    return once, batch * length


def reward_train(size: Size):
    model, pairs, prompt, response = Reward(size), 32, 44, 24
    optimiser = adamw(model)

    def once():
        prompts = random_ids(pairs, prompt).repeat(2, 1)
        chosen, rejected = model(torch.cat([prompts, random_ids(2 * pairs, response)], dim=1)).chunk(2)
        return step(optimiser, model, [-F.logsigmoid(chosen - rejected).mean()])

    return once, 2 * pairs * (prompt + response)


@dataclass
class Ppo:
    """Policy step with a per-token KL penalty to a fixed reference, generalised advantages, clipped losses."""

    policy: nn.Module
    reference: nn.Module
    scorer: nn.Module
    optimiser: torch.optim.Optimizer
    vocabulary: int = VOCABULARY
    batch: int = 64
    prompt: int = 44
    count: int = 24
    epochs: int = 2
    minibatches: int = 4
    # Rows of a forward pass; none takes them all at once.
    micro_batch: int | None = None
    kl: float = 0.05
    gamma: float = 1.0
    lambda_: float = 0.95
    clip: float = 0.2
    clip_value: float = 0.2
    value_coefficient: float = 0.1

    @classmethod
    def of(cls, size: Size):
        policy = Policy(size)
        return cls(policy, Policy(size), Reward(size), adamw(policy))

    def actor(self):
        """What rollouts are drawn by and read with."""
        return self.policy

    @torch.no_grad()
    def rollout(self):
        actor = self.actor()
        ids = actor.generate(random_ids(self.batch, self.prompt, self.vocabulary), self.count)
        parts = [(actor.response(part, self.prompt), self.reference.response(part, self.prompt)[0], self.scorer(part))
                 for part in ids.split(self.micro_batch or self.batch)]
        logprobs, values = (torch.cat([part[0][place] for part in parts]) for place in (0, 1))
        rewards = -self.kl * (logprobs - torch.cat([part[1] for part in parts]))
        rewards[:, -1] += torch.cat([part[2] for part in parts])
        return ids, logprobs, values, rewards

    def advantages(self, values, rewards):
        """Whitened advantages and the value targets, both [batch, response]."""
        last, columns = torch.zeros(len(values)), []
        for t in reversed(range(self.count)):
            following = values[:, t + 1] if t + 1 < self.count else 0.0
            last = rewards[:, t] + self.gamma * following - values[:, t] + self.gamma * self.lambda_ * last
            columns.append(last)
        advantages = torch.stack(columns[::-1], dim=1)
        targets = advantages + values
        return (advantages - advantages.mean()) / (advantages.std() + 1e-8), targets

    def loss(self, ids, old_logprobs, old_values, advantages, targets):
        logprobs, values = self.policy.response(ids, self.prompt)
        ratio = (logprobs - old_logprobs).exp()
        policy = torch.max(-advantages * ratio, -advantages * ratio.clamp(1 - self.clip, 1 + self.clip)).mean()
        clipped = old_values + (values - old_values).clamp(-self.clip_value, self.clip_value)
        value = 0.5 * torch.max((values - targets) ** 2, (clipped - targets) ** 2).mean()
        return policy + self.value_coefficient * value

    def update(self, ids, logprobs, values, rewards):
        advantages, targets = self.advantages(values, rewards)
        rows = (ids, logprobs, values, advantages, targets)
        loss = None
        for _ in range(self.epochs):
            for chosen in torch.randperm(self.batch).chunk(self.minibatches):
                parts = chosen.split(self.micro_batch or len(chosen))
                losses = (self.loss(*(row[part] for row in rows)) * (len(part) / len(chosen)) for part in parts)
                loss = step(self.optimiser, self.policy, losses)
        return loss


def ppo_update(size: Size):
    ppo = Ppo.of(size)
    stored = ppo.rollout()
    return lambda: ppo.update(*stored), ppo.epochs * ppo.batch * (ppo.prompt + ppo.count)


def ppo(size: Size):
    whole = Ppo.of(size)
    return lambda: whole.update(*whole.rollout()), whole.batch * whole.count


CASES = {case.__name__: case for case in (train, generate, reward, reward_train, ppo_update, ppo)}


def check():
    """The cache and the full forward must agree, or the generation that is timed would not be generation."""
    for size in SIZES:
        with torch.no_grad():
            model, ids = Policy(size), random_ids(2, 9)
            caches = [[] for _ in model.trunk.blocks]
            parts = [model.trunk(ids[:, :5], 0, caches)] + [model.trunk(ids[:, t : t + 1], t, caches) for t in range(5, 9)]
            difference = (torch.cat(parts, dim=1) - model.trunk(ids)).abs().max().item()
        assert difference < 1e-4, f"{size.name}: cached and full forward differ by {difference}"


def measure(once, seconds: float, least: int = 7, warm_up: int = 3) -> list[float]:
    """Wall time of each round after some to warm up, for at least `seconds` and `least` rounds."""
    for _ in range(warm_up):
        once()
    rounds = []
    while sum(rounds) < seconds or len(rounds) < least:
        started = time.perf_counter()
        once()
        rounds.append(time.perf_counter() - started)
    return rounds


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--case", choices=CASES, action="append", help="only this case (may be given again)")
    parser.add_argument("--size", choices=[size.name for size in SIZES], help="only this size")
    parser.add_argument("--seconds", type=float, default=5.0, help="least time per case and size")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    check()
    for name in options.case or CASES:
        for size in SIZES:
            if options.size not in (None, size.name):
                continue
            once, tokens = CASES[name](size)
            rounds = measure(once, options.seconds)
            median = statistics.median(rounds)
            line = dict(case=name, size=size.name, tokens_per_second=round(tokens / median), median_s=round(median, 6),
                        rounds=len(rounds), tokens=tokens, fastest_s=round(min(rounds), 6))
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()

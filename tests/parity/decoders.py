"""Decoders in plain PyTorch, on the tensors of a checkpoint: GPT-NeoX and the Llama family, written from their equations.

`config` holds the keys of config.json that touchstone writes into a problem. One sequence at a time: there is no padding,
no batch, and no mask but that of the future and of what a window hides.
"""

import math
from typing import Callable, NamedTuple

import torch
from torch.nn import functional as F

# --- Both families -------------------------------------------------------------------------------------------------------


def linear(weights, name, x):
    """Every family's maps; the checkpoint says which of them have a bias."""
    return F.linear(x, weights[f"{name}.weight"], weights.get(f"{name}.bias"))


def geometric(base, half):
    """base^(−i/half), i = 0, 1, …: the angle by which each of `half` pairs of dimensions turns from token to token."""
    return base ** -(torch.arange(half, dtype=torch.float64) / half)


def rotate(frequencies, x):
    """Every pair of dimensions turned by its angle times the token's position; `x` is [heads, t, head size]. The partner of
    a dimension is as far from it as there are pairs, and dimensions behind all pairs stay."""
    half = len(frequencies)
    angles = torch.arange(x.shape[1], dtype=torch.float64)[:, None] * frequencies
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    first, second, rest = x[..., :half], x[..., half : 2 * half], x[..., 2 * half :]
    return torch.cat([first * cos - second * sin, second * cos + first * sin, rest], -1)


def attend(query, key, value, window=None):
    """Means of the values that a token sees, itself and those before it, at most `window` in all; [t, heads · head size]."""
    t, size = query.shape[1:]
    back = torch.arange(t)[:, None] - torch.arange(t)
    hidden = (back < 0) | (back >= (window or t))
    scores = query @ key.transpose(1, 2) / math.sqrt(size)
    context = scores.masked_fill(hidden, -math.inf).softmax(-1) @ value
    return context.transpose(0, 1).reshape(t, -1)


# --- GPT-NeoX ------------------------------------------------------------------------------------------------------------


def layer_norm(weights, config, name, x):
    return F.layer_norm(x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"], config["layer_norm_eps"])


def gpt_neox_attention(weights, config, name, x):
    heads = config["num_attention_heads"]
    qkv = linear(weights, f"{name}.query_key_value", x).view(len(x), heads, -1).transpose(0, 1)
    query, key, value = qkv.chunk(3, -1)
    half = int(query.shape[-1] * config["rotary_pct"]) // 2
    frequencies = geometric(config["rotary_emb_base"], half)
    context = attend(rotate(frequencies, query), rotate(frequencies, key), value)
    return linear(weights, f"{name}.dense", context)


def gpt_neox(weights, config, ids):
    """States after the final norm, [t, hidden_size]."""
    x = weights["gpt_neox.embed_in.weight"][torch.tensor(ids)]
    for index in range(config["num_hidden_layers"]):
        name = f"gpt_neox.layers.{index}"
        normed = layer_norm(weights, config, f"{name}.input_layernorm", x)
        attended = gpt_neox_attention(weights, config, f"{name}.attention", normed)
        read = x if config["use_parallel_residual"] else x + attended
        inner = layer_norm(weights, config, f"{name}.post_attention_layernorm", read)
        inner = F.gelu(linear(weights, f"{name}.mlp.dense_h_to_4h", inner))
        x = x + attended + linear(weights, f"{name}.mlp.dense_4h_to_h", inner)
    return layer_norm(weights, config, "gpt_neox.final_layer_norm", x)


# --- The Llama family ----------------------------------------------------------------------------------------------------


def rms_norm(weights, config, name, x):
    """Over the last dimension of `x`."""
    return F.rms_norm(x, x.shape[-1:], weights[f"{name}.weight"], config["rms_norm_eps"])


def slowed(frequencies, scaling):
    """`rope_scaling`, if there is one. That of Llama 3 divides by its factor where a pair of dimensions turns less than
    `low_freq_factor` times in the original context, leaves those that turn more than `high_freq_factor` times as they are,
    and goes from one to the other in proportion to the turns."""
    if scaling is None:
        return frequencies
    slow = frequencies / scaling["factor"]
    if scaling["rope_type"] == "linear":
        return slow
    turns = scaling["original_max_position_embeddings"] * frequencies / (2 * math.pi)
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    return slow.lerp(frequencies, ((turns - low) / (high - low)).clamp(0, 1))


def project(weights, config, name, x, kind):
    """Queries (`q`), keys (`k`) or values (`v`), [heads, t, head_dim]. OLMo2 normalises all queries of a token as one vector,
    and its keys, Qwen3 each head of them."""
    family, normalised = config["model_type"], kind != "v"
    x = linear(weights, f"{name}.{kind}_proj", x)
    if family == "olmo2" and normalised:
        x = rms_norm(weights, config, f"{name}.{kind}_norm", x)
    x = x.view(len(x), -1, config["head_dim"])
    if family == "qwen3" and normalised:
        x = rms_norm(weights, config, f"{name}.{kind}_norm", x)
    return x.transpose(0, 1)


def llama_attention(weights, config, name, x, window):
    query, key, value = (project(weights, config, name, x, kind) for kind in "qkv")
    frequencies = slowed(geometric(config["rope_theta"], config["head_dim"] // 2), config.get("rope_scaling"))
    query, key = rotate(frequencies, query), rotate(frequencies, key)
    # Neighbouring heads of queries share a head of keys.
    share = len(query) // len(key)
    key, value = (heads.repeat_interleave(share, 0) for heads in (key, value))
    return linear(weights, f"{name}.o_proj", attend(query, key, value, window))


def gated(weights, name, x):
    """The feed-forward layer."""
    gate, up = linear(weights, f"{name}.gate_proj", x), linear(weights, f"{name}.up_proj", x)
    return linear(weights, f"{name}.down_proj", F.silu(gate) * up)


def llama(weights, config, ids):
    """States after the final norm, [t, hidden_size]. OLMo2 normalises what a block adds, all others what it reads."""
    x = weights["model.embed_tokens.weight"][torch.tensor(ids)]
    for index, kind in enumerate(config["layer_types"]):
        name, window = f"model.layers.{index}", config["sliding_window"] if kind == "sliding_attention" else None

        def norm(part, x):
            return rms_norm(weights, config, f"{name}.{part}_layernorm", x)

        def attention(x):
            return llama_attention(weights, config, f"{name}.self_attn", x, window)

        def feed_forward(x):
            return gated(weights, f"{name}.mlp", x)

        if config["model_type"] == "olmo2":
            x = x + norm("post_attention", attention(x))
            x = x + norm("post_feedforward", feed_forward(x))
        else:
            x = x + attention(norm("input", x))
            x = x + feed_forward(norm("post_attention", x))
    return rms_norm(weights, config, "model.norm", x)


# --- Either, by its configuration ----------------------------------------------------------------------------------------


class Decoder(NamedTuple):
    states: Callable
    embedding: str
    head: str


GPT_NEOX = Decoder(gpt_neox, "gpt_neox.embed_in.weight", "embed_out.weight")
LLAMA = Decoder(llama, "model.embed_tokens.weight", "lm_head.weight")
# By model_type, which the keys of a GPT-NeoX lack.
FAMILIES = {None: GPT_NEOX} | dict.fromkeys(("mistral", "llama", "qwen2", "qwen3", "olmo2"), LLAMA)


def states(weights, config, ids):
    """States after the final norm, [t, hidden_size]."""
    return FAMILIES[config.get("model_type")].states(weights, config, ids)


def logits(weights, config, ids):
    decoder = FAMILIES[config.get("model_type")]
    head = weights[decoder.embedding if config["tie_word_embeddings"] else decoder.head]
    return decoder.states(weights, config, ids) @ head.T

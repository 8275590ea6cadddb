"""How fast PyTorch's own kernels can be at what one line of `touchstone bench` timed: the least work, and no library beside torch.

    touchstone bench tldr --scale paper --case sft --device libtorch:cuda:0 >line
    /path/to/python benches/peer/ceiling.py "$(cat line)"                    # gpu.py does both

GPT-NeoX with random weights, with the operations that a program in Rust can call too: attention by scaled_dot_product_attention
on rows of full length, so that none is masked; head and loss in pieces, so that no logits of a whole batch exist; fused AdamW.
Trained weights, gradients and moments are float32; products are in the line's type. Sampling draws as touchstone does, by inverting
the distribution function; `graph` replays each step of it as one CUDA graph. Prints one line of JSON for each case that the line's
case has: sft, or generate and on a GPU also graph. PPO has no ceiling of its own.
"""

import argparse
import json
import statistics

import torch
import torch.nn.functional as F

from peer import measure

# Tokens of which logits are in memory together.
PIECE = 8192


class Shape:
    """The sizes that a line names."""

    def __init__(self, line):
        config = line["config"]
        self.width, self.layers, self.heads = config["hidden_size"], config["num_hidden_layers"], config["num_attention_heads"]
        self.inner, self.vocabulary, self.epsilon = config["intermediate_size"], config["vocab_size"], config["layer_norm_eps"]
        self.size = self.width // self.heads
        self.rotated = int(self.size * config["rotary_pct"])
        self.base = config["rotary_emb_base"]
        self.prompt, self.response = line["prompt"], line["response"]
        self.time = self.prompt + self.response
        self.dtype = torch.bfloat16 if line["training"]["dtype"] == "bf16" else torch.float32

    def angles(self, positions):
        """Cosines and sines of the rotated dimensions, [time, rotated]."""
        frequency = self.base ** (-torch.arange(0, self.rotated, 2).float() / self.rotated)
        angle = torch.cat([positions[:, None].float() * frequency] * 2, -1)
        return angle.cos().to(self.dtype), angle.sin().to(self.dtype)


class Model:
    """Weights as leaves, drawn on the device."""

    def __init__(self, shape):
        d, inner = shape.width, shape.inner
        self.embedding, self.head = weight(shape.vocabulary, d), weight(shape.vocabulary, d)
        self.norm = [constant(1, d), constant(0, d)]
        self.layers = [
            [constant(1, d), constant(0, d), weight(3 * d, d), constant(0, 3 * d), weight(d, d), constant(0, d),
             constant(1, d), constant(0, d), weight(inner, d), constant(0, inner), weight(d, inner), constant(0, d)]
            for _ in range(shape.layers)
        ]

    def parameters(self):
        return [self.embedding, self.head, *self.norm, *(parameter for layer in self.layers for parameter in layer)]


def weight(*size):
    return (torch.randn(*size) * 0.02).requires_grad_()


def constant(value, size):
    return torch.full((size,), float(value)).requires_grad_()


def turned(x, cos, sin):
    """`x` [batch, heads, time, size] with its first dimensions rotated."""
    first, rest = x[..., : cos.shape[-1]], x[..., cos.shape[-1] :]
    half = cos.shape[-1] // 2
    crossed = torch.cat([-first[..., half:], first[..., :half]], -1)
    return torch.cat([first * cos + crossed * sin, rest], -1)


def layer(shape, x, weights, cos, sin, cache=None, at=0):
    """One layer of `x` [batch, time, width]; with a cache, `x` stands at `at`."""
    batch, time, width = x.shape
    g1, b1, qkv, qkv_bias, out, out_bias, g2, b2, up, up_bias, down, down_bias = (w.to(shape.dtype) for w in weights)
    heads = F.linear(F.layer_norm(x, (width,), g1, b1, shape.epsilon), qkv, qkv_bias)
    q, k, v = heads.view(batch, time, shape.heads, 3 * shape.size).transpose(1, 2).split(shape.size, -1)
    q, k = turned(q, cos, sin), turned(k, cos, sin)
    if cache is not None:
        keys, values = cache
        keys[:, :, at : at + time], values[:, :, at : at + time] = k, v
        k, v = keys[:, :, : at + time], values[:, :, : at + time]
    context = F.scaled_dot_product_attention(q, k, v, is_causal=time > 1).transpose(1, 2).reshape(batch, time, width)
    fed = F.linear(F.gelu(F.linear(F.layer_norm(x, (width,), g2, b2, shape.epsilon), up, up_bias)), down, down_bias)
    return x + F.linear(context, out, out_bias) + fed


class Loss(torch.autograd.Function):
    """The mean of -log p of the targets, `scale` of each, with its gradients computed at once and piece by piece."""

    @staticmethod
    def forward(ctx, x, head, targets, scale):
        by_x, by_head, total = torch.empty_like(x), torch.zeros_like(head), 0.0
        narrow = head.to(x.dtype)
        for start in range(0, len(x), PIECE):
            part, target = x[start : start + PIECE], targets[start : start + PIECE]
            logs = F.log_softmax((part @ narrow.T).float(), -1)
            total = total - logs.gather(1, target[:, None]).sum()
            gradient = logs.exp_()
            gradient[torch.arange(len(target)), target] -= 1
            gradient = (gradient * scale).to(x.dtype)
            by_x[start : start + PIECE] = gradient @ narrow
            by_head += gradient.T @ part
        ctx.save_for_backward(by_x, by_head)
        return total * scale

    @staticmethod
    def backward(ctx, gradient):
        by_x, by_head = ctx.saved_tensors
        return by_x * gradient, by_head * gradient, None, None


def sft(line, shape):
    model, settings = Model(shape), line["settings"]
    on_gpu = torch.get_default_device().type == "cuda"
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-6, fused=on_gpu)
    rows, together = settings["batch_size"], line["micro_batch"] or settings["batch_size"]
    ids = torch.randint(shape.vocabulary, (rows, shape.time + 1))
    cos, sin = shape.angles(torch.arange(shape.time))
    run = lambda x, *weights: layer(shape, x, weights, cos, sin)
    again = lambda x, *weights: torch.utils.checkpoint.checkpoint(run, x, *weights, use_reentrant=False)
    one = again if line["training"]["gradient_checkpointing"] else run

    def once():
        for part in ids.split(together):
            x = F.embedding(part[:, :-1], model.embedding).to(shape.dtype)
            for weights in model.layers:
                x = one(x, *weights)
            x = F.layer_norm(x, (shape.width,), *(w.to(shape.dtype) for w in model.norm), shape.epsilon)
            Loss.apply(x.reshape(-1, shape.width), model.head, part[:, 1:].reshape(-1), 1.0 / ids.numel()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings["optimiser"]["clip_norm"])
        optimiser.step()
        optimiser.zero_grad(set_to_none=False)
        if on_gpu:
            torch.cuda.synchronize()

    return once


@torch.no_grad()
def generate(line, shape, graph=False):
    model, rows = Model(shape), line["settings"]["batch_size"]
    narrow = lambda weights: [weight.to(shape.dtype) for weight in weights]
    layers, norm = [narrow(weights) for weights in model.layers], narrow(model.norm)
    embedding, head = narrow([model.embedding, model.head])
    caches = [[torch.empty(rows, shape.heads, shape.time, shape.size, dtype=shape.dtype) for _ in range(2)] for _ in layers]
    prompts = torch.randint(shape.vocabulary, (rows, shape.prompt))

    def draw(x):
        logits = F.layer_norm(x[:, -1], (shape.width,), *norm, shape.epsilon) @ head.T
        cumulated = F.softmax(logits.float(), -1).cumsum(-1)
        threshold = torch.rand(rows, 1) * cumulated[:, -1:]
        return torch.searchsorted(cumulated, threshold, right=True).clamp_(max=shape.vocabulary - 1)

    def forward(ids, at):
        x, (cos, sin) = embedding[ids], shape.angles(torch.arange(at, at + ids.shape[1]))
        for weights, cache in zip(layers, caches):
            x = layer(shape, x, weights, cos, sin, cache, at)
        return draw(x)

    steps = range(shape.prompt, shape.time - 1)
    graphs, place = [], torch.zeros(rows, 1, dtype=torch.long)
    if graph:
        # The length of what is seen is fixed in a graph, so that each step has one; they share their memory.
        forward(place, shape.prompt)
        torch.cuda.synchronize()
        for at in steps:
            graphs.append(torch.cuda.CUDAGraph())
            with torch.cuda.graph(graphs[-1], pool=graphs[0].pool() if len(graphs) > 1 else None):
                place.copy_(forward(place, at))

    @torch.no_grad()
    def once():
        ids = forward(prompts, 0)
        drawn = [ids]
        for index, at in enumerate(steps):
            if graph:
                place.copy_(ids)
                graphs[index].replay()
                ids = place.clone()
            else:
                ids = forward(ids, at)
            drawn.append(ids)
        return torch.cat(drawn, 1).tolist()

    return once


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("line", type=json.loads, help="a line of `touchstone bench`")
    parser.add_argument("--warm-up", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    line = options.line
    on_gpu = "cuda" in line["device"]
    torch.set_default_device(torch.device("cuda", int(line["device"].rsplit(":", 1)[-1])) if on_gpu else torch.device("cpu"))
    torch.manual_seed(0)
    shape = Shape(line)
    cases = {
        "sft": {"sft": lambda: sft(line, shape)},
        "generate": {"generate": lambda: generate(line, shape), **({"graph": lambda: generate(line, shape, True)} if on_gpu else {})},
    }
    for name, build in cases.get(line["case"], {}).items():
        median = statistics.median(measure(build(), 0.0, options.rounds, options.warm_up))
        said = {"case": name, "tokens_per_second": line["tokens"] / median, "median_s": median, "torch": torch.__version__}
        print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main()

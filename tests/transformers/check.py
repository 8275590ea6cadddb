#!/usr/bin/env python3
"""Whether touchstone and transformers compute the same from the same folders, in both directions.

    python3 -m venv /tmp/venv && /tmp/venv/bin/pip install torch==2.15.0 transformers==5.24.0    # or 2.9.0 and 4.57.6
    PYTHON=/tmp/venv/bin/python just transformers                   # all of it: 20 random models a family, and trained ones
    PYTHON=/tmp/venv/bin/python just transformers --random 200 --seed 7
    PYTHON=/tmp/venv/bin/python just transformers --family mistral --family qwen2
    PYTHON=/tmp/venv/bin/python just transformers FOLDER ...        # opens model folders that touchstone saved

A random model has a configuration and weights drawn from its number: sizes that divide nothing, any share of rotated
dimensions, one or more layers, tied or not, either residual, with or without the buffers of old releases, in any number
type, in one file or shards, under any spelling of the rotary keys, a language or a reward model; in the Llama line also
shared key heads, heads of any width, windows, scaled angles and biases where its family has them. Whichever version of
transformers is installed, some folders get the keys that transformers 4 writes. transformers saves it and
`touchstone score` computes with it; then `touchstone model convert` writes it in every number type and transformers opens
that. Trained models are those that the smoke study leaves in its store: every policy and every reward model.

Compared are numbers computed on the CPU, by touchstone in float32 and by transformers in float64: log-probabilities of every
token of rows of unequal length (and at one place of every random model, of every token of the vocabulary: the logits but for
their normalisation), and scores of reward models. transformers computes them in one batch padded on either side, touchstone
in batches of another size. Weights of two bytes are compared as both programs read them. Rotary angles that transformers
scales in a way that is not built in must be refused by name. Exits with 1 if anything differs by more than the tolerance.
"""

import argparse
import itertools
import json
import pathlib
import random
import runpy
import subprocess
import sys
import tempfile

import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification, GPTNeoXConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "tests/fixtures/gpt_neox"))
from make import randomise  # noqa: E402

randomise_llama = runpy.run_path(str(ROOT / "tests/fixtures/llama/make.py"))["randomise"]

FAMILIES = ["gpt_neox", "llama", "mistral", "qwen2", "qwen3", "olmo2"]
TYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}


class Touchstone:
    """The program, run in a folder of its own."""

    def __init__(self, program: pathlib.Path, work: pathlib.Path):
        self.program, self.work = program, work

    def run(self, *words) -> str:
        command = [str(self.program), *map(str, words)]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if done.returncode != 0:
            sys.exit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
        return done.stdout

    def refuse(self, folder: pathlib.Path, what: str) -> None:
        """Fails unless `model info` refuses the folder and says `what`."""
        done = subprocess.run([str(self.program), "model", "info", str(folder)], capture_output=True, text=True)
        said = " ".join((done.stdout + done.stderr).replace("│", " ").split())
        if done.returncode == 0 or what not in said:
            sys.exit(f"{folder} should be refused for {what}\n{done.stdout}{done.stderr}")

    def score(self, folder: pathlib.Path, kind: str, rows: list[tuple[list[int], list[int]]], batch: int) -> list[dict]:
        rows_in, rows_out = self.work / "rows.jsonl", self.work / "scored.jsonl"
        lines = [json.dumps({"prompt_ids": prompt, "response_ids": response}) for prompt, response in rows]
        rows_in.write_text("\n".join(lines))
        self.run("score", "--model", folder, "--kind", kind, "--input", rows_in, "--output", rows_out, "--batch", batch)
        return [json.loads(line) for line in rows_out.read_text().splitlines()]


def is_reward(folder: pathlib.Path) -> bool:
    [architecture] = json.loads((folder / "config.json").read_text())["architectures"]
    return architecture.endswith("ForSequenceClassification")


def auto(reward: bool) -> type:
    return AutoModelForSequenceClassification if reward else AutoModelForCausalLM


def padded(rows: list[list[int]], fill: int, left: bool) -> dict[str, torch.Tensor]:
    """A batch of rows with padding on one side; positions count tokens, as `generate` of transformers has them."""
    width = max(map(len, rows))
    around = lambda row, padding: padding + row if left else row + padding
    ids = torch.tensor([around(row, [fill] * (width - len(row))) for row in rows])
    mask = torch.tensor([around([1] * len(row), [0] * (width - len(row))) for row in rows])
    return dict(input_ids=ids, attention_mask=mask, position_ids=(mask.cumsum(-1) - 1).clamp(min=0))


def apart(expected: torch.Tensor, found: list[float]) -> float:
    """The largest difference; infinite where a number is NaN."""
    return (expected - torch.tensor(found)).abs().nan_to_num(nan=torch.inf).max().item()


@torch.no_grad()
def difference(touchstone: Touchstone, folder: pathlib.Path, draw: random.Random, tokens: int,
               whole_vocabulary: bool) -> float:
    """The largest difference between what the two programs compute from `folder`."""
    # In float64 transformers still rounds norms and angles to float32. Its eager attention does not take float64 beside
    # padding on the left: it ends in NaN.
    model = auto(is_reward(folder)).from_pretrained(folder, dtype=torch.float64, attn_implementation="sdpa").eval()
    config = model.config
    longest = min(config.max_position_embeddings, tokens)
    # Rows end as rewards are read: with a token that is not padding.
    usable = [token for token in range(config.vocab_size) if token != config.pad_token_id]
    rows = []
    for length in [2, 3, longest, *(draw.randint(2, longest) for _ in range(5))]:
        tokens = draw.choices(usable, k=length)
        rows.append((tokens[: (cut := draw.randint(1, length - 1))], tokens[cut:]))
    whole = [prompt + response for prompt, response in rows]
    left = draw.random() < 0.5
    batch = padded(whole, config.pad_token_id or 0, left)
    scored = touchstone.score(folder, "reward" if is_reward(folder) else "lm", rows, draw.choice([1, 3, 8, 32]))
    if is_reward(folder):
        described = folder / "reward.json"
        bound = json.loads(described.read_text())["bound"] if described.exists() else 0
        logits = model(**batch).logits[:, 0]
        expected = bound * (logits / bound).tanh() if bound else logits
        return apart(expected, [row["raw_reward"] for row in scored])

    width = max(map(len, whole))
    every = model(**batch).logits.log_softmax(-1)
    log_probs = [probs[width - len(row) :] if left else probs for probs, row in zip(every, whole)]
    worst = 0.0
    for number, (prompt, response) in enumerate(rows):
        expected = log_probs[number][len(prompt) - 1 : len(prompt) + len(response) - 1]
        expected = expected.gather(1, torch.tensor(response)[:, None])[:, 0]
        worst = max(worst, apart(expected, scored[number]["token_logprobs"]))
    if whole_vocabulary:
        prompt = rows[2][0]
        every = touchstone.score(folder, "lm", [(prompt, [token]) for token in range(config.vocab_size)], 64)
        worst = max(worst, apart(log_probs[2][len(prompt) - 1], [row["logprob"] for row in every]))
    return worst


def random_config(draw: random.Random, reward: bool) -> GPTNeoXConfig:
    head_size = draw.choice([1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 20, 33, 64])
    heads = draw.choice([1, 2, 3, 4, 5, 8])
    share = draw.choice([0.0, 0.05, 0.1, 0.25, 0.25, 0.3, 0.5, 0.75, 1.0, 1.0, draw.random()])
    rotated = int(head_size * share)
    if rotated + rotated % 2 > head_size:
        # transformers rounds an odd number of dimensions up, and cannot compute where there is no room for that.
        share = 0.5
    vocabulary = draw.choice([37, 100, 257, 1000, 1001])
    eos = draw.choice([0, 2, vocabulary - 1])
    padding = [token for token in range(vocabulary) if token != eos]
    head = dict(num_labels=1, pad_token_id=draw.choice(padding)) if reward else {}
    return GPTNeoXConfig(
        vocab_size=vocabulary, hidden_size=heads * head_size, num_hidden_layers=draw.choice([1, 1, 2, 3, 5]),
        num_attention_heads=heads, intermediate_size=draw.choice([4 * heads * head_size, draw.randint(1, 150)]),
        rotary_pct=share, rotary_emb_base=draw.choice([10000, 100, 500000, 10000.0, 7.5]),
        max_position_embeddings=draw.choice([16, 64, 100, 2048]), layer_norm_eps=draw.choice([1e-5, 1e-3, 1e-8]),
        use_parallel_residual=draw.random() < 0.5, tie_word_embeddings=draw.random() < 0.3, eos_token_id=eos,
        hidden_dropout=draw.choice([0, 0.1]), attention_dropout=draw.choice([0, 0.1]), bos_token_id=eos,
        classifier_dropout=draw.choice([0.1, 0.5]), use_cache=draw.random() < 0.5, **head)


def random_llama(draw: random.Random, family: str, reward: bool) -> transformers.PretrainedConfig:
    key_heads, sharing = draw.choice([1, 2, 2, 3, 4]), draw.choice([1, 1, 2, 2, 3, 4])
    head_size = draw.choice([2, 4, 6, 8, 12, 16, 32, 64])
    heads = key_heads * sharing
    hidden = heads * head_size
    keys = {}
    newer = transformers.__version__ >= "5"
    if family in ("llama", "mistral", "qwen3") or draw.random() < 0.5:
        # The others take their heads from the width where they are not told otherwise.
        keys["head_dim"] = head_size
        hidden = draw.choice([hidden, heads * draw.choice([3, 4, 7, 10, 24])])
    if family in ("llama", "qwen3", "olmo2"):
        keys["attention_bias"] = draw.random() < 0.3
    if family == "llama":
        keys["mlp_bias"] = draw.random() < 0.3
    # Each layer of a narrow model magnifies the rounding of the one before it, in both programs.
    positions, layers = draw.choice([16, 64, 100, 2048]), draw.choice([1, 1, 2, 3, 5] if hidden >= 32 else [1, 1, 2])
    if family in ("llama", "qwen2", "qwen3") or newer:
        llama3 = dict(rope_type="llama3", factor=draw.choice([2.0, 8.0, 32.0]), low_freq_factor=draw.choice([1.0, 0.5]),
                      high_freq_factor=draw.choice([4.0, 2.0]),
                      original_max_position_embeddings=positions // draw.choice([2, 4, 8]))
        keys["rope_scaling"] = draw.choice([None, None, llama3, dict(rope_type="linear", factor=2.5)])
    window = draw.choice([1, 2, 4, 16, 4096])
    if family == "mistral":
        keys["sliding_window"] = draw.choice([None, window])
    if family.startswith("qwen"):
        keys |= dict(use_sliding_window=draw.random() < 0.5, sliding_window=window,
                     max_window_layers=draw.randint(0, layers))
        if keys["use_sliding_window"] and draw.random() < 0.5:
            keys["layer_types"] = [draw.choice(["full_attention", "sliding_attention"]) for _ in range(layers)]
    vocabulary = draw.choice([37, 100, 257, 1000, 1001])
    eos = draw.choice([0, 2, vocabulary - 1])
    if reward:
        keys |= dict(num_labels=1, pad_token_id=draw.choice([token for token in range(vocabulary) if token != eos]))
    return AutoConfig.for_model(
        family, vocab_size=vocabulary, hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=heads,
        num_key_value_heads=key_heads, intermediate_size=draw.choice([3 * hidden, draw.randint(1, 150)]),
        rope_theta=draw.choice([10000.0, 100.0, 500000.0, 7.5, 1000000]), max_position_embeddings=positions,
        rms_norm_eps=draw.choice([1e-5, 1e-6, 1e-3]), tie_word_embeddings=draw.random() < 0.4, bos_token_id=1,
        eos_token_id=draw.choice([eos, [eos, 5]]), attention_dropout=draw.choice([0.0, 0.1]),
        use_cache=draw.random() < 0.5, **keys)


def save(model: transformers.PreTrainedModel, folder: pathlib.Path, draw: random.Random) -> str:
    """Saves as some published checkpoint is, and says how."""
    config = model.config
    said = [draw.choice(list(TYPES))]
    model.to(TYPES[said[0]])
    neox, language = config.model_type == "gpt_neox", hasattr(model, "lm_head") or hasattr(model, "embed_out")
    decoder_alone = config.tie_word_embeddings and language and draw.random() < 0.4
    shards = draw.random() < 0.4
    saved = model.base_model if decoder_alone else model
    saved.save_pretrained(folder, max_shard_size=f"{draw.randint(1, 60)}KB" if shards else "5GB")
    said += ["decoder alone"] * decoder_alone + ["shards"] * (folder / "model.safetensors.index.json").exists()
    weights = folder / "model.safetensors"
    if weights.exists() and not decoder_alone and draw.random() < 0.4:
        tensors = load_file(weights)
        for layer in range(config.num_hidden_layers):
            attention = f"gpt_neox.layers.{layer}.attention" if neox else f"model.layers.{layer}.self_attn"
            if neox:
                tensors[f"{attention}.bias"] = torch.ones(1, 1, 8, 8, dtype=draw.choice([torch.bool, torch.uint8])).tril()
                tensors[f"{attention}.masked_bias"] = torch.tensor(-1e9, dtype=draw.choice([torch.float32, torch.bfloat16]))
            tensors[f"{attention}.rotary_emb.inv_freq"] = torch.rand(4)
        said.append("buffers")
        if config.tie_word_embeddings and language:
            head, embedding = ("embed_out", "gpt_neox.embed_in") if neox else ("lm_head", "model.embed_tokens")
            tensors[f"{head}.weight"] = tensors[f"{embedding}.weight"].clone()
            said.append("tied head stored")
        save_file(tensors, weights, metadata={"format": "pt"})
    path = folder / "config.json"
    keys = json.loads(path.read_text())
    if draw.random() < 0.4:
        # Published before the newer names came; only GPT-NeoX has others for its base, and always has biases.
        newer = ["partial_rotary_factor", "rope_theta", "rope_scaling", "attention_bias"] if neox else ["layer_types"]
        if keys.get("model_type", "").startswith("qwen") and keys.get("sliding_window") is None:
            # transformers 5 leaves out what is not used; without layer types an older one needs to be told.
            keys["use_sliding_window"] = False
        keys = as_transformers_4(keys, neox)
        keys = {key: value for key, value in keys.items() if key not in ("dtype", *newer)}
        keys["torch_dtype"] = {"f32": "float32", "f16": "float16", "bf16": "bfloat16"}[said[0]]
        said.append("old keys")
        path.write_text(json.dumps(keys))
    return ", ".join(said)


def as_transformers_4(keys: dict, neox: bool) -> dict:
    """The keys of transformers 4 for the table of rotary keys that transformers 5 writes."""
    rope = keys.pop("rope_parameters", None)
    if rope is None:
        return keys
    if neox:
        return keys | dict(rotary_emb_base=rope["rope_theta"], rotary_pct=rope.get("partial_rotary_factor", 1.0))
    scaling = {key: value for key, value in rope.items() if key not in ("rope_theta", "partial_rotary_factor")}
    return keys | dict(rope_theta=rope["rope_theta"], rope_scaling=scaling if scaling["rope_type"] != "default" else None)


def check_refusals(touchstone: Touchstone, work: pathlib.Path) -> None:
    """Every scaling of rotary angles that transformers has and touchstone lacks is refused by name."""
    for kind in sorted(set(ROPE_INIT_FUNCTIONS) - {"default", "linear", "llama3"}):
        for table in ("rope_scaling", "rope_parameters"):
            config = random_llama(random.Random(1), "llama", False)
            folder = work / f"{kind}-{table}"
            AutoModelForCausalLM.from_config(config).save_pretrained(folder)
            path = folder / "config.json"
            keys = as_transformers_4(json.loads(path.read_text()), neox=False)
            rope = dict(rope_type=kind, rope_theta=keys["rope_theta"], factor=4.0)
            keys = {key: value for key, value in keys.items() if key != "rope_scaling"} | {table: rope}
            path.write_text(json.dumps(keys))
            touchstone.refuse(folder, f"the rope_type `{kind}`")
        print(f"        refused by name: {kind}", flush=True)


def check_random(touchstone: Touchstone, family: str, number: int, tokens: int,
                 work: pathlib.Path) -> tuple[float, float, str]:
    draw = random.Random(number)
    # transformers 4 has no reward model of OLMo 2.
    reward = draw.random() < 0.3 and (family != "olmo2" or transformers.__version__ >= "5")
    neox = family == "gpt_neox"
    config = random_config(draw, reward) if neox else random_llama(draw, family, reward)
    torch.manual_seed(number)
    model = auto(reward).from_config(config).eval()
    (randomise if neox else randomise_llama)(model, torch.Generator().manual_seed(number))
    if neox and config.tie_word_embeddings:
        # As a head of its own would be: logits in the hundreds would lose to rounding what they are compared to.
        model.gpt_neox.embed_in.weight.data *= 1.5 / config.hidden_size**0.5
    folder = work / f"{family}-{number}"
    how = save(model, folder, draw)
    touchstone.run("model", "info", folder)
    read = difference(touchstone, folder, draw, tokens, whole_vocabulary=not reward)
    written = 0.0
    for dtype in TYPES:
        new = work / f"{family}-{number}-{dtype}"
        limit = ["--max-shard-size", f"{draw.randint(1, 60)}KB"] if draw.random() < 0.5 else []
        touchstone.run("model", "convert", folder, new, "--dtype", dtype, *limit)
        written = max(written, difference(touchstone, new, draw, tokens, not reward and dtype == "f32"))
    tied = ", tied" if config.tie_word_embeddings else ""
    kind = f"{family} {'reward' if reward else 'lm'} {config.num_hidden_layers}×{config.hidden_size}"
    return read, written, f"{kind} {describe(config)}{tied}, vocabulary {config.vocab_size}; {how}"


def describe(config: transformers.PretrainedConfig) -> str:
    heads = config.num_attention_heads
    if config.model_type == "gpt_neox":
        residual = "parallel" if config.use_parallel_residual else "sequential"
        rope = getattr(config, "rope_parameters", None) or {"partial_rotary_factor": getattr(config, "rotary_pct", 1)}
        return f"{heads} heads rotary {rope['partial_rotary_factor']:.2f} {residual}"
    said = lambda name: getattr(config, name, None)
    rope = (said("rope_parameters") or said("rope_scaling") or {}).get("rope_type", "default")
    scaling = f", {rope}" if rope != "default" else ""
    # Of Qwen, a window that is not used is not in its configuration.
    first = said("max_window_layers") or 0
    window = f", window {config.sliding_window} from layer {first}" if said("sliding_window") else ""
    biases = ", biases" if said("attention_bias") or said("mlp_bias") else ""
    size = said("head_dim") or config.hidden_size // heads
    return f"{heads}/{config.num_key_value_heads} heads of {size}{scaling}{window}{biases}"


def trained(touchstone: Touchstone, work: pathlib.Path) -> list[pathlib.Path]:
    """The models of a smoke study, policies and rewards."""
    store = work / "store"
    touchstone.run("reproduce", "tldr", "--profile", "smoke", "--store", store, "--out", work / "reports")
    return sorted(path.parent for path in store.rglob("config.json") if (path.parent / "model.safetensors").exists())


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("folders", nargs="*", type=pathlib.Path, help="model folders to open; nothing else is done then")
    options.add_argument("--random", type=int, default=20, metavar="N", help="random models of each family (20)")
    options.add_argument("--seed", type=int, default=1, help="number of the first random model of each (1)")
    options.add_argument("--family", action="append", choices=FAMILIES, help="random models of this one; repeatable (all)")
    options.add_argument("--tokens", type=int, default=96, metavar="N", help="the longest row, where positions allow (96)")
    options.add_argument("--tolerance", type=float, default=1e-4)
    options.add_argument("--touchstone", type=pathlib.Path, default=ROOT / "target/release/touchstone", metavar="PROGRAM")
    options = options.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    print(f"torch {torch.__version__}, transformers {transformers.__version__}")
    worst = {"read": 0.0, "written": 0.0, "policy": 0.0, "reward model": 0.0}
    with tempfile.TemporaryDirectory() as name:
        work = pathlib.Path(name)
        touchstone = Touchstone(options.touchstone.resolve(), work)
        if not options.folders:
            check_refusals(touchstone, work)
        numbers = range(options.seed, options.seed + (0 if options.folders else options.random))
        for family, number in itertools.product(options.family or FAMILIES, numbers):
            read, written, what = check_random(touchstone, family, number, options.tokens, work)
            worst["read"], worst["written"] = max(worst["read"], read), max(worst["written"], written)
            print(f"{number:6}  read {read:.1e}  written {written:.1e}  {what}", flush=True)
        for number, folder in enumerate(options.folders or trained(touchstone, work)):
            found = difference(touchstone, folder, random.Random(number), options.tokens, whole_vocabulary=False)
            kind = "reward model" if is_reward(folder) else "policy"
            worst[kind] = max(worst[kind], found)
            print(f"{found:.1e}  {kind}  {folder if options.folders else folder.name}", flush=True)
    for what, found in worst.items():
        print(f"largest difference, {what}: {found:.1e}")
    if max(worst.values()) > options.tolerance:
        sys.exit(f"more than the tolerance of {options.tolerance:.0e}")


if __name__ == "__main__":
    main()

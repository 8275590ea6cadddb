"""The peer for `touchstone eval leaderboard`: the same requests by transformers, as lm-evaluation-harness scores them.

    touchstone eval leaderboard --model DIR --data DATA --convention h4 --log-samples --out OUT --tasks ...
    python benches/peer/leaderboard.py --model DIR --samples OUT [--batch 8] [--limit N] [--special]

Reads the requests of OUT/samples_*.jsonl, computes the log-likelihood of each by the rules of the harness (46c7966:
lm_eval/models/huggingface.py), and compares it, and whether the continuation is the greedy one, with what is logged there.
Requests are sorted by length, padded on the right and run without an attention mask, all logits and their log-softmax
are computed, as the harness does; the batch is the one that serves it best here. One thread. Prints for each task the
number of requests, the largest difference, the number of greedy flags that differ, CPU seconds, and requests a second; the time
is CPU time of encoding and scoring, without loading. Of GSM8K the completions are compared (greedy, one at a time, --limit of them).
"""

import argparse
import glob
import json
import os
import time

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

parser = argparse.ArgumentParser()
parser.add_argument("--model", required=True)
parser.add_argument("--samples", required=True)
parser.add_argument("--batch", type=int, default=8)
parser.add_argument("--limit", type=int, help="documents of each task")
parser.add_argument("--tasks", default="")
parser.add_argument("--special", action="store_true", help="let the tokenizer add its special tokens (convention h5)")
args = parser.parse_args()

torch.set_num_threads(1)
torch.set_grad_enabled(False)
model = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32).eval()
tokenizer = Tokenizer.from_file(os.path.join(args.model, "tokenizer.json"))
positions = model.config.max_position_embeddings


def encode(text):
    return tokenizer.encode(text, add_special_tokens=args.special).ids


def encode_pair(context, continuation):
    spaces = len(context) - len(context.rstrip())
    if spaces:
        continuation = context[-spaces:] + continuation
        context = context[:-spaces]
    whole, context = encode(context + continuation), encode(context)
    return context, whole[len(context) :]


def likelihoods(requests):
    pairs = [encode_pair(*request) for request in requests]
    order = sorted(range(len(pairs)), key=lambda i: (-len(pairs[i][0] + pairs[i][1]), pairs[i]))
    found = [None] * len(pairs)
    for start in range(0, len(order), args.batch):
        chunk = order[start : start + args.batch]
        rows = [(pairs[i][0] + pairs[i][1])[-(positions + 1) :][:-1] for i in chunk]
        width = max(map(len, rows))
        ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
        logits = F.log_softmax(model(ids).logits, dim=-1)
        for row, i, values in zip(rows, chunk, logits):
            scored = torch.tensor(pairs[i][1])
            values = values[len(row) - len(scored) : len(row)]
            greedy = bool((values.argmax(-1) == scored).all())
            found[i] = (float(values.gather(1, scored[:, None]).sum()), greedy)
    return found


def complete(context, until):
    ids = encode(context)[-(positions - 256) :]
    written = []
    ends = model.generation_config.eos_token_id
    ends = [ends] if isinstance(ends, int) else ends or []
    out = model(torch.tensor([ids]), use_cache=True)
    while len(written) < 256:
        written.append(int(out.logits[0, -1].argmax()))
        text = tokenizer.decode(written, skip_special_tokens=False)
        if written[-1] in ends or any(stop in text for stop in until):
            break
        out = model(torch.tensor([written[-1:]]), past_key_values=out.past_key_values, use_cache=True)
    text = tokenizer.decode(written, skip_special_tokens=False)
    for stop in until:
        text = text.split(stop)[0]
    return text


for path in sorted(glob.glob(os.path.join(args.samples, "samples_*.jsonl"))):
    name = os.path.basename(path)[len("samples_") : -len(".jsonl")]
    if args.tasks and name not in args.tasks.split(","):
        continue
    samples = [json.loads(line) for line in open(path)][: args.limit]
    if isinstance(samples[0]["arguments"][0][1], dict):
        started = time.process_time()
        differ = 0
        for sample in samples:
            context, kwargs = sample["arguments"][0]
            differ += complete(context, kwargs["until"]) != sample["resps"][0][0]
        seconds = time.process_time() - started
        print(json.dumps(dict(task=name, requests=len(samples), completions_that_differ=differ, seconds=round(seconds, 2))))
        continue
    requests = [request for sample in samples for request in sample["arguments"]]
    logged = [resp[0] for sample in samples for resp in sample["resps"]]
    started = time.process_time()
    found = likelihoods(requests)
    seconds = time.process_time() - started
    worst = max(abs(a[0] - b[0]) for a, b in zip(found, logged))
    flags = sum(a[1] != b[1] for a, b in zip(found, logged))
    print(
        json.dumps(
            dict(
                task=name,
                documents=len(samples),
                requests=len(requests),
                largest_difference=worst,
                greedy_flags_that_differ=flags,
                seconds=round(seconds, 2),
                requests_per_second=round(len(requests) / seconds, 1),
            )
        ),
        flush=True,
    )

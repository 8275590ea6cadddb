"""The peer for `touchstone eval leaderboard`: the same requests by transformers, as lm-evaluation-harness scores them.

    touchstone eval leaderboard --model DIR --data DATA --convention h4 --log-samples --out OUT --tasks ...
    python benches/peer/leaderboard.py --model DIR --samples OUT [--batch 8] [--limit N] [--special]

Reads the requests of OUT/samples_*.jsonl, computes the log-likelihood of each by the rules of the harness (46c7966:
lm_eval/models/huggingface.py), and compares it, and whether the continuation is the greedy one, with what is logged there.
Requests are sorted by length, padded on the right and run without an attention mask, all logits and their log-softmax
are computed, as the harness does; the batch is the one that serves it best here. Completions of GSM8K are greedy, by transformers'
`generate` on batches padded on the left, which end when every row has a stop, as in the harness. One thread. Prints for each task
the number of requests, the largest difference, the number of greedy flags or completions that differ, CPU seconds, and requests a
second; the time is CPU time of encoding and scoring, without loading.

    python benches/peer/leaderboard.py --touchstone PROGRAM --tokenizer FILE --data DATA --tasks truthfulqa_mc2,gsm8k \
        [--convention h4] [--documents 20] [--turns 3]

times both in turns, task by task, on a GPT-NeoX of random weights with that tokenizer.json (hidden size 64, 2 layers, 4 heads,
50,304 tokens), and prints a Markdown table. Seconds are CPU seconds: of transformers encoding and scoring; of the program its whole
process, reading data and writing results included, less that of a single Winogrande document, which stands for loading.
"""

import argparse
import glob
import json
import os
import pathlib
import resource
import shutil
import statistics
import subprocess
import tempfile
import time

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, GPTNeoXConfig, GPTNeoXForCausalLM, StoppingCriteria

# Tokens of a completion.
WRITTEN = 256


class Stops(StoppingCriteria):
    """Ends a batch when each of its completions has a stop."""

    def __init__(self, peer, until, start):
        self.peer, self.until, self.start = peer, until, start
        self.done = {}

    def __call__(self, ids, scores, **_):
        for row, written in enumerate(ids[:, self.start :].tolist()):
            # A stop may begin some tokens before the last one.
            text = self.peer.tokenizer.decode(written[-24:], skip_special_tokens=False)
            self.done[row] = self.done.get(row, False) or any(stop in text for stop in self.until)
        return torch.full((len(ids),), all(self.done.values()))


class Peer:
    def __init__(self, folder, batch, special):
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self.tokenizer = Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))
        self.positions = self.model.config.max_position_embeddings
        self.batch, self.special = batch, special

    def encode(self, text):
        return self.tokenizer.encode(text, add_special_tokens=self.special).ids

    def encode_pair(self, context, continuation):
        spaces = len(context) - len(context.rstrip())
        if spaces:
            continuation = context[-spaces:] + continuation
            context = context[:-spaces]
        whole, context = self.encode(context + continuation), self.encode(context)
        return context, whole[len(context) :]

    def batches(self, lengths):
        """Indices in batches, the longest first."""
        order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
        return [order[start : start + self.batch] for start in range(0, len(order), self.batch)]

    def likelihoods(self, requests):
        """Log-likelihood of every continuation, and whether it is the greedy one."""
        pairs = [self.encode_pair(*request) for request in requests]
        found = [None] * len(pairs)
        for chunk in self.batches([len(context) + len(continuation) for context, continuation in pairs]):
            rows = [(pairs[i][0] + pairs[i][1])[-(self.positions + 1) :][:-1] for i in chunk]
            width = max(map(len, rows))
            ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
            logits = F.log_softmax(self.model(ids).logits, dim=-1)
            for row, i, values in zip(rows, chunk, logits):
                scored = torch.tensor(pairs[i][1])
                values = values[len(row) - len(scored) : len(row)]
                greedy = bool((values.argmax(-1) == scored).all())
                found[i] = (float(values.gather(1, scored[:, None]).sum()), greedy)
        return found

    def completions(self, requests):
        """The greedy completion of every context, cut at its first stop."""
        contexts = [self.encode(context)[-(self.positions - WRITTEN) :] for context, _ in requests]
        found = [None] * len(contexts)
        for chunk in self.batches([len(ids) for ids in contexts]):
            width, until = max(len(contexts[i]) for i in chunk), requests[chunk[0]][1]["until"]
            left = [width - len(contexts[i]) for i in chunk]
            ids = torch.tensor([[0] * pad + contexts[i] for pad, i in zip(left, chunk)])
            mask = torch.tensor([[0] * pad + [1] * (width - pad) for pad in left])
            out = self.model.generate(ids, attention_mask=mask, max_new_tokens=WRITTEN, do_sample=False, pad_token_id=0,
                                      stopping_criteria=[Stops(self, until, width)])
            for i, written in zip(chunk, out[:, width:].tolist()):
                text = self.tokenizer.decode(written, skip_special_tokens=False)
                for stop in until:
                    text = text.split(stop)[0]
                found[i] = text
        return found

    def compared(self, samples):
        """CPU seconds of the requests of some documents, and how far results are from those that are logged."""
        requests = [request for sample in samples for request in sample["arguments"]]
        logged = [resp[0] for sample in samples for resp in sample["resps"]]
        completes = isinstance(requests[0][1], dict)
        started = time.process_time()
        found = self.completions(requests) if completes else self.likelihoods(requests)
        seconds = time.process_time() - started
        result = dict(documents=len(samples), requests=len(requests))
        if completes:
            result["completions_that_differ"] = sum(a != b for a, b in zip(found, logged))
        else:
            result["largest_difference"] = max(abs(a[0] - b[0]) for a, b in zip(found, logged))
            result["greedy_flags_that_differ"] = sum(a[1] != b[1] for a, b in zip(found, logged))
        return result | dict(seconds=round(seconds, 2), requests_per_second=round(len(requests) / seconds, 1))


def logged(folder):
    """Logged documents by task."""
    return {os.path.basename(path)[len("samples_") : -len(".jsonl")]: [json.loads(line) for line in open(path)]
            for path in sorted(glob.glob(os.path.join(folder, "samples_*.jsonl")))}


def random_model(folder, tokenizer):
    torch.manual_seed(1)
    shape = GPTNeoXConfig(vocab_size=50304, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=256,
                          max_position_embeddings=2048)
    GPTNeoXForCausalLM(shape).save_pretrained(folder)
    shutil.copy(tokenizer, folder / "tokenizer.json")


def turns(wanted):
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        random_model(folder / "model", wanted.tokenizer)
        peer = Peer(folder / "model", wanted.batch, wanted.special)

        def ours(task, documents, *more):
            """CPU seconds of the program on the first documents."""
            out = folder / f"{task}-{documents}"
            shutil.rmtree(out, ignore_errors=True)
            command = [wanted.touchstone, "eval", "leaderboard", "--model", folder / "model", "--data", wanted.data, "--tasks", task,
                       "--convention", wanted.convention, "--limit", str(documents), "--out", out, *more]
            spent = lambda: sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
            before = spent()
            subprocess.run(command, check=True, capture_output=True, env=os.environ | {"RAYON_NUM_THREADS": "1"})
            return spent() - before, out

        print("| task | documents | requests | difference | touchstone, s | transformers, s | ratio | smallest–largest |")
        print("|---|--:|--:|---|--:|--:|--:|--:|", flush=True)
        for task in wanted.tasks.split(","):
            _, out = ours(task, wanted.documents, "--log-samples")
            for name, samples in logged(out).items():
                rounds = []
                for _ in range(wanted.turns):
                    theirs = peer.compared(samples)
                    rounds.append((ours(task, wanted.documents)[0] - ours("winogrande", 1)[0], theirs["seconds"]))
                ratios = sorted(b / a for a, b in rounds)
                differs = (f"{theirs['completions_that_differ']} completions" if "completions_that_differ" in theirs else
                           f"{theirs['largest_difference']:.0e}, {theirs['greedy_flags_that_differ']} flags")
                a, b = map(statistics.median, zip(*rounds))
                print(f"| {name} | {len(samples)} | {theirs['requests']} | {differs} | {a:.2f} | {b:.2f} "
                      f"| {statistics.median(ratios):.1f} | {ratios[0]:.1f}–{ratios[-1]:.1f} |", flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model")
    parser.add_argument("--samples")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--limit", type=int, help="documents of each task")
    parser.add_argument("--tasks", default="")
    parser.add_argument("--special", action="store_true", help="let the tokenizer add its special tokens (convention h5)")
    parser.add_argument("--touchstone", help="the program, to time both in turns")
    parser.add_argument("--tokenizer", help="with --touchstone: the tokenizer.json of Pythia")
    parser.add_argument("--data", help="with --touchstone: folder with a folder for each task")
    parser.add_argument("--convention", default="h4")
    parser.add_argument("--documents", type=int, default=20)
    parser.add_argument("--turns", type=int, default=3)
    wanted = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    if wanted.touchstone:
        if not (wanted.tokenizer and wanted.data and wanted.tasks):
            parser.error("--touchstone needs --tokenizer, --data and --tasks")
        return turns(wanted)
    if not (wanted.model and wanted.samples):
        parser.error("--model and --samples are needed, or --touchstone")
    peer = Peer(wanted.model, wanted.batch, wanted.special)
    for name, samples in logged(wanted.samples).items():
        if not wanted.tasks or name in wanted.tasks.split(","):
            print(json.dumps(dict(task=name) | peer.compared(samples[: wanted.limit])), flush=True)


if __name__ == "__main__":
    main()

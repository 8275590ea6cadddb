"""Judging through a real server: MT-Bench answers, judged by a model that `transformers serve` hosts.

    pip install torch "transformers[serving]==5.24.0"
    python tests/judge_real/check.py target/release/touchstone

makes a tiny random Mistral with a chat template, serves it without the network, has the answers of tests/fixtures/mt_bench
judged by it (single scores with repetitions, and pairs in both orders), and checks that the server was really asked and that a
second run asks nothing. A random model writes no ratings, so the judgments have no scores: what is tested is the wire, not the
judge. Prints what was seen; ends with 1 where something is not as it should be.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures"
TEMPLATE = "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}{{ eos_token }}\n{% endfor %}{% if add_generation_prompt %}<|assistant|>\n{% endif %}"


def make_model(folder):
    import torch
    from transformers import AutoTokenizer, MistralConfig, MistralForCausalLM

    tokens = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    tokenizer = AutoTokenizer.from_pretrained(FIXTURES / "chat" / "llama", **tokens)
    tokenizer.chat_template = TEMPLATE
    torch.manual_seed(1)
    config = MistralConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=4096, bos_token_id=1, eos_token_id=tokenizer.eos_token_id, initializer_range=0.3,
    )
    MistralForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def wait_for(url, process):
    for _ in range(240):
        if process.poll() is not None:
            sys.exit(f"the server has ended with {process.returncode}")
        try:
            urllib.request.urlopen(url, timeout=2).read()
            return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.5)
    sys.exit("the server does not answer")


def free_port():
    import socket

    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        return place.getsockname()[1]


def main():
    program = Path(sys.argv[1] if len(sys.argv) > 1 else "target/release/touchstone").resolve()
    work = Path(tempfile.mkdtemp(prefix="judge-real-"))
    make_model(work / "judge")
    port = free_port()
    offline = os.environ | {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "NO_PROXY": "127.0.0.1"}
    serve = [sys.executable, "-m", "transformers.cli.transformers", "serve", str(work / "judge"), "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    with open(work / "server.log", "w") as log:
        server = subprocess.Popen(serve, env=offline, stdout=log, stderr=log)
    try:
        wait_for(f"http://127.0.0.1:{port}/health", server)
        check(program, work, f"http://127.0.0.1:{port}/v1", offline)
    finally:
        server.terminate()
        server.wait(timeout=30)


def check(program, work, base_url, environment):
    files = FIXTURES / "mt_bench"

    def judge(out, *more):
        words = ["eval", "mt-bench", "judge", "--questions", files / "question.jsonl", "--references", files / "reference.jsonl",
                 "--judge-prompts", files / "judge_prompts.jsonl", "--answers", files / "one.jsonl", "--base-url", base_url,
                 "--judge-model", work / "judge", "--judge-max-tokens", "24", "--concurrency", "2", "--cache", work / "cache",
                 "--out", work / out, *more]
        begun = time.time()
        run = subprocess.run([program, *map(str, words)], capture_output=True, text=True, env=environment)
        print(f"--- {out}: exit code {run.returncode}, {time.time() - begun:.1f} s\n{run.stdout}{run.stderr}", flush=True)
        if run.returncode != 0:
            sys.exit((work / "server.log").read_text()[-3000:])
        return run.stdout, [json.loads(line) for line in (work / out / "judgments.jsonl").read_text().splitlines()]

    told, rows = judge("single", "--repeats", "2")
    assert len(rows) == 8 and all(row["judgment"] for row in rows), "every answer has a judgment"
    assert "16 calls: 16 answered now" in told and "tokens now: 0 of" not in told, "the server has answered and counted"
    again, same = judge("single", "--repeats", "2")
    assert "16 calls: 0 answered now, 16 from the cache" in again and same == rows, "a second run asks nothing"
    told, rows = judge("pairs", "--baseline", files / "two.jsonl")
    assert len(rows) == 8 and "16 calls: 16 answered now" in told
    print(f"a judgment: {rows[0]['g1_judgment']!r}\nall is as it should be")


main()

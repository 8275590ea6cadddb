# Short names for plain commands. `just` is a convenience (`cargo install just --locked`): every recipe is the line below
# its name and can be typed without it. Words after a recipe's name are handed on: `just reproduce tldr --seeds 5`.

set positional-arguments := true

# List the recipes.
_default:
    @{{ just_executable() }} --list

# Run an experiment, or finish one that was interrupted, and write its report.
reproduce *arguments:
    cargo run --release -- reproduce "$@"

# Write an experiment's report again from stored results.
report *arguments:
    cargo run --release -- report "$@"

# The whole pipeline at a few steps, to see that it runs here.
smoke *arguments:
    cargo run --release -- reproduce tldr --profile smoke "$@"

# The embedded world's own controls: is it a fair testbed?
world-controls *arguments:
    cargo run --release -- reproduce world-controls "$@"

# The base checkpoints that come with touchstone: remade (minutes) and compared; `--update` replaces them.
base *arguments:
    cargo run --release -- base tldr "$@"

# Whether the smoke studies' means are those that are committed, within the tolerances that stand beside them.
snapshot-check *arguments:
    cargo run --release -- snapshot check tldr --file reports/tldr-smoke.json "$@"
    cargo run --release -- snapshot check ultrachat --file reports/ultrachat-smoke.json "$@"

# Takes the smoke study's means of now for the committed ones; tolerances cover what processors differ by.
snapshot-accept:
    cargo run --release -- snapshot accept tldr --file reports/tldr-smoke.json --tolerance gold=0.03 --tolerance gold_greedy=0.03 --tolerance gold_tuned=0.03 --tolerance tuned_temperature=0.01 --tolerance entropy=0.3 --tolerance win_rate=0.05 --tolerance tie_rate=0.05 --tolerance win_rate_strict=0.05 --tolerance demo_log_likelihood=0.3 --tolerance kl=0.3 --tolerance length=0.5 --tolerance eos_rate=0.03 --tolerance learned_reward=0.3 --tolerance preference_accuracy=0.04 --tolerance preference_accuracy_strict=0.04 --tolerance preference_ties=0.04 --tolerance preference_accuracy_per_token=0.04 --tolerance preference_accuracy_per_token_strict=0.04 --tolerance preference_ties_per_token=0.04 --tolerance on_policy_accuracy=0.06 --tolerance on_policy_accuracy_strict=0.06 --tolerance on_policy_ties=0.06 --tolerance demonstration_accuracy=0.04 --tolerance demonstration_accuracy_strict=0.04 --tolerance demonstration_ties=0.04 --tolerance identical_share=0.02 --tolerance synthetic_gold_agreement=0.04 --tolerance synthetic_gold_agreement_strict=0.04 --tolerance synthetic_gold_ties=0.04 --tolerance synthetic_human_agreement=0.03 --tolerance copy_accuracy=0.03

# The same for the second half, whose smoke study is smaller and its tolerances wider.
snapshot-accept-ultrachat:
    cargo run --release -- snapshot accept ultrachat --file reports/ultrachat-smoke.json --tolerance gold=0.05 --tolerance gold_greedy=0.05 --tolerance gold_tuned=0.05 --tolerance tuned_temperature=0.31 --tolerance entropy=0.5 --tolerance win_rate=0.06 --tolerance tie_rate=0.06 --tolerance win_rate_strict=0.06 --tolerance demo_log_likelihood=0.3 --tolerance kl=0.3 --tolerance length=0.7 --tolerance eos_rate=0.04 --tolerance learned_reward=0.4 --tolerance preference_accuracy=0.06 --tolerance preference_accuracy_strict=0.06 --tolerance preference_ties=0.05 --tolerance preference_accuracy_per_token=0.06 --tolerance preference_accuracy_per_token_strict=0.06 --tolerance preference_ties_per_token=0.05 --tolerance on_policy_accuracy=0.08 --tolerance on_policy_accuracy_strict=0.08 --tolerance on_policy_ties=0.08 --tolerance demonstration_accuracy=0.08 --tolerance demonstration_accuracy_strict=0.08 --tolerance demonstration_ties=0.05 --tolerance identical_share=0.04 --tolerance synthetic_gold_agreement=0.06 --tolerance synthetic_gold_agreement_strict=0.06 --tolerance synthetic_gold_ties=0.06 --tolerance synthetic_human_agreement=0.05 --tolerance copy_accuracy=0.04 --tolerance rewardbench=0.1 --tolerance rewardbench_chat=0.15 --tolerance rewardbench_chat_hard=0.15 --tolerance rewardbench_safety=0.15 --tolerance rewardbench_reasoning=0.15 --tolerance rewardbench_safety_rlhflow=0.15 --tolerance rewardbench_rlhflow=0.1 --tolerance rewardbench_bf16=0.1 --tolerance rewardbench_bf16_rlhflow=0.1 --tolerance rewardbench_bf16_ties=0.03 --tolerance rewardbench_per_token=0.1 --tolerance rewardbench_reference_free=0.1 --tolerance rewardbench_reference_free_per_token=0.1 --tolerance leaderboard=0.06 --tolerance leaderboard_arc=0.2 --tolerance leaderboard_hellaswag=0.2 --tolerance leaderboard_mmlu=0.2 --tolerance leaderboard_truthfulqa=0.06 --tolerance leaderboard_winogrande=0.2 --tolerance leaderboard_gsm8k=0.2 --tolerance mt_bench=0.7 --tolerance mt_bench_first=0.8 --tolerance mt_bench_second=0.9

# What this machine offers: devices, threads, memory, what is missing and how to get it.
doctor *arguments:
    cargo run --release -- doctor "$@"

# How often an experiment gets any wrong verdict, with runs that are normal and runs that collapse: the table of docs/statistics.md.
verdict-errors:
    cargo test --release --lib -- --ignored --nocapture the_error_of_runs_that_collapse

# All tests, in the profile that people run.
test *arguments:
    cargo test --release "$@"

# Every parser of foreign bytes on mutated files, for so many seconds each; TOUCHSTONE_FUZZ_SEED chooses other ones.
fuzz seconds="3600":
    TOUCHSTONE_FUZZ_SECONDS={{ seconds }} cargo test --release --test fuzz -- --nocapture

# A study whose store and processes are broken at random, a thousand times (an hour or more): `TOUCHSTONE_FAULTS=50 just faults` for fewer,
# TOUCHSTONE_FAULTS_SEED for others. A failure names its seed.
[doc("A study broken at random, a thousand times: its numbers must be those of an undisturbed run.")]
faults:
    TOUCHSTONE_FAULTS=${TOUCHSTONE_FAULTS:-1000} cargo test --release --test faults -- --nocapture whatever_breaks

# Two runs on one store through two mounts whose locks and caches are local, killed at random; needs bindfs and /dev/fuse.
faults-two-mounts:
    scripts/faults-two-mounts.sh

# Planning and watching a study of a hundred thousand stages: seconds and MiB of each command (minutes, a gigabyte of small files).
[doc("Planning and watching a hundred thousand stages: seconds and MiB of each command.")]
many-stages:
    cargo test --release --test many_stages -- --ignored --nocapture

# Studies on a real Slurm of four nodes, started here from Debian's packages, with one fault after the other (SCENARIO names chosen ones).
[doc("Studies on a real Slurm of four nodes, started here, with one fault after the other.")]
test-slurm *scenarios:
    cargo build --release
    scripts/test-slurm.sh "$@"

# Formatting and lints, as in CI.
lint:
    cargo fmt --check
    cargo clippy --release --all-targets -- -D warnings

# Our speed, on one thread.
bench *arguments:
    RAYON_NUM_THREADS=1 cargo bench --benches "$@"

# Our speed beside PyTorch's, in turns, on one thread. PYTHON names a Python that has PyTorch:
#   python3 -m venv /tmp/peer && /tmp/peer/bin/pip install torch==2.9.0 && PYTHON=/tmp/peer/bin/python just bench-peer
# (x86-64 Linux takes the CUDA build, 7 GB; add `--index-url https://download.pytorch.org/whl/cpu` for the small CPU one).
[doc("Our speed beside PyTorch's, in turns, on one thread (PYTHON names a Python that has PyTorch).")]
bench-peer *arguments:
    python3 benches/peer/compare.py "$@"

# One seed of the main study beside Hugging Face's TRL, end to end, in turns. PYTHON names a Python that has both:
#   python3 -m venv /tmp/trl && /tmp/trl/bin/pip install torch==2.9.0 transformers==4.57.1 trl==0.24.0
# Later versions of TRL have PPOTrainer elsewhere, and version 1 has none. `--profile smoke --turns 1` tries it in a minute.
[doc("One seed of the main study beside TRL, end to end, in turns (PYTHON names a Python that has TRL).")]
bench-study *arguments:
    cargo build --release
    python3 benches/peer/study.py "$@"

# SFT, a reward and PPO on real posts, with a small model, on both processor backends: `just bench-real POSTS TOKENIZER`, after
# `just setup-libtorch`. The lists at the end have every stage's time, tokens per second and memory.
[doc("SFT, a reward and PPO on real posts on both processor backends: time, tokens per second, memory.")]
bench-real posts tokenizer:
    #!/usr/bin/env bash
    set -euo pipefail
    source .libtorch/env.sh
    export RAYON_NUM_THREADS=1 OMP_NUM_THREADS=1
    measure() {
        local device=$1; shift
        local study=(benches/real/real.toml --data "{{ posts }}" --tokenizer "{{ tokenizer }}" --device "$device" --jobs 1)
        local store=runs/bench-real-$device
        cargo run --release "$@" -- reproduce "${study[@]}" --store "$store" --out "reports/.bench-real-$device"
        cargo run --release "$@" -- runs list --store "$store"
    }
    measure flex
    measure libtorch --features tch

# Training step by step beside plain PyTorch, from one checkpoint on the same rows. PYTHON as above, with numpy and
# safetensors; `--peers` adds TRL's trainers (pip install transformers trl).
[doc("Training step by step beside plain PyTorch and, with --peers, TRL (PYTHON as for bench-peer).")]
parity *arguments:
    ${PYTHON:-python3} tests/parity/compare.py "$@"

# LibTorch as a second backend, from PyPI into ./.libtorch, then whether it computes what it should.
setup-libtorch:
    scripts/setup-libtorch.sh
    . .libtorch/env.sh && cargo run --release --features tch -- conformance --device libtorch

# What LibTorch computes: its kernels against compositions, the conformance suite, parity with PyTorch. After `just setup-libtorch`.
test-libtorch:
    . .libtorch/env.sh && cargo test --release --features tch --lib -- device::fused
    . .libtorch/env.sh && TOUCHSTONE_TEST_DEVICE=libtorch cargo test --release --features tch --test conformance --test parity

# Whether a device computes what it should, as numbers: `just conformance --device libtorch`.
conformance *arguments:
    cargo run --release -- conformance "$@"

# On a CUDA machine: conformance, then speed at Pythia-1B's shape beside transformers. PYTHON as above, with transformers;
# `--dry-run` tries it on this machine's processor at a tiny shape.
[doc("On a CUDA machine: conformance, then speed at Pythia-1B's shape beside transformers; --dry-run here.")]
bench-gpu *arguments:
    python3 benches/peer/gpu.py "$@"

# Whether transformers computes the same from the same model folders: random models in both directions, and trained ones.
# PYTHON names a Python that has torch and transformers; the versions are in the script.
[doc("Whether transformers computes the same from the same model folders, in both directions.")]
transformers *arguments:
    cargo build --release
    "${PYTHON:-python3}" tests/transformers/check.py "$@"

# Whether judging works through a real server: a tiny random model behind `transformers serve`, without the network.
# PYTHON names a Python that has torch and transformers[serving]; the versions are in the script.
[doc("Judging through a real server: a tiny random model behind `transformers serve`.")]
judge-real *arguments:
    cargo build --release
    "${PYTHON:-python3}" tests/judge_real/check.py "${CARGO_TARGET_DIR:-target}/release/touchstone" "$@"

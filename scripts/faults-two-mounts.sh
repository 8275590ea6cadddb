#!/usr/bin/env bash
# Two runs at once on one store, each through a mount with locks and caches of its own, as on two nodes of a cluster; runs and
# stages are killed at random. The bytes must be those of one undisturbed run. Needs Linux with /dev/fuse, and bindfs.
#   TOUCHSTONE_FAULTS_TWO_MOUNTS  how often (30)
#   TOUCHSTONE_FAULTS_SEED        the first seed (1)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
[[ -c /dev/fuse ]] || { echo "there is no /dev/fuse here" >&2; exit 1; }
command -v bindfs >/dev/null || { echo "bindfs is missing: apt-get install bindfs fuse3" >&2; exit 1; }
export TOUCHSTONE_FAULTS_TWO_MOUNTS=${TOUCHSTONE_FAULTS_TWO_MOUNTS:-30}
cargo test --release --test faults -- --nocapture two_runs_on_two_mounts

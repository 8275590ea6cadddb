#!/usr/bin/env bash
# Studies on a real Slurm of four nodes, which this script starts on this machine from distribution packages: undisturbed, then
# with one fault after the other. The bytes of every artifact and the report's numbers must be those of a local run, no job may
# be doubled, and nothing may be left behind.
#   scripts/test-slurm.sh [SCENARIO]...      all of them without names; `list` prints the names
#   TOUCHSTONE            the program [target/release/touchstone]
#   TOUCHSTONE_KILLS      how often the scenario `random` is tried, with other kills each time (1)
# Needs slurmctld, slurmd, slurm-client and munge. Says so and ends well where they are missing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PATH=$PATH:/usr/sbin:/sbin

scenarios=(plain twice foreground kill stop cancel_one cancel_all preempt notice requeue node controller forgotten memory fails full refused random)
[[ ${1:-} != list ]] || { printf '%s\n' "${scenarios[@]}"; exit 0; }
[[ $# -eq 0 ]] || scenarios=("$@")
for program in slurmctld slurmd sbatch munged; do
    command -v $program >/dev/null || {
        echo "test-slurm: skipped, since $program is missing: apt-get install --no-install-recommends slurmctld slurmd slurm-client munge"
        exit 0
    }
done
touchstone=$(realpath "${TOUCHSTONE:-${CARGO_TARGET_DIR:-target}/release/touchstone}")
[[ -x $touchstone ]] || { echo "test-slurm: $touchstone is missing: cargo build --release" >&2; exit 1; }

work=$(mktemp -d /tmp/slurm-XXXXXX)
slurm=$work/slurm
finished='' mounted=''
clean_up() {
    [[ -z $mounted ]] || umount -l "$mounted" || true
    jobs -p | xargs -r kill -KILL 2>/dev/null || true
    scripts/stop-slurm.sh "$slurm" >/dev/null || true
    if [[ -n $finished ]]; then rm -rf "$work"; else echo "test-slurm: everything is kept in $work" >&2; fi
}
trap clean_up EXIT
fail() {
    printf 'test-slurm: %s: %s\n' "$scenario" "$*" >&2
    tail -n 15 "$work/$scenario.log" >&2 || true
    exit 1
}

scenario=start
scripts/start-slurm.sh "$slurm" --set MinJobAge=60
source "$slurm/env.sh"
# Short times, so that a fault costs seconds. The place is on this machine's disk, and all nodes are this machine.
export TOUCHSTONE_POLL_SECONDS=2 TOUCHSTONE_SILENCE_SECONDS=20 XDG_CONFIG_HOME=$work/none
unset TOUCHSTONE_STORE TOUCHSTONE_JOBS TOUCHSTONE_DEVICE TOUCHSTONE_MEMORY TOUCHSTONE_REPORTS
short=(reproduce tldr --profile smoke --methods "sft,irl,spin" --seeds 1)
# Never runs; its longest stage takes seconds by the plan's estimate.
long=(reproduce tldr --methods "sft,irl" --seeds 1)
cluster=(--executor slurm --shared-store --workers 4 --cpus 1 --time 20)

# start NAME WORDS...: a study on the cluster in the background; its store, reports and output are named after the scenario.
start() {
    "$touchstone" "$@" "${cluster[@]}" --store "$work/$scenario" --out "$work/$scenario.reports" \
        -- "${flags[@]}" >>"$work/$scenario.log" 2>&1 &
    foreground=$!
}
# ends CODE: waits for the study's command.
ends() {
    local code=0
    wait "$foreground" || code=$?
    [[ $code == "$1" ]] || fail "the command ended with $code instead of $1"
}
stages() { find "$work/$scenario/artifacts" -name manifest.json 2>/dev/null | wc -l; }
# after N: waits until N stages are finished.
after() { within 120 "$1 finished stages" eval "[[ \$(stages) -ge $1 ]]"; }
# within SECONDS WHAT COMMAND...
within() {
    local until=$((SECONDS + $1)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        [[ $SECONDS -lt $until ]] || fail "$what did not happen"
        sleep 0.1
    done
}
workers() { pgrep -f "^$touchstone work .*--store $work/$scenario " || true; }
# A worker that computes something, and all its processes.
busy() {
    local worker children
    for worker in $(workers); do
        children=$(pgrep -P "$worker" || true)
        [[ -z $children ]] || { echo "$worker" $children; return; }
    done
    return 1
}
busy_now() { within 30 "a worker at work" busy; busy; }
signal() { local name=$1; shift; kill -"$name" "$@" 2>/dev/null || true; }
tasks() { squeue --me -h -r -n touchstone-tldr -o '%F_%K %T'; }
number() { tr '\0' '\n' <"/proc/$1/environ" | sed -n 's/^SLURM_JOB_ID=//p'; }
nothing_runs() { [[ -z $(squeue --me -h) && -z $(workers) ]]; }
# Records of ended jobs, by Slurm's own hand, since the scenario began.
ended() { tail -n "+$((jobs_before + 1))" "$slurm/log/jobs.txt" | grep 'Name=touchstone-tldr'; }
is_state() { ended | grep -oE 'JobState=[A-Z_]+' | sort | uniq -c | tr -s ' \n' ' '; }
# same REFERENCE: bytes and numbers are those of the local run, and nothing is left.
same() {
    within 60 "the end of all workers" nothing_runs
    diff -rq --exclude=manifest.json "$work/$1/artifacts" "$work/$scenario/artifacts" || fail "other bytes than those of the local run"
    cmp "$work/$1.reports/tldr-smoke/metrics.csv" "$work/$scenario.reports/tldr-smoke/metrics.csv" || fail "other numbers"
    "$touchstone" runs verify --store "$work/$scenario" >"$work/$scenario.verify" || fail "$(cat "$work/$scenario.verify")"
    local left
    left=$(find "$work/$scenario"/{claims,tmp,scratch} -mindepth 1 | head -3)
    [[ -z $left ]] || fail "left behind: $left"
}
said() { grep -qE "$1" "$work/$scenario.log" || fail "nothing says: $1"; }

plain() {
    local began=$EPOCHREALTIME took
    start reproduce tldr --profile smoke
    ends 0
    took=$(awk "BEGIN {print $EPOCHREALTIME - $began}")
    same local
    [[ $(ended | wc -l) == 4 && $(is_state) == ' 4 JobState=COMPLETED ' ]] || fail "the scheduler knows other jobs: $(ended)"
    awk "BEGIN {printf \"   the smoke study: %.1f s here, %.1f s locally, ratio %.2f\n\", $took, $local_took, $took / $local_took}"
}
twice() {
    start "${short[@]}"
    local first=$foreground
    start "${short[@]}"
    ends 0
    foreground=$first
    ends 0
    same short
    [[ $(ended | wc -l) -le 4 ]] || fail "submitted twice: $(ended)"
    said 'are there already'
}
foreground() {
    start "${short[@]}"
    after 3
    signal KILL "$foreground"
    { ends 137; } 2>/dev/null
    start "${short[@]}"
    ends 0
    same short
    [[ $(ended | wc -l) -le 4 ]] || fail "submitted twice: $(ended)"
}
kill_() {
    start "${short[@]}"
    after 5
    local victims
    victims=$(busy_now)
    signal KILL $victims
    ends 0
    same short
}
stop() {
    start "${short[@]}"
    after 5
    local stopped
    stopped=$(busy_now)
    signal STOP $stopped
    sleep 8
    signal CONT $stopped
    ends 0
    same short
}
cancel_one() {
    start "${short[@]}"
    after 4
    local worker
    worker=$(busy_now)
    scancel "$(number "${worker%% *}")"
    ends 0
    same short
    [[ $(ended | wc -l) == 4 ]] || fail "a worker that was cancelled came back: $(ended)"
}
cancel_all() {
    start "${short[@]}"
    after 5
    scancel --name=touchstone-tldr
    ends 130
    said 'all workers were cancelled'
    start "${short[@]}"
    after 8
    cancel
    ends 130
    start "${short[@]}"
    ends 0
    same short
}
preempt() {
    flags=(--partition=low)
    start "${short[@]}"
    after 4
    sbatch -p high --exclusive --nodes=4 -o /dev/null --wrap 'sleep 3' >/dev/null
    ends 0
    same short
}
notice() {
    start "${short[@]}"
    after 4
    local worker
    worker=$(busy_now)
    scancel --batch --signal=USR1 "$(number "${worker%% *}")"
    ends 0
    grep -q 'will start again' "$work/$scenario"/workers/*.out || fail "no worker asked for its return"
    same short
}
requeue() {
    start "${short[@]}"
    after 4
    local worker
    worker=$(busy_now)
    scontrol requeue "$(number "${worker%% *}")"
    ends 0
    same short
}
node() {
    start "${short[@]}"
    after 4
    local name
    name=$(squeue --me -h -t RUNNING -o %N | head -1)
    scontrol update nodename="$name" state=down reason=test
    ends 0
    same short
    # It may have come back by itself.
    scontrol update nodename="$name" state=resume 2>/dev/null || true
}
controller() {
    start "${short[@]}"
    after 4
    signal KILL "$(cat "$slurm/run/slurmctld.pid")"
    sleep 5
    slurmctld -f "$SLURM_CONF"
    ends 0
    # A controller that comes back may start jobs again, or hold them, that have ended meanwhile, even those of earlier scenarios;
    # nobody watches them any more.
    within 60 "the end of all workers" eval 'cancel; scancel --name=touchstone-tldr; nothing_runs'
    same short
}
cancel() { "$touchstone" "${short[@]}" "${cluster[@]}" --cancel --store "$work/$scenario" >>"$work/$scenario.log"; }
forgotten() {
    start "${short[@]}"
    within 30 submission grep -q 'submitted job' "$work/$scenario.log"
    signal KILL "$(cat "$slurm/run/slurmctld.pid")"
    sleep 2
    slurmctld -f "$SLURM_CONF"
    ends 0
    same short
}
memory() {
    # Workers get less than they take with some stages.
    flags=(--mem=92M)
    start "${short[@]}"
    ends 0
    said 'ran out of memory and was computed with more'
    same short
}
fails() {
    start "${short[@]}" --set ppo.optimiser.learning_rate=1e30
    ends 7
    said 'failed \(divergence\): irl'
    [[ $(grep -h 'failed here: irl.*ppo' "$work/$scenario"/workers/*.out | wc -l) == 2 ]] || fail "a failing stage was not tried twice"
    within 60 "the end of all workers" nothing_runs
}
full() {
    mkdir -p "$work/$scenario"
    mount -t tmpfs -o size=40M tmpfs "$work/$scenario" 2>/dev/null || { echo "   skipped: no file system can be mounted here"; return; }
    mounted=$work/$scenario
    start "${short[@]}"
    after 4
    dd if=/dev/zero of="$mounted/filler" bs=64k status=none 2>/dev/null || true
    ends 15
    said 'the disk is full'
    within 60 "the end of all workers" nothing_runs
    rm "$mounted/filler"
    start "${short[@]}"
    ends 0
    same short
    umount "$mounted"
    mounted=''
}
# refusal TEXT STORE WORDS...: nothing is submitted, and the message says why.
refusal() {
    local text=$1 store=$2 code=0
    shift 2
    "$touchstone" "${long[@]}" --executor slurm --store "$store" --out "$work/$scenario.reports" "$@" >"$work/$scenario.log" 2>&1 || code=$?
    [[ $code -gt 1 && -z $(squeue --me -h) ]] || fail "ended with $code, jobs: $(squeue --me -h)"
    tr -s ' \n│' ' ' <"$work/$scenario.log" | grep -qE "$text" || fail "the message does not say: $text"
}
refused() {
    local store=$work/$scenario
    refusal 'Invalid partition' "$store" --shared-store -- --partition=none
    refusal 'which other nodes do not see' /dev/shm/none
    refusal 'time limit of a worker is 00:00:01' "$store" --shared-store --time 0:01
    refusal 'no node has more than 2000' "$store" --shared-store --memory 3GiB --cpus 1
    refusal 'no node has more than 2' "$store" --shared-store --cpus 9
    refusal 'no node has more than 2' "$store" --shared-store --gpus 3
    mkdir -p "$work/empty"
    local code=0
    PATH=$work/empty "$touchstone" "${long[@]}" --executor slurm --shared-store --store "$store" >"$work/$scenario.log" 2>&1 || code=$?
    [[ $code -gt 1 && $(<"$work/$scenario.log") == *'cannot run `squeue`'* ]] || fail "without Slurm's commands the message is another one"
}
random() {
    local times=${TOUCHSTONE_KILLS:-1}
    while [[ $((times--)) -gt 0 ]]; do
        rm -rf "${work:?}/$scenario" "$work/$scenario.reports"
        start "${short[@]}"
        after 2
        while kill -0 "$foreground" 2>/dev/null; do
            sleep "$((RANDOM % 4)).$((RANDOM % 10))"
            local victims
            victims=$(busy) || continue
            case $((RANDOM % 3)) in
                0) signal KILL $victims ;;
                1) signal KILL "${victims##* }" ;;
                2) scontrol requeue "$(number "${victims%% *}")" 2>/dev/null || true ;;
            esac
        done
        ends 0
        same short
    done
}

local_run() {
    local name=$1
    shift
    # As many stages at once as the workers have.
    "$touchstone" "$@" --jobs 4 --store "$work/$name" --out "$work/$name.reports" >"$work/$name.log" 2>&1
}
echo "== local runs"
scenario=local
began=$EPOCHREALTIME
local_run local reproduce tldr --profile smoke || fail "the local run failed"
local_took=$(awk "BEGIN {print $EPOCHREALTIME - $began}")
scenario=short
local_run short "${short[@]}" || fail "the local run failed"
for scenario in "${scenarios[@]}"; do
    echo "== $scenario"
    began=$SECONDS flags=() jobs_before=0
    [[ ! -e $slurm/log/jobs.txt ]] || jobs_before=$(wc -l <"$slurm/log/jobs.txt")
    within 60 "idle nodes" eval '[[ $(sinfo -h -N -p main -o %T | grep -c idle) == 4 ]]'
    function=$scenario
    [[ $scenario != kill ]] || function=kill_
    $function
    within 60 "the end of all jobs" nothing_runs
    echo "   as the local run, after $((SECONDS - began)) s"
done
finished=yes
echo "test-slurm: ${#scenarios[@]} scenarios passed in $SECONDS s"

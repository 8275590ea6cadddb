#!/usr/bin/env bash
# Puts LibTorch 2.11.0 into ./.libtorch, for `cargo build --features tch`.
#
#   scripts/setup-libtorch.sh [--without-cuda] [FOLDER]
#
# PyPI is the only source. Its Linux wheel of torch is the CUDA build, but libtorch_cpu.so in it stands alone except for
# two small NVIDIA libraries, so this takes the headers and three libraries from the wheel, adds those two, and replaces
# libtorch.so (an empty library that names libtorch_cuda.so) by one that names libtorch_cpu.so.
#
# torch-sys links CUDA where it finds libtorch_cuda.so. A stand-in of 15 KB with the two functions that burn-tch names is
# put there, so that the program asks for that library by its name: on a machine with a GPU, LD_LIBRARY_PATH leads it to
# the real one of the same version. --without-cuda leaves the stand-in out.
#
# Needs Linux x86-64, python3 with pip, a C and a C++ compiler; 1.1 GB while it runs, 0.5 GB after. Downloads 0.54 GB.
# Running it again checks what is there and does only what is missing. Complete wheels outlive an interruption.
set -euo pipefail

version=2.11.0
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$here")

say() { printf 'setup-libtorch: %s\n' "$*"; }
fail() {
    printf 'setup-libtorch: %s\n' "$1" >&2
    if [ $# -gt 1 ]; then printf '  hint: %s\n' "$2" >&2; fi
    exit 1
}

check_machine() {
    local own_copy="set LIBTORCH to a LibTorch $version of your own, with include/ and lib/ in it, and build with --features tch"
    [ "$(uname -sm)" = "Linux x86_64" ] || fail "the recipe is for Linux on x86-64, this is $(uname -sm)" "$own_copy"
    command -v python3 >/dev/null || fail "python3 is missing" "install Python 3.8 or later; it is used only here"
    python3 -m pip --version >/dev/null 2>&1 || fail "python3 has no pip" "apt install python3-pip, or python3 -m ensurepip"
    command -v cc >/dev/null || fail "no C compiler (cc)" "apt install build-essential"
    command -v c++ >/dev/null || fail "no C++ compiler (c++), which torch-sys builds with" "apt install build-essential"
    case $dest in
    *[[:space:]]*) fail "the path has a space, with which no build was tried: $dest" "give another folder as the first argument" ;;
    esac
}

# Fails, naming what is wrong, unless $1 is a whole LibTorch of the right version whose libraries all resolve.
verify() {
    local dir=$1 name unresolved
    [ "$(cat "$dir/build-version" 2>/dev/null)" = "$build" ] || { echo "no build-version $build"; return 1; }
    [ -f "$dir/include/torch/csrc/api/include/torch/torch.h" ] || { echo "no headers"; return 1; }
    for name in libtorch.so libtorch_cpu.so libc10.so libgomp.so.1 libcupti.so.13 libcudart.so.13; do
        [ -f "$dir/lib/$name" ] || { echo "no lib/$name"; return 1; }
    done
    [ "$cuda" = no ] || [ -f "$dir/lib/libtorch_cuda.so" ] || { echo "no lib/libtorch_cuda.so"; return 1; }
    unresolved=$(ldd "$dir/lib/libtorch.so" "$dir/lib/libtorch_cpu.so" 2>&1 | grep -E 'not found|error' || true)
    [ -z "$unresolved" ] || { echo "$unresolved"; return 1; }
}

# Wheels into $1. pip checks the hashes and keeps a wheel that is already there.
download() {
    say "downloading the wheels (0.54 GB)"
    TMPDIR=$1 python3 -m pip download --disable-pip-version-check --no-cache-dir --no-deps --only-binary=:all: \
        --python-version 3.12 --implementation cp --abi cp312 --abi none \
        --platform manylinux_2_28_x86_64 --platform manylinux_2_25_x86_64 --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 \
        --require-hashes --dest "$1" --requirement "$here/libtorch-wheels.txt" ||
        fail "pip could not download the wheels" "check that PyPI is reachable and pip is 21 or later, then run this again; whole wheels are kept"
}

# Headers and the libraries that the CPU build needs, from the wheels in $1 to $2.
extract() {
    say "extracting headers and libraries"
    python3 - "$1" "$2" <<'PYTHON'
import pathlib, shutil, sys, zipfile

wheels, dest = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
libraries = {"libc10.so", "libtorch_cpu.so", "libgomp.so.1", "libcupti.so.13", "libcudart.so.13"}
for wheel in sorted(wheels.glob("*.whl")):
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            path = pathlib.PurePosixPath(name)
            if name.startswith("torch/include/") and not name.endswith("/"):
                target = dest / path.relative_to("torch")
            elif path.parent.name == "lib" and path.name in libraries:
                target = dest / "lib" / path.name
                libraries.discard(path.name)
            else:
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(name) as source, open(target, "wb") as out:
                shutil.copyfileobj(source, out, 1 << 20)
if libraries:
    sys.exit(f"setup-libtorch: not in the wheels: {', '.join(sorted(libraries))}")
PYTHON
}

# An empty libtorch.so that loads libtorch_cpu.so and libc10.so from beside itself.
link_libtorch() {
    echo | cc -shared -x c - -o "$1/libtorch.so" -Wl,-soname,libtorch.so -Wl,--no-as-needed \
        -L"$1" -ltorch_cpu -lc10 -Wl,-rpath,'$ORIGIN' -Wl,--allow-shlib-undefined
}

# The stand-in for libtorch_cuda.so. Without the real library nothing is registered for GPUs, and neither function is
# called.
link_cuda() {
    c++ -shared -fPIC -x c++ - -o "$1/libtorch_cuda.so" -Wl,-soname,libtorch_cuda.so <<'CUDA'
struct cublasContext;
namespace at { namespace cuda {
cublasContext *getCurrentCUDABlasHandle() { return nullptr; }
int warp_size() { return 32; }
} }
CUDA
}

# torch-sys and build.rs read LIBTORCH; torch-sys was made for another version of LibTorch, of which this one differs in
# nothing that it uses. Passive waiting keeps OpenMP threads of processes that share cores from spinning against each other.
write_environment() {
    cat >"$dest/env.sh" <<ENVIRONMENT
# Environment for builds with LibTorch. Use: source $dest/env.sh
export LIBTORCH="$dest"
export LIBTORCH_BYPASS_VERSION_CHECK=1
export OMP_WAIT_POLICY=passive
ENVIRONMENT
}

cuda=yes
if [ "${1:-}" = --without-cuda ]; then
    cuda=no
    shift
fi
case ${1:-} in
-*) fail "there is no option $1" "--without-cuda, or a folder" ;;
esac
build=$version+cpu
if [ "$cuda" = yes ]; then build=$version+cu130; fi
dest=${1:-$root/.libtorch}
mkdir -p "$(dirname "$dest")"
dest=$(cd "$(dirname "$dest")" && pwd)/$(basename "$dest")
check_machine

if problem=$(verify "$dest"); then
    say "LibTorch $version is already in $dest"
else
    # Never delete a folder that this script did not make.
    if [ -d "$dest" ] && [ -n "$(ls -A "$dest")" ] && [ ! -f "$dest/env.sh" ]; then
        fail "$dest has other files in it" "give an empty or new folder"
    fi
    if [ -d "$dest" ]; then say "replacing $dest ($problem)"; fi
    stage=$dest.partial
    rm -rf "$stage/libtorch"
    mkdir -p "$stage/wheels" "$stage/libtorch"
    download "$stage/wheels"
    extract "$stage/wheels" "$stage/libtorch"
    link_libtorch "$stage/libtorch/lib"
    if [ "$cuda" = yes ]; then link_cuda "$stage/libtorch/lib"; fi
    echo "$build" >"$stage/libtorch/build-version"
    problem=$(verify "$stage/libtorch") || fail "the result is not usable: $problem" "rm -r $stage and run this again"
    rm -rf "$dest"
    mv "$stage/libtorch" "$dest"
    rm -rf "$stage"
    say "LibTorch $version is in $dest ($(du -sh "$dest" | cut -f1))"
fi
write_environment

cat <<NEXT

For this shell:
  source $dest/env.sh
then
  cargo run --release --features tch -- doctor --device libtorch
NEXT

#!/usr/bin/env bash
# What needs an NVIDIA GPU, in parts of less than eight minutes: docs/hardware/run.sh [OUTPUT FOLDER] [PART...]
# Parts: proof first speed compare sanitize (all of them if none is named); each leaves one archive, OUTPUT/PART.tar.gz,
# written anew after each step, so that what is stopped keeps what it had. Raw output only; a step that fails or runs
# out of time is recorded and the next one runs. Needs Python ($PYTHON, or python3) with the package, pytest and its
# plugins, ONNX Runtime and cuda-python and/or pycuda; no OpenVINO, and for `proof` no TensorRT.
set -uo pipefail
root=$(realpath "$(dirname "${BASH_SOURCE[0]}")/../..")
out=$(realpath -m "${1:-hardware-out}")
shift || true
parts=("${@:-all}")
[ "${parts[*]}" = all ] && parts=(proof first speed compare sanitize)
for part in "${parts[@]}"; do
    case $part in proof | first | speed | compare | sanitize) ;; *)
        echo "unknown part '$part', expected proof, first, speed, compare or sanitize" >&2
        exit 2
    esac
done
python=$(command -v "${PYTHON:-python3}") || { echo "nothing to run: there is no ${PYTHON:-python3}" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1  # elsewhere `-m` would import the sources instead of what is installed
problem=$("$python" - 2>&1 << 'CHECK'
from importlib.util import find_spec
needed = ["esccs_edge", "numpy", "onnx", "onnxruntime", "torch", "pytest", "pytest_timeout", "pytest_benchmark"]
if missing := [name for name in needed if find_spec(name) is None]:
    raise SystemExit(f"this Python lacks {', '.join(missing)}")
from esccs_edge.cuda.probe import probe_driver
raise SystemExit(probe_driver().problem or 0)
CHECK
) || { echo "nothing to run: $problem" >&2; exit 1; }
mkdir -p "$out"
export PYTHONPATH=$root/tests:${PYTHONPATH:-} PYTHONUNBUFFERED=1
answers=$root/docs/hardware/first_answer.py
kernel_tests=("$root/tests/cuda/test_30_owners.py" "$root/tests/backends/trt/test_30_pixel_kernels.py")
lane_tests=("$root/tests/backends/trt/test_30_backend.py" "$root/tests/pixels/test_20_device_pixels.py"
    "$root/tests/pixels/test_20_dlpack.py")
failed=0

step() { # step NAME SECONDS COMMAND...
    local name=$1 seconds=$2 code
    shift 2
    echo "== $name"
    (echo "\$ $*"; timeout --kill-after 10 "$seconds" "$@") > "$folder/$name.txt" 2>&1
    code=$?
    [ "$code" = 124 ] && echo "stopped after $seconds s" >> "$folder/$name.txt"
    echo "$name: exit $code" | tee -a "$folder/steps.txt"
    tail -n 3 "$folder/$name.txt" | cut -c 1-1000
    [ "$code" = 0 ] || failed=1
    tar -C "$work" -czf "$out/$part.tar.gz" "$part"
    return "$code"
}

tests() { # tests NAME SECONDS PYTEST-ARGUMENTS...
    step "$1" "$2" "$python" -m pytest -m gpu -W default -p no:cacheprovider --timeout 400 "${@:3}"
}

bench() { # bench NAME SECONDS PYTEST-EXPRESSION
    tests "$1" "$2" "$root/tests/benchmarks/test_gpu_speed.py" -k "$3" \
        --benchmark-enable "--benchmark-json=$folder/$1.json"
}

# Sets ESCCS_GPU_ENGINE, unless it is set, to the first engine that runs here with the right answers.
engine() {
    [ -n "${ESCCS_GPU_ENGINE:-}" ] && return
    for name in tensorrt rtx stand-in; do
        step "engine-$name" 45 "$python" "$answers" $name fp16 && export ESCCS_GPU_ENGINE=$name && return
    done
    return 1
}

# Copies, kernels, capture, replay, both bindings, and memory shared as on a Jetson: right, whatever TensorRT does?
proof() {
    step machine 40 bash -c 'date -u; git -C "$1" rev-parse HEAD; uname -a; nvidia-smi || cat /etc/nv_tegra_release
        "$0" -m pip list 2>/dev/null | grep -i -E "tensorrt|cuda|torch|numpy|onnx|esccs"; "$0" -m esccs_edge doctor; true' \
        "$python" "$root"
    for provider in cuda-python pycuda; do
        export ESCCS_CUDA=$provider ESCCS_GPU_ENGINE=stand-in
        step "answers-$provider" 40 "$python" "$answers" stand-in fp32
        step "mapped-$provider" 40 "$python" "$answers" stand-in fp32 --mapped
        # Tests of a binding that is absent are skipped and seem to pass: the two steps before tell.
        tests "tests-$provider" 80 "${kernel_tests[@]}" "${lane_tests[@]}"
    done
    unset ESCCS_CUDA ESCCS_GPU_ENGINE
    for precision in fp16 int8; do
        step "answers-$precision" 40 "$python" "$answers" stand-in $precision
    done
}

# Which TensorRT runs here, in which precision, with the right answers? A crash takes one precision only.
first() {
    engine
    for precision in fp32 int8; do
        step "tensorrt-$precision" 40 "$python" "$answers" tensorrt $precision
        step "rtx-$precision" 40 "$python" "$answers" rtx $precision
    done
    step rtx-fp16 40 "$python" "$answers" rtx fp16
    step mapped 40 "$python" "$answers" "$ESCCS_GPU_ENGINE" fp16 --mapped
    tests tests 60 "${lane_tests[@]}"
    step layers 40 "$python" -m esccs_edge inspect default --layers --time
}

# How fast, against the ceilings of this machine?
speed() {
    engine
    bench latency 140 "latency or beside or link or bandwidth or branches or lanes_overlap"
    bench throughput 150 "throughput"
}

# Against torch on the same work, under load, and which precision this device should run.
compare() {
    engine
    bench torch 190 "torch"
    bench sustained 90 "sustained"
    step choose 60 "$python" -m esccs_edge build default --choose --out "$folder/chosen"
}

# The kernels under each tool; torch's and TensorRT's own are not ours to judge.
sanitize() {
    if ! command -v compute-sanitizer > /dev/null; then
        echo "compute-sanitizer is not on the PATH: memory and races were not checked" | tee -a "$folder/steps.txt"
        failed=1
        return
    fi
    for tool in memcheck racecheck initcheck synccheck; do
        step $tool 110 compute-sanitizer --tool $tool --error-exitcode 9 --target-processes all \
            "$python" -m pytest -m gpu -W default -p no:cacheprovider --timeout 400 "${kernel_tests[@]}"
    done
}

for part in "${parts[@]}"; do
    folder=$work/$part
    mkdir -p "$folder"
    export ESCCS_HARDWARE_OUT=$folder ESCCS_SUSTAINED_S=${ESCCS_SUSTAINED_S:-30}
    "$part"
    printf '\n%s\n' "$part"
    cat "$folder/steps.txt"
done
echo "raw results: $out/*.tar.gz (results.jsonl: one line per measurement)"
exit $failed

#!/usr/bin/env bash
# What needs an NVIDIA GPU, in parts of less than ten minutes: docs/hardware/run.sh [OUTPUT FOLDER] [PART...]
# Parts: first speed compare sanitize (all of them if none is named), each into a folder of its own.
# Writes raw output only; a step that fails or runs out of time is recorded and the next one runs. Needs the
# package installed with [dev], TensorRT or TensorRT for RTX, and cuda-python and/or pycuda.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
here=$PWD/docs/hardware
out=$(realpath -m "${1:-hardware-out}")
shift || true
parts=("${@:-all}")
[ "${parts[*]}" = all ] && parts=(first speed compare sanitize)
for part in "${parts[@]}"; do
    case $part in first | speed | compare | sanitize) ;; *)
        echo "unknown part '$part', expected first, speed, compare or sanitize" >&2
        exit 2
    esac
done
# Python is started elsewhere: `-c` and `-m` would import the sources here, not what is installed.
if problem=$(cd /; python -c 'from esccs_edge.cuda.probe import probe_driver; print(probe_driver().problem)') && [ -n "$problem" ]; then
    echo "nothing to run: $problem" >&2
    exit 1
fi
failed=0
gpu_tests=(tests/cuda/test_30_owners.py tests/backends/trt/test_30_pixel_kernels.py tests/backends/trt/test_30_backend.py
    tests/pixels/test_20_device_pixels.py tests/pixels/test_20_dlpack.py)

step() { # step NAME SECONDS COMMAND...
    local name=$1 seconds=$2 code
    shift 2
    echo "== $name"
    (echo "\$ $*"; timeout --kill-after 10 "$seconds" "$@") > "$folder/$name.txt" 2>&1
    code=$?
    [ "$code" = 124 ] && echo "stopped after $seconds s" >> "$folder/$name.txt"
    echo "$name: exit $code" | tee -a "$folder/steps.txt"
    tail -n 3 "$folder/$name.txt"
    [ "$code" = 0 ] || failed=1
}

bench() { # bench NAME SECONDS PYTEST-EXPRESSION
    step "$1" "$2" pytest -m gpu -W default tests/benchmarks/test_gpu_speed.py -k "$3" \
        --benchmark-enable "--benchmark-json=$folder/$1.json" --timeout 3600
}

# Does it run, on which TensorRT, with either CUDA binding?
first() {
    step machine 60 bash -c 'date -u; git rev-parse HEAD; uname -a; nvidia-smi || cat /etc/nv_tegra_release
        pip list 2>/dev/null | grep -i -E "tensorrt|cuda|torch|numpy|onnx|esccs"; esccs-edge doctor'
    for flavor in tensorrt rtx; do
        step "flavor-$flavor" 120 python "$here/first_answer.py" "$flavor"
    done
    for provider in cuda-python pycuda; do
        # Opened first, since tests of a binding that is absent are skipped and would seem to pass.
        step "tests-$provider" 120 env ESCCS_CUDA=$provider bash -c \
            '(cd / && python -c "from esccs_edge.cuda.driver import open_driver as o; print(o().name)") && pytest -m gpu "$@"' \
            bash "${gpu_tests[@]}"
    done
    step layers 40 esccs-edge inspect default --layers
}

# How fast, against the ceilings of this machine?
speed() {
    bench latency 200 "ceilings or one_pair or graphs or spinning or overlap or bandwidth"
    bench throughput 380 "throughput"
}

# Against torch on the same work, under load, and which precision this device should run.
compare() {
    bench torch 240 "torch"
    bench sustained $((ESCCS_SUSTAINED_S + 90)) "sustained"
    rm -rf "$folder/chosen"
    step choose 180 esccs-edge build default --choose --out "$folder/chosen"
}

sanitize() {
    if ! command -v compute-sanitizer > /dev/null; then
        echo "compute-sanitizer is not on the PATH: memory and races were not checked" | tee -a "$folder/steps.txt"
        failed=1
        return
    fi
    for tool in memcheck racecheck initcheck synccheck; do
        step "$tool" 140 compute-sanitizer --tool $tool --error-exitcode 9 --target-processes all \
            "$(command -v pytest)" -m gpu "${gpu_tests[@]}" --timeout 1800
    done
}

for part in "${parts[@]}"; do
    folder=$out/$part
    mkdir -p "$folder"
    export ESCCS_HARDWARE_OUT=$folder ESCCS_SUSTAINED_S=${ESCCS_SUSTAINED_S:-60}
    : > "$folder/steps.txt"
    : > "$folder/results.jsonl"
    "$part"
done

echo
for part in "${parts[@]}"; do sed "s/^/$part /" "$out/$part/steps.txt"; done
echo "raw results: $out/*/ (results.jsonl: one line per measurement; trace.json: open in Perfetto)"
exit $failed

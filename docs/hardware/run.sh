#!/usr/bin/env bash
# Everything that needs an NVIDIA GPU, in one command: docs/hardware/run.sh [OUTPUT FOLDER]
# Writes raw output only; a step that fails is recorded and the next one runs. Needs the package
# installed with [dev], TensorRT or TensorRT for RTX, and cuda-python and/or pycuda.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
root=$PWD
out=$(realpath -m "${1:-hardware-out}")
# Python is started elsewhere: `-c` and `-m` would import the sources here, not what is installed.
if problem=$(cd /; python -c 'from esccs_edge.cuda.probe import probe_driver; print(probe_driver().problem)') && [ -n "$problem" ]; then
    echo "nothing to run: $problem" >&2
    exit 1
fi
mkdir -p "$out"
export ESCCS_HARDWARE_OUT=$out
: > "$out/results.jsonl"
: > "$out/steps.txt"
failed=0

step() { # step NAME COMMAND...
    local name=$1 code
    shift
    echo "== $name"
    (echo "\$ $*"; "$@") > "$out/$name.txt" 2>&1
    code=$?
    echo "$name: exit $code" | tee -a "$out/steps.txt"
    tail -n 3 "$out/$name.txt"
    [ "$code" = 0 ] || failed=1
}

machine() {
    date -u
    git rev-parse HEAD
    uname -a
    nvidia-smi || cat /etc/nv_tegra_release
    esccs-edge doctor
    pip list 2>/dev/null | grep -i -E 'tensorrt|cuda|torch|numpy|onnx|esccs'
}

# In which words does each TensorRT accept or refuse this GPU? Settles whether RTX runs here.
flavor() {
    cd "$out" && python - "$1" "$root/tests" <<'END'
import sys, tempfile
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from tiny import raw_pair, tiny_bundle
from esccs_edge.engine_cache import EngineCache
from esccs_edge.scene import ScenePair
from esccs_edge.trt_backend import TrtBackend
with tempfile.TemporaryDirectory() as folder:
    bundle = tiny_bundle(Path(folder) / "bundle")
    cache = EngineCache(Path(folder) / "engines")
    backend = TrtBackend(bundle, bundle.manifest, max_batch=4, flavor=sys.argv[1], cache=cache)
    lane = backend.open_lane()
    lane.start([ScenePair(*raw_pair(bundle.manifest))])
    print(lane.finish().logits)
    print(backend.describe())
    backend.close()
END
}

kernel_tests="tests/test_30_cuda_owners.py tests/test_30_preprocess_gpu.py tests/test_30_trt_backend.py tests/test_30_device_pixels.py tests/test_30_dlpack.py"
step machine machine
step flavor-tensorrt flavor tensorrt
step flavor-rtx flavor rtx
for provider in cuda-python pycuda; do
    step "tests-$provider" env ESCCS_CUDA=$provider pytest -m gpu tests --ignore tests/benchmarks
done
if command -v compute-sanitizer > /dev/null; then
    for tool in memcheck racecheck initcheck synccheck; do
        step "$tool" compute-sanitizer --tool $tool --error-exitcode 9 --target-processes all \
            "$(command -v pytest)" -m gpu $kernel_tests --timeout 1800
    done
else
    echo "compute-sanitizer is not on the PATH: memory and races were not checked" | tee -a "$out/steps.txt"
    failed=1
fi
step benchmarks env ESCCS_SUSTAINED_S="${ESCCS_SUSTAINED_S:-600}" pytest -m gpu -W default \
    tests/benchmarks/test_gpu_speed.py --benchmark-enable "--benchmark-json=$out/benchmarks.json" --timeout 3600
rm -rf "$out/chosen"
step choose esccs-edge build default --choose --out "$out/chosen"

echo
cat "$out/steps.txt"
echo "raw results: $out (results.jsonl: one line per measurement; trace.json: open in Perfetto)"
exit $failed

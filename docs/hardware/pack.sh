#!/usr/bin/env bash
# Packs what a machine with a GPU and without a network lacks: docs/hardware/pack.sh OUTPUT [PYTHON] [cu13|cu12]
# OUTPUT gets three folders of at most 60 MB, to be copied there one by one, in any order (x86-64; PYTHON is 3.12):
#   base    this package as a wheel with its CUDA kernels, pycuda and other small wheels, tests and scripts
#   rtx-0   one half of TensorRT for RTX ...          rtx-1   ... and the other
# There, `bash PART/unpack.sh SITE` for each, then `. SITE/env.sh` and `bash $ESCCS_REPOSITORY/docs/hardware/run.sh`.
# `base` alone is enough for the part `proof`. Needs nvcc, a C++ compiler and that version of Python here; there are
# expected NumPy, torch, onnx, ONNX Runtime, cuda-bindings, pytest with its plugins for timeouts and benchmarks.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
out=$(realpath -m "${1:?usage: pack.sh OUTPUT [PYTHON] [cu13|cu12]}")
version=${2:-3.12} cuda=${3:-cu13}
python=$(ls -d "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"$version".*/bin/python 2> /dev/null | tail -n 1 || true)
python=${python:-$(command -v "python$version")} || { echo "there is no Python $version here" >&2; exit 1; }
nvcc=$(command -v nvcc) || { echo "there is no nvcc here: the wheel would lack its CUDA kernels" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
rm -rf "$out/base" "$out/rtx-0" "$out/rtx-1"
mkdir -p "$out/base/wheels" "$out/rtx-0" "$out/rtx-1"

"$python" -m pip wheel -q --no-deps -w "$out/base/wheels" -C cmake.define.ESCCS_CUDA_ARCHITECTURES=all .
unzip -l "$out"/base/wheels/esccs_edge-*.whl | grep -q preprocess.fatbin

# pycuda is compiled, without what needs libraries that only a driver or a whole toolkit brings.
toolkit=$(dirname "$(dirname "$("$nvcc" -v --dryrun -x cu /dev/null 2>&1 | sed -n 's/^#\$ _HERE_=//p')/x")")
gcc -shared -x c /dev/null -Wl,-soname,libcuda.so.1 -o "$work/libcuda.so"
cat > "$work/.aksetup-defaults.py" << SETTINGS
CUDA_ROOT = "$toolkit"
CUDA_ENABLE_CURAND = False
CUDADRV_LIB_DIR = ["$work"]
CUDART_LIB_DIR = ["$toolkit/lib64"]
SETTINGS
# The linker would leave out a library from which nothing is taken here, since the stand-in is empty.
HOME=$work LDFLAGS=-Wl,--no-as-needed \
    "$python" -m pip wheel -q --no-cache-dir --no-deps -w "$out/base/wheels" pycuda
unzip -q "$out"/base/wheels/pycuda-*.whl 'pycuda/_driver*' -d "$work"
readelf -d "$work"/pycuda/_driver*.so | grep -q 'NEEDED.*libcuda.so.1'
"$python" -m pip download -q --no-deps --only-binary=:all: -d "$out/base/wheels" \
    "tensorrt-rtx-$cuda-bindings" pytools siphash24 platformdirs mako markupsafe typing_extensions click hypothesis \
    sortedcontainers nvtx
tar -czf "$out/base/repository.tar.gz" --exclude __pycache__ pyproject.toml tests docs/hardware

"$python" -m pip download -q --no-deps --only-binary=:all: -d "$work" "tensorrt-rtx-$cuda-libs"
unzip -q "$work"/tensorrt_rtx_"$cuda"_libs-*.whl -d "$work/libs"
tar -C "$work/libs" -cf - . | xz -6 -T0 > "$work/libs.tar.xz"
(cd "$work" && sha256sum libs.tar.xz) > "$out/rtx-0/SHA256SUMS"
cp "$out/rtx-0/SHA256SUMS" "$out/rtx-1/"
half=$((($(stat -c %s "$work/libs.tar.xz") + 1) / 2))
head -c "$half" "$work/libs.tar.xz" > "$out/rtx-0/libs.tar.xz.0"
tail -c "+$((half + 1))" "$work/libs.tar.xz" > "$out/rtx-1/libs.tar.xz.1"

cat > "$out/base/unpack.sh" << 'UNPACK'
#!/usr/bin/env bash
# unpack.sh SITE: unpacks this part into SITE; no network, no root.
set -euo pipefail
part=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
mkdir -p "$1/repository" "$1/halves"
site=$(cd "$1" && pwd)
if [ -d "$part/wheels" ]; then
    python3 -m pip install -q --no-index --no-deps --no-compile --upgrade --target "$site" "$part"/wheels/*.whl
    tar -C "$site/repository" -xzf "$part/repository.tar.gz"
    printf 'export PYTHONPATH=%q PATH=%q/bin:$PATH PYTHONDONTWRITEBYTECODE=1 ESCCS_REPOSITORY=%q\n' \
        "$site" "$site" "$site/repository" > "$site/env.sh"
else
    cp "$part"/libs.tar.xz.? "$part/SHA256SUMS" "$site/halves/"
fi
if [ -f "$site/halves/libs.tar.xz.0" ] && [ -f "$site/halves/libs.tar.xz.1" ]; then
    cat "$site"/halves/libs.tar.xz.? > "$site/halves/libs.tar.xz"
    (cd "$site/halves" && sha256sum -c --quiet SHA256SUMS)
    tar -C "$site" -xJf "$site/halves/libs.tar.xz"
    rm -r "$site/halves"
fi
echo "unpacked $(basename "$part") to $site"
UNPACK
cp "$out/base/unpack.sh" "$out/rtx-0/"
cp "$out/base/unpack.sh" "$out/rtx-1/"

for part in base rtx-0 rtx-1; do
    size=$(du -sb --apparent-size "$out/$part" | cut -f 1)
    printf '%-6s %5.1f MB\n' $part "$((size / 100000))e-1"
    [ "$size" -le 60000000 ] || { echo "$part has $size bytes, more than 60 MB" >&2; exit 1; }
done

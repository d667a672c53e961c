// The CUDA kernels compiled for the CPU: the same source, one "thread" per block and a warp of one.
// What this cannot show: warps, shared memory and alignment (`kernel_in_warps.cpp` does), speed.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "cuda_words.h"

static Index blockIdx, threadIdx, blockDim{1, 1, 1}, gridDim{1, 1, 1};

// The other lanes of the warp do not exist and have counted nothing.
template <typename T>
static inline T __shfl_down_sync(unsigned, T, int) { return T{}; }
template <typename T>
static inline T atomicAdd(T *target, T value) {
    const T old = *target;
    *target = old + value;
    return old;
}
template <typename T>
static inline void atomicMax(T *target, T value) { *target = std::max(*target, value); }

#include "preprocess_cuda.cu"

std::uint8_t esccs_shared[1 << 20];

// `block` threads of one block become as many blocks of one thread.
extern "C" void host_esccs_preprocess_f32(const void *parameters, unsigned columns, unsigned rows, unsigned block) {
    Params mine = *static_cast<const Params *>(parameters);
    for (Modality &modality : mine.of) modality.tiles *= block;
    gridDim = {columns * block, rows, 1};
    for (blockIdx.y = 0; blockIdx.y < rows; ++blockIdx.y)
        for (blockIdx.x = 0; blockIdx.x < gridDim.x; ++blockIdx.x) esccs_preprocess_f32(mine);
}

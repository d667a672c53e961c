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
static inline void atomicAdd(T *target, T value) { *target += value; }
template <typename T>
static inline void atomicMax(T *target, T value) { *target = std::max(*target, value); }

#include "preprocess_cuda.cu"

std::uint8_t esccs_shared[1 << 20];

template <typename Kernel, typename P>
static void run(Kernel kernel, const P &parameters, unsigned columns, unsigned rows, unsigned block) {
    gridDim = {columns, rows, 1};
    // `block` threads of one block become as many blocks of one thread where the kernel indexes by both.
    for (blockIdx.y = 0; blockIdx.y < rows; ++blockIdx.y)
        for (unsigned x = 0; x < columns * block; ++x) {
            gridDim.x = columns * block;
            blockIdx.x = x;
            kernel(parameters);
        }
}

extern "C" void host_esccs_preprocess_f32(const void *p, unsigned columns, unsigned rows, unsigned block) {
    run(esccs_preprocess_f32, *static_cast<const Params *>(p), columns, rows, block);
}
extern "C" void host_esccs_availability(const void *p, unsigned columns, unsigned rows, unsigned block) {
    run(esccs_availability, *static_cast<const AvailabilityParams *>(p), columns, rows, block);
}

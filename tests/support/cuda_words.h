// What g++ does not know of CUDA, as far as the preprocessing kernels use it.
#pragma once

#include <cstdint>
#include <cstring>

#define __device__
#define __global__
#define __shared__
#define __grid_constant__
#define __forceinline__ inline
#define __align__(n) __attribute__((aligned(n)))

struct Index {
    unsigned x, y, z;
};

static inline std::uint32_t __float_as_uint(float value) {
    std::uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}
static inline int __popc(std::uint32_t bits) { return __builtin_popcount(bits); }
static inline void __threadfence() {}  // the atomics of the CPU are fences already

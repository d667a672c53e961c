// Per-pixel arithmetic of preprocessing, the same lines for g++ and nvcc. No arrays, no Python, no CUDA calls.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#if defined(__CUDACC__)
#define ESCCS_HD __host__ __device__ __forceinline__
#else
#define ESCCS_HD inline __attribute__((always_inline))
#endif

namespace esccs {

// Backscatter is floored here before the logarithm, so that 0 becomes a finite -50 dB.
constexpr float kLinearFloor = 1e-5f;

// By bits, since a compiler told to be fast with floats may fold std::isfinite to true.
ESCCS_HD bool is_finite(float value) {
#if defined(__CUDA_ARCH__)
    return (__float_as_uint(value) & 0x7f800000u) != 0x7f800000u;
#else
    std::uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return (bits & 0x7f800000u) != 0x7f800000u;
#endif
}

// Digital number -> physical unit. The sum is exact for 16-bit numbers, so one rounding remains.
ESCCS_HD float physical(float stored, float dn_scale, float dn_offset) {
    return (stored + dn_offset) * dn_scale;
}

ESCCS_HD float decibel(float linear) {
    return 10.0f * log10f(linear > kLinearFloor ? linear : kLinearFloor);
}

ESCCS_HD float clip(float value, float low, float high) {
    const float raised = value < low ? low : value;
    return raised > high ? high : raised;
}

ESCCS_HD float normalize(float clipped, float mean, float inv_std) { return (clipped - mean) * inv_std; }

}  // namespace esccs

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

ESCCS_HD std::int32_t bits_of(float value) {
#if defined(__CUDA_ARCH__)
    return __float_as_int(value);
#else
    std::int32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
#endif
}

ESCCS_HD float float_of(std::int32_t bits) {
#if defined(__CUDA_ARCH__)
    return __int_as_float(bits);
#else
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
#endif
}

// By bits, since under -ffast-math a compiler may fold std::isfinite to true.
ESCCS_HD bool is_finite(float value) { return (bits_of(value) & 0x7f800000) != 0x7f800000; }

// Digital number -> physical unit. The sum is exact for 16-bit numbers, so one rounding remains.
ESCCS_HD float physical(float stored, float dn_scale, float dn_offset) {
    return (stored + dn_offset) * dn_scale;
}

// 10 log10(linear), from linear = 2^e m with m in [sqrt(1/2), sqrt(2)) and ln m = 2 artanh((m - 1) / (m + 1)).
// Own arithmetic, since log10f of a library is a call per pixel and differs between hosts. The series ends
// where the next term is below 1e-8 dB; 10 log10(2) is split so that its product with e is exact.
ESCCS_HD float decibel(float linear) {
    constexpr float kSqrtHalf = 0.70710678f, kTwoHigh = 3.0078125f, kTwoLow = 2.4874566e-3f, kTwice = 8.6858896f;
    const std::int32_t bits = bits_of(linear > kLinearFloor ? linear : kLinearFloor);
    const std::int32_t exponent = (bits - bits_of(kSqrtHalf)) >> 23;
    const float m = float_of(bits - exponent * (1 << 23)), e = static_cast<float>(exponent);
    const float s = (m - 1.0f) / (m + 1.0f), z = s * s;
    const float series = 1.0f + z * (1.0f / 3 + z * (1.0f / 5 + z * (1.0f / 7 + z * (1.0f / 9))));
    return e * kTwoHigh + (e * kTwoLow + kTwice * s * series);
}

ESCCS_HD float clip(float value, float low, float high) {
    const float raised = value < low ? low : value;
    return raised > high ? high : raised;
}

ESCCS_HD float normalize(float clipped, float mean, float inv_std) { return (clipped - mean) * inv_std; }

// The input of an INT8 graph is a whole number of steps from -128 to 127, kept as a byte with 128 added.
constexpr std::uint8_t kZeroStep = 128;
constexpr float kLowestStep = -128.0f, kHighestStep = 127.0f;
// Added to a small float, leaves the float's nearest integer (ties to even) in the lowest bits of the sum.
constexpr float kRounding = 12582912.0f;

ESCCS_HD std::uint8_t quantize(float steps) {
    return static_cast<std::uint8_t>(bits_of(steps + (kRounding + kZeroStep)));
}

}  // namespace esccs

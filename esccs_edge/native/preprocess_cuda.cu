// Fused preprocessing on the GPU: the arithmetic of pixel.h over a batch of raw patches of one modality.
//
// One pass: a thread reads 16 bytes of neighboring pixels per channel and keeps them in shared memory, since
// a pixel is usable only if all its channels are; then it writes them normalized. The counts that the CPU
// module reports of each patch are reduced on the way. No kernel synchronizes or allocates; the caller
// gives the stream and zeroes `stats`. Loaded by esccs_edge.backends.trt.pixel_kernels, which mirrors the structs.

#include <cstdint>

#include "patch.h"
#include "pixel.h"

namespace {

constexpr int kWarp = 32;

using esccs::Patch, esccs::kVectorBytes;

// All fields start at 0 and only grow, so that one memset prepares them: while a patch is preprocessed,
// `lowest` holds the inverted order of the smallest value, `highest` the order of the largest (see `order`);
// esccs_availability leaves the bits of the values themselves there.
struct Stats {
    std::uint32_t valid, nonfinite, below, above, lowest, highest;
    double sum;
};

struct Params {
    const std::uint8_t *raw;  // Patch[batch], then pixels
    float *out;               // (batch, channels, pixels)
    Stats *stats;             // one per patch
    const float *mean, *inv_std;
    std::int64_t pixels;
    std::int32_t channels;
    float dn_scale, dn_offset, nodata, low, high;
    std::int32_t has_nodata, linear_to_db;
};

constexpr int kMostModalities = 4;

struct AvailabilityParams {
    Stats *stats[kMostModalities];
    float *availability;  // (batch, modalities)
    std::int64_t pixels;  // per patch, the same for all
    std::int32_t batch, modalities;
};

static_assert(sizeof(Patch) == 16 && sizeof(Stats) == 32 && sizeof(Params) == 80 && sizeof(AvailabilityParams) == 56,
              "backends/trt/pixel_kernels.py mirrors these layouts");

template <typename T, int N>
struct alignas(sizeof(T) * N) Pack {
    T value[N];
};

// Unsigned integers in the order of the floats they stand for, so that an integer maximum can be used.
__device__ __forceinline__ std::uint32_t order(float value) {
    const std::uint32_t bits = __float_as_uint(value);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

// The bits of the float that has this order.
__device__ __forceinline__ std::uint32_t bits_in_order(std::uint32_t order) {
    return order & 0x80000000u ? order ^ 0x80000000u : ~order;
}

// What one thread has seen, in registers.
struct Seen {
    std::uint32_t valid = 0, nonfinite = 0, below = 0, above = 0;
    float lowest = INFINITY, highest = -INFINITY;
    double sum = 0;
};

template <typename T>
__device__ __forceinline__ T warp_sum(T value) {
    for (int step = kWarp / 2; step > 0; step /= 2) value += __shfl_down_sync(0xffffffffu, value, step);
    return value;
}

__device__ __forceinline__ std::uint32_t warp_max(std::uint32_t value) {
    for (int step = kWarp / 2; step > 0; step /= 2) {
        const std::uint32_t other = __shfl_down_sync(0xffffffffu, value, step);
        value = other > value ? other : value;
    }
    return value;
}

// One atomic per warp and field: at most a few hundred per patch, far fewer than its pixels.
__device__ void add_to(Stats *stats, const Seen &seen) {
    const std::uint32_t valid = warp_sum(seen.valid), nonfinite = warp_sum(seen.nonfinite);
    const std::uint32_t below = warp_sum(seen.below), above = warp_sum(seen.above);
    const std::uint32_t lowest = warp_max(~order(seen.lowest)), highest = warp_max(order(seen.highest));
    const double sum = warp_sum(seen.sum);
    if (threadIdx.x % kWarp != 0) return;
    if (valid) {
        atomicAdd(&stats->valid, valid);
        atomicMax(&stats->lowest, lowest);
        atomicMax(&stats->highest, highest);
        atomicAdd(&stats->sum, sum);
    }
    if (nonfinite) atomicAdd(&stats->nonfinite, nonfinite);
    if (below) atomicAdd(&stats->below, below);
    if (above) atomicAdd(&stats->above, above);
}

template <typename T>
constexpr bool kIsFloat = static_cast<T>(0.5f) != static_cast<T>(0);

template <int N>
constexpr std::uint32_t all_of = (1u << N) - 1u;

// Reads one group of N neighboring pixels in all channels into `stage`; bit i is set if pixel i is usable.
template <typename T, int N>
__device__ __forceinline__ std::uint32_t read_group(const T *in, Pack<T, N> *stage, const Params &p, Seen &seen) {
    constexpr std::uint32_t all = all_of<N>;
    std::uint32_t finite = all, absent = p.has_nodata ? all : 0u;
#pragma unroll 4  // so that several loads are under way at once
    for (int c = 0; c < p.channels; ++c) {
        const Pack<T, N> pack = *reinterpret_cast<const Pack<T, N> *>(in + c * p.pixels);
        stage[c * blockDim.x] = pack;
#pragma unroll
        for (int i = 0; i < N; ++i) {
            const float stored = static_cast<float>(pack.value[i]);
            if (kIsFloat<T> && !esccs::is_finite(stored)) finite &= ~(1u << i);
            if (stored != p.nodata) absent &= ~(1u << i);
        }
    }
    const std::uint32_t usable = finite & ~absent;
    seen.nonfinite += __popc(all & ~finite);
    seen.valid += __popc(usable);
    return usable;
}

template <typename T>
__device__ __forceinline__ float physical_value(T stored, const Params &p) {
    const float number = static_cast<float>(stored);
    const float unit = kIsFloat<T> ? number : esccs::physical(number, p.dn_scale, p.dn_offset);
    return p.linear_to_db ? esccs::decibel(unit) : unit;
}

// Whole: every pixel is usable, as nearly always, so that no value has to be tested.
template <bool Whole, typename T, int N>
__device__ __forceinline__ void write_group(const Pack<T, N> *stage, float *out, std::uint32_t usable, const Params &p,
                                            Seen &seen) {
#pragma unroll 1  // the body is long enough to hide latency, and code is compiled for nine architectures
    for (int c = 0; c < p.channels; ++c) {
        const Pack<T, N> pack = stage[c * blockDim.x];
        const float mean = p.mean[c], inv_std = p.inv_std[c];
        Pack<float, N> result;
        float sum = 0.0f;
#pragma unroll
        for (int i = 0; i < N; ++i) {
            const bool ok = Whole || usable >> i & 1u;
            // NaN is neither below nor above, and no minimum or maximum.
            const float value = ok ? physical_value(pack.value[i], p) : NAN;
            seen.below += value < p.low;
            seen.above += value > p.high;
            seen.lowest = fminf(seen.lowest, value);
            seen.highest = fmaxf(seen.highest, value);
            sum += ok ? value : 0.0f;
            const float normal = esccs::normalize(esccs::clip(value, p.low, p.high), mean, inv_std);
            result.value[i] = ok ? normal : 0.0f;
        }
        seen.sum += sum;
        // A pack may be wider than one store; the compiler splits it into 16-byte ones.
        *reinterpret_cast<Pack<float, N> *>(out + c * p.pixels) = result;
    }
}

template <typename T, int N>
__device__ void patch_groups(const T *in, float *out, const Params &p, std::uint8_t *shared, Seen &seen) {
    auto *stage = reinterpret_cast<Pack<T, N> *>(shared) + threadIdx.x;
    const std::int64_t groups = p.pixels / N, step = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
    for (std::int64_t g = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; g < groups; g += step) {
        const std::uint32_t usable = read_group<T, N>(in + g * N, stage, p, seen);
        if (usable == all_of<N>) write_group<true>(stage, out + g * N, usable, p, seen);
        else write_group<false>(stage, out + g * N, usable, p, seen);
    }
}

template <typename T>
__device__ void one_patch(const std::uint8_t *raw, float *out, const Params &p, std::uint8_t *shared, Seen &seen) {
    constexpr int wide = sizeof(T) == 1 ? kVectorBytes / 2 : kVectorBytes / sizeof(T);
    const auto *in = reinterpret_cast<const T *>(raw);
    // Later channels are aligned for vector loads only if the pixels of a channel fill whole vectors.
    if (p.pixels % wide == 0 && reinterpret_cast<std::uintptr_t>(raw) % kVectorBytes == 0)
        patch_groups<T, wide>(in, out, p, shared, seen);
    else
        patch_groups<T, 1>(in, out, p, shared, seen);
}

__device__ void zero_patch(float *out, const Params &p) {
    const std::int64_t values = p.channels * p.pixels, step = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
    for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < values; i += step)
        out[i] = 0.0f;
}

__device__ void preprocess(const Params &p, std::uint8_t *shared) {
    const Patch patch = reinterpret_cast<const Patch *>(p.raw)[blockIdx.y];
    float *out = p.out + blockIdx.y * p.channels * p.pixels;
    if (!patch.present) {
        zero_patch(out, p);
        return;
    }
    const std::uint8_t *raw = p.raw + patch.offset;
    Seen seen;
    switch (patch.dtype) {
        case esccs::kUint8: one_patch<std::uint8_t>(raw, out, p, shared, seen); break;
        case esccs::kUint16: one_patch<std::uint16_t>(raw, out, p, shared, seen); break;
        case esccs::kInt16: one_patch<std::int16_t>(raw, out, p, shared, seen); break;
        default: one_patch<float>(raw, out, p, shared, seen);
    }
    add_to(p.stats + blockIdx.y, seen);
}

}  // namespace

// Grid (tiles, batch); block of whole warps; shared memory of channels * block * 16 bytes.
extern "C" __global__ void esccs_preprocess_f32(const Params p) {
    extern __shared__ __align__(16) std::uint8_t esccs_shared[];
    preprocess(p, esccs_shared);
}

// Ends the counting of one patch and returns its share of valid pixels. Divides in double, as the CPU does, so
// that both round alike.
__device__ __forceinline__ float finished(Stats &stats, std::int64_t pixels) {
    stats.lowest = bits_in_order(~stats.lowest);
    stats.highest = bits_in_order(stats.highest);
    return static_cast<float>(stats.valid / static_cast<double>(pixels));
}

// Runs once all modalities of a batch are preprocessed, a thread a sample.
extern "C" __global__ void esccs_availability(const AvailabilityParams p) {
    const std::int32_t n = blockIdx.x * blockDim.x + threadIdx.x;
    if (n >= p.batch) return;
    for (std::int32_t m = 0; m < p.modalities; ++m)
        p.availability[p.modalities * n + m] = finished(p.stats[m][n], p.pixels);
}

// Fused preprocessing on the GPU: the arithmetic of pixel.h over a batch of raw samples of all modalities.
//
// One launch: a thread reads 16 bytes of neighboring pixels per channel and keeps them in shared memory, since
// a pixel is usable only if all its channels are; then it writes them normalized. The counts that the CPU
// module reports of each patch are reduced on the way; the last warp of a sample writes them where the host
// reads and leaves the counters at zero for the next batch. Nothing synchronizes or allocates; the caller gives
// the stream. Loaded by esccs_edge.backends.trt.pixel_kernels, which mirrors the structs.

#include <cstdint>

#include "patch.h"
#include "pixel.h"

namespace {

constexpr int kWarp = 32;

using esccs::Patch, esccs::kVectorBytes;

// All fields start at 0 and only grow: while a patch is preprocessed, `lowest` holds the inverted order of the
// smallest value, `highest` the order of the largest (see `order`); in `settled` they are the values' own bits.
struct Stats {
    std::uint32_t valid, nonfinite, below, above, lowest, highest;
    double sum;
};

constexpr int kMostModalities = 4, kMostChannels = 96;

struct Modality {
    float *out;      // (batch, channels, pixels)
    Stats *counts;   // one per sample, in memory that the GPU caches; zero before and after
    Stats *settled;  // the same for the host
    std::int32_t channels, tiles, has_nodata, linear_to_db;  // tiles: blocks that share a patch
    float dn_scale, dn_offset, nodata, low, high;
    float mean[kMostChannels], inv_std[kMostChannels];  // here they are constants; in memory, loads in a row
};

struct Params {
    const std::uint8_t *raw;  // Patch[modalities][batch], then pixels
    std::uint32_t *done;      // warps of each sample that have counted; zero before and after
    float *availability;      // (batch, modalities), the share of valid pixels
    std::int64_t pixels;      // per patch, the same for all
    std::int32_t modalities;
    Modality of[kMostModalities];
};

static_assert(sizeof(Patch) == 16 && sizeof(Stats) == 32 && sizeof(Modality) == 832 && sizeof(Params) == 3368,
              "backends/trt/pixel_kernels.py mirrors these layouts");

// Which blocks work on a patch: this one is number `tile` of `modality.tiles`.
struct Work {
    const Modality &modality;
    std::int64_t pixels;
    std::int32_t tile;

    __device__ __forceinline__ std::int64_t first() const {
        return static_cast<std::int64_t>(tile) * blockDim.x + threadIdx.x;
    }
    __device__ __forceinline__ std::int64_t step() const {
        return static_cast<std::int64_t>(modality.tiles) * blockDim.x;
    }
};

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
__device__ __forceinline__ std::uint32_t read_group(const T *in, Pack<T, N> *stage, const Work &work, Seen &seen) {
    const Modality &p = work.modality;
    constexpr std::uint32_t all = all_of<N>;
    std::uint32_t finite = all, absent = p.has_nodata ? all : 0u;
#pragma unroll 4  // so that several loads are under way at once
    for (int c = 0; c < p.channels; ++c) {
        const Pack<T, N> pack = *reinterpret_cast<const Pack<T, N> *>(in + c * work.pixels);
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
__device__ __forceinline__ float physical_value(T stored, const Modality &p) {
    const float number = static_cast<float>(stored);
    const float unit = kIsFloat<T> ? number : esccs::physical(number, p.dn_scale, p.dn_offset);
    return p.linear_to_db ? esccs::decibel(unit) : unit;
}

// Whole: every pixel is usable, as nearly always, so that no value has to be tested.
template <bool Whole, typename T, int N>
__device__ __forceinline__ void write_group(const Pack<T, N> *stage, float *out, std::uint32_t usable,
                                            const Work &work, Seen &seen) {
    const Modality &p = work.modality;
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
        *reinterpret_cast<Pack<float, N> *>(out + c * work.pixels) = result;
    }
}

template <typename T, int N>
__device__ void patch_groups(const T *in, float *out, const Work &work, std::uint8_t *shared, Seen &seen) {
    auto *stage = reinterpret_cast<Pack<T, N> *>(shared) + threadIdx.x;
    for (std::int64_t g = work.first(); g < work.pixels / N; g += work.step()) {
        const std::uint32_t usable = read_group<T, N>(in + g * N, stage, work, seen);
        if (usable == all_of<N>) write_group<true>(stage, out + g * N, usable, work, seen);
        else write_group<false>(stage, out + g * N, usable, work, seen);
    }
}

template <typename T>
__device__ void one_patch(const std::uint8_t *raw, float *out, const Work &work, std::uint8_t *shared, Seen &seen) {
    constexpr int wide = sizeof(T) == 1 ? kVectorBytes / 2 : kVectorBytes / sizeof(T);
    const auto *in = reinterpret_cast<const T *>(raw);
    // Later channels are aligned for vector loads only if the pixels of a channel fill whole vectors.
    if (work.pixels % wide == 0 && reinterpret_cast<std::uintptr_t>(raw) % kVectorBytes == 0)
        patch_groups<T, wide>(in, out, work, shared, seen);
    else
        patch_groups<T, 1>(in, out, work, shared, seen);
}

__device__ void zero_patch(float *out, const Work &work) {
    for (std::int64_t i = work.first(); i < work.modality.channels * work.pixels; i += work.step()) out[i] = 0.0f;
}

__device__ void preprocess(const std::uint8_t *raw, const Patch &patch, const Work &work, std::uint8_t *shared) {
    float *out = work.modality.out + blockIdx.y * work.modality.channels * work.pixels;
    if (!patch.present) {
        zero_patch(out, work);
        return;
    }
    raw += patch.offset;
    Seen seen;
    switch (patch.dtype) {
        case esccs::kUint8: one_patch<std::uint8_t>(raw, out, work, shared, seen); break;
        case esccs::kUint16: one_patch<std::uint16_t>(raw, out, work, shared, seen); break;
        case esccs::kInt16: one_patch<std::int16_t>(raw, out, work, shared, seen); break;
        default: one_patch<float>(raw, out, work, shared, seen);
    }
    add_to(work.modality.counts + blockIdx.y, seen);
}

// Takes the counts of one patch and leaves zeros. Adding nothing reads past a cache that may be stale.
__device__ __forceinline__ Stats taken(Stats &counts) {
    const Stats found{atomicAdd(&counts.valid, 0u),
                      atomicAdd(&counts.nonfinite, 0u),
                      atomicAdd(&counts.below, 0u),
                      atomicAdd(&counts.above, 0u),
                      bits_in_order(~atomicAdd(&counts.lowest, 0u)),
                      bits_in_order(atomicAdd(&counts.highest, 0u)),
                      atomicAdd(&counts.sum, 0.0)};
    counts = {};
    return found;
}

// Once all warps of a sample have counted. Divides in double, as the CPU does, so that both round alike.
__device__ void settle(const Params &p) {
    const std::uint32_t n = blockIdx.y;
    p.done[n] = 0;
    for (std::int32_t m = 0; m < p.modalities; ++m) {
        const Stats found = taken(p.of[m].counts[n]);
        p.of[m].settled[n] = found;
        p.availability[p.modalities * n + m] = static_cast<float>(found.valid / static_cast<double>(p.pixels));
    }
}

}  // namespace

// Grid (tiles of all modalities, batch); block of whole warps; shared memory of most channels * block * 16 bytes.
extern "C" __global__ void esccs_preprocess_f32(const __grid_constant__ Params p) {
    extern __shared__ __align__(16) std::uint8_t esccs_shared[];
    std::int32_t m = 0, tile = blockIdx.x;
    while (tile >= p.of[m].tiles) tile -= p.of[m++].tiles;
    const Patch patch = reinterpret_cast<const Patch *>(p.raw)[m * gridDim.y + blockIdx.y];
    preprocess(p.raw, patch, Work{p.of[m], p.pixels, tile}, esccs_shared);
    if (threadIdx.x % kWarp != 0) return;
    const std::uint32_t warps = gridDim.x * ((blockDim.x + kWarp - 1) / kWarp);
    __threadfence();  // what this warp counted is there before it is counted itself
    if (atomicAdd(p.done + blockIdx.y, 1u) == warps - 1) {
        __threadfence();
        settle(p);
    }
}

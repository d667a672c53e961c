// One channel of one block of pixels: stored numbers -> normalized float32 or steps of an INT8 graph, and the
// statistics of what was read.
//
// The loops have no branch that depends on a pixel, so that the compiler turns them into vector code for any
// instruction set. A channel of a block is short enough to come from the first-level cache when it is read a
// second time, and long enough for the hardware prefetcher to help at the first.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

#include "pixel.h"

namespace esccs {

constexpr std::int64_t kBlock = 8192;  // pixels, at most
constexpr std::int64_t kStretch = 256;  // pixels written between two prefetches
constexpr int kLanes = 16;  // partial sums of floats; the same number on every CPU, so that all round alike

// As many floats as fit in a register of the instruction set that the code is compiled for. A type of its own,
// since compilers keep accumulators that are plain arrays in memory.
template <int Bytes>
struct Vector {
    typedef float Type __attribute__((vector_size(Bytes)));
};

// What stands where there is no usable pixel: zero, in whatever it is written.
template <typename Out>
constexpr Out kNothing = 0;
template <>
inline constexpr std::uint8_t kNothing<std::uint8_t> = kZeroStep;

struct Params {
    float dn_scale, dn_offset, nodata, low, high;
    bool has_nodata;
    const float *mean, *inv_std;
    std::int64_t channels, pixels;
};

struct Stats {
    std::int64_t valid = 0, nonfinite = 0, below = 0, above = 0;
    float minimum = std::numeric_limits<float>::infinity();
    float maximum = -std::numeric_limits<float>::infinity();
    double sum = 0;

    void merge(const Stats &other) {
        valid += other.valid;
        nonfinite += other.nonfinite;
        below += other.below;
        above += other.above;
        minimum = std::min(minimum, other.minimum);
        maximum = std::max(maximum, other.maximum);
        sum += other.sum;
    }
};

// Integers are digital numbers; floats are in the unit already.
template <typename T>
ESCCS_HD float unit_of(T stored, float dn_scale, float dn_offset) {
    return std::is_integral_v<T> ? physical(static_cast<float>(stored), dn_scale, dn_offset) : stored;
}

template <typename T>
ESCCS_HD double sum_in_unit(double stored, std::int64_t count, const Params &p) {
    return std::is_integral_v<T> ? (stored + static_cast<double>(p.dn_offset) * count) * p.dn_scale : stored;
}

// Range and sum of one channel, as stored.
template <typename T>
struct Seen {
    T lowest, highest;
    double sum;
};

// Integers are compared many at a time while they are narrow.
template <int, typename T>
ESCCS_HD std::enable_if_t<std::is_integral_v<T>, Seen<T>> look_at(const T *in, std::int64_t count) {
    T lowest = std::numeric_limits<T>::max(), highest = std::numeric_limits<T>::min();
    for (std::int64_t i = 0; i < count; ++i) {
        lowest = in[i] < lowest ? in[i] : lowest;
        highest = in[i] > highest ? in[i] : highest;
    }
    return {lowest, highest, 0.0};
}

template <int Bytes>
ESCCS_HD Seen<float> look_at(const float *in, std::int64_t count) {
    using Floats = typename Vector<Bytes>::Type;
    constexpr int width = Bytes / sizeof(float), parts = kLanes / width;
    constexpr float infinity = std::numeric_limits<float>::infinity();
    Floats lowest[parts], highest[parts], sum[parts];
    for (int part = 0; part < parts; ++part) {
        lowest[part] = Floats{} + infinity;
        highest[part] = Floats{} - infinity;
        sum[part] = Floats{};
    }
    const std::int64_t whole = count - count % kLanes;
    for (std::int64_t i = 0; i < whole; i += kLanes)
#pragma GCC unroll 4
        for (int part = 0; part < parts; ++part) {
            Floats value;
            std::memcpy(&value, in + i + part * width, sizeof value);
            lowest[part] = value < lowest[part] ? value : lowest[part];
            highest[part] = value > highest[part] ? value : highest[part];
            sum[part] += value;
        }
    Seen<float> seen{infinity, -infinity, 0.0};
    for (std::int64_t i = whole; i < count; ++i) {
        seen.lowest = std::min(seen.lowest, in[i]);
        seen.highest = std::max(seen.highest, in[i]);
        seen.sum += in[i];
    }
    for (int part = 0; part < parts; ++part)
        for (int lane = 0; lane < width; ++lane) {
            seen.lowest = std::min(seen.lowest, lowest[part][lane]);
            seen.highest = std::max(seen.highest, highest[part][lane]);
            seen.sum += sum[part][lane];
        }
    return seen;
}

// How the numbers of a channel are written: as normalized float32 ...
template <typename T, typename Out>
struct Writer {
    float dn_scale, dn_offset, low, high, mean, inv_std;

    ESCCS_HD Writer(const Params &p, std::int64_t channel)
        : dn_scale(p.dn_scale), dn_offset(p.dn_offset), low(p.low), high(p.high), mean(p.mean[channel]),
          inv_std(p.inv_std[channel]) {}
    ESCCS_HD float value(T stored) const { return unit_of(stored, dn_scale, dn_offset); }
    ESCCS_HD Out kept(float clipped) const { return normalize(clipped, mean, inv_std); }
};

// ... or as steps: all constants are folded into two, and the clip range into the range of a byte.
template <typename T>
struct Writer<T, std::uint8_t> {
    float factor, summand, low, high;

    ESCCS_HD Writer(const Params &p, std::int64_t channel) {
        const float mean = p.mean[channel], inv_std = p.inv_std[channel];
        factor = unit_of(T{1}, p.dn_scale, 0.0f) * inv_std;
        summand = (unit_of(T{0}, p.dn_scale, p.dn_offset) - mean) * inv_std;
        low = clip(normalize(p.low, mean, inv_std), kLowestStep, kHighestStep);
        high = clip(normalize(p.high, mean, inv_std), kLowestStep, kHighestStep);
    }
    ESCCS_HD float value(T stored) const { return static_cast<float>(stored) * factor + summand; }
    ESCCS_HD std::uint8_t kept(float clipped) const { return quantize(clipped); }
};

// Prefetches what is read later.
template <typename T>
ESCCS_HD void fetch(const T *in, std::int64_t count) {
    constexpr std::int64_t line = 64 / sizeof(T);
    for (std::int64_t i = 0; i < count; i += line) __builtin_prefetch(in + i);
}

// Returns the sum of integers on the way; floats are summed in `look_at`. What is read `next` (null: unknown) is
// prefetched in stretches, since a core keeps only so many loads outstanding.
template <bool Clipped, typename T, typename Out>
ESCCS_HD double write(const T *in, Out *__restrict out, std::int64_t count, const Writer<T, Out> writer,
                      const T *next) {
    std::int32_t sum = 0;  // holds a block of 16-bit numbers
    const auto stretch = [&](std::int64_t first, std::int64_t length) __attribute__((always_inline)) {
        for (std::int64_t i = first; i < first + length; ++i) {
            if (std::is_integral_v<T>) sum += in[i];
            const float value = writer.value(in[i]);
            out[i] = writer.kept(Clipped ? clip(value, writer.low, writer.high) : value);
        }
    };
    std::int64_t first = 0;
    for (; first + kStretch <= count; first += kStretch) {
        if (next) fetch(next + first, kStretch);
        stretch(first, kStretch);
    }
    stretch(first, count - first);
    return sum;
}
static_assert(kBlock * std::numeric_limits<std::uint16_t>::max() < std::numeric_limits<std::int32_t>::max());

template <int, typename T>
ESCCS_HD std::enable_if_t<std::is_integral_v<T>, double> sum_of(const T *in, std::int64_t count) {
    std::int32_t sum = 0;
    for (std::int64_t i = 0; i < count; ++i) sum += in[i];
    return sum;
}

template <int Bytes>
ESCCS_HD double sum_of(const float *in, std::int64_t count) {
    using Floats = typename Vector<Bytes>::Type;
    constexpr int width = Bytes / sizeof(float), parts = kLanes / width;
    Floats sum[parts] = {};
    const std::int64_t whole = count - count % kLanes;
    for (std::int64_t i = 0; i < whole; i += kLanes)
#pragma GCC unroll 4
        for (int part = 0; part < parts; ++part) {
            Floats value;
            std::memcpy(&value, in + i + part * width, sizeof value);
            sum[part] += value;
        }
    double total = 0;
    for (std::int64_t i = whole; i < count; ++i) total += in[i];
    for (int part = 0; part < parts; ++part)
        for (int lane = 0; lane < width; ++lane) total += sum[part][lane];
    return total;
}

// The smallest integer whose value is `bound` or, if asked, more than it; one past the type's if there is none.
template <typename T>
ESCCS_HD std::int32_t first_from(float bound, bool beyond, const Params &p) {
    std::int32_t from = std::numeric_limits<T>::min(), to = std::numeric_limits<T>::max() + 1;
    while (from < to) {
        const std::int32_t middle = from + (to - from) / 2;
        const float value = physical(static_cast<float>(middle), p.dn_scale, p.dn_offset);
        if (beyond ? value > bound : value >= bound)
            to = middle;
        else
            from = middle + 1;
    }
    return from;
}

// Counts the values below and above the clip range; called only where the range of a block leaves it.
template <typename T>
ESCCS_HD void count_outside(const T *in, std::int64_t count, const Params &p, Stats &stats) {
    if constexpr (std::is_integral_v<T>) {
        // Both limits as stored, so that narrow numbers are compared and counted in narrow lanes.
        const std::int32_t inside = first_from<T>(p.low, false, p), outside = first_from<T>(p.high, true, p);
        const T low = static_cast<T>(std::min<std::int32_t>(inside, std::numeric_limits<T>::max()));
        const T high = static_cast<T>(std::max<std::int32_t>(outside - 1, std::numeric_limits<T>::min()));
        std::uint16_t below = 0, above = 0;
        for (std::int64_t i = 0; i < count; ++i) {
            below += in[i] < low;
            above += in[i] > high;
        }
        stats.below += inside > low ? count : below;
        stats.above += outside <= high ? count : above;
    } else {
        std::int32_t below = 0, above = 0;
        for (std::int64_t i = 0; i < count; ++i) {
            below += in[i] < p.low;
            above += in[i] > p.high;
        }
        stats.below += below;
        stats.above += above;
    }
}
static_assert(kBlock <= std::numeric_limits<std::uint16_t>::max());

// One channel of a block in which every pixel is usable. Returns false if one may have been NaN or infinite.
// The range is found first, since a block that lies within the clip range is written without clipping.
template <int Bytes, typename T, typename Out>
ESCCS_HD bool whole_channel(const T *in, Out *out, std::int64_t count, const Writer<T, Out> &writer, const Params &p,
                            Stats &stats, const T *next = nullptr) {
    const Seen<T> seen = look_at<Bytes>(in, count);
    const bool inside = writer.value(seen.lowest) >= writer.low && writer.value(seen.highest) <= writer.high;
    const double integers =
        inside ? write<false>(in, out, count, writer, next) : write<true>(in, out, count, writer, next);
    const float lowest = unit_of(seen.lowest, p.dn_scale, p.dn_offset);
    const float highest = unit_of(seen.highest, p.dn_scale, p.dn_offset);
    if (lowest < p.low || highest > p.high) count_outside(in, count, p, stats);
    stats.minimum = std::min(stats.minimum, lowest);
    stats.maximum = std::max(stats.maximum, highest);
    stats.sum += sum_in_unit<T>(seen.sum + integers, count, p);
    return is_finite(static_cast<float>(seen.sum));
}

// Puts `fill` in the place of what is not usable; by bits, since the compiler may turn a choice into a branch.
template <typename T>
ESCCS_HD void keep_usable(const T *in, const std::uint8_t *ok, std::int64_t count, T fill, T *out) {
    using Bits = std::conditional_t<sizeof(T) == 1, std::uint8_t, std::conditional_t<sizeof(T) == 2, std::uint16_t, std::uint32_t>>;
    Bits other;
    std::memcpy(&other, &fill, sizeof other);
    for (std::int64_t i = 0; i < count; ++i) {
        Bits bits;
        std::memcpy(&bits, in + i, sizeof bits);
        bits = other ^ ((other ^ bits) & static_cast<Bits>(-ok[i]));
        std::memcpy(out + i, &bits, sizeof bits);
    }
}

// The same where only some pixels are usable: the others are filled with the value of a usable one, which leaves
// the range as it is, and what was counted for them is subtracted afterwards.
template <int Bytes, typename T, typename Out>
ESCCS_HD void partial_channel(const T *in, Out *out, const std::uint8_t *ok, std::int64_t count, std::int64_t usable,
                              std::int64_t first, const Writer<T, Out> &writer, const Params &p,
                              Stats &stats) {
    T filled[kBlock];
    const T fill = in[first];
    keep_usable(in, ok, count, fill, filled);
    Stats all;
    whole_channel<Bytes>(filled, out, count, writer, p, all);
    keep_usable(out, ok, count, kNothing<Out>, out);
    const float value = unit_of(fill, p.dn_scale, p.dn_offset);
    stats.below += all.below - (value < p.low ? count - usable : 0);
    stats.above += all.above - (value > p.high ? count - usable : 0);
    stats.minimum = std::min(stats.minimum, all.minimum);
    stats.maximum = std::max(stats.maximum, all.maximum);
    keep_usable(in, ok, count, T{0}, filled);
    stats.sum += sum_in_unit<T>(sum_of<Bytes>(filled, count), usable, p);
}

}  // namespace esccs

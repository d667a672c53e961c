// One channel of one block of pixels: stored numbers -> normalised float32, and what was seen on the way.
//
// Loops that a compiler turns into vector code for whatever it is told to compile for, without branches
// that depend on a pixel. A channel of a block is small enough to be read twice and to come from the
// nearest cache the second time, and long enough for memory to run ahead.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

#include "pixel.h"

namespace esccs {

constexpr std::int64_t kBlock = 8192;  // pixels
constexpr int kLanes = 16;  // sums of floats, the same number everywhere, so that every host rounds alike

// As many floats as fit in a register of the instruction set that the code is compiled for. A type of its own,
// since compilers keep accumulators that are plain arrays in memory.
template <int Bytes>
struct Vector {
    typedef float Type __attribute__((vector_size(Bytes)));
};

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

template <bool Clipped, typename T>
ESCCS_HD std::int32_t write_integers(const T *in, float *__restrict out, std::int64_t count, const Params &p,
                                     float mean, float inv_std) {
    const float scale = p.dn_scale, offset = p.dn_offset, low = p.low, high = p.high;
    std::int32_t sum = 0;  // holds a block of 16-bit numbers
    for (std::int64_t i = 0; i < count; ++i) {
        const std::int32_t stored = in[i];
        sum += stored;
        const float value = physical(static_cast<float>(stored), scale, offset);
        out[i] = normalize(Clipped ? clip(value, low, high) : value, mean, inv_std);
    }
    return sum;
}
static_assert(kBlock * std::numeric_limits<std::uint16_t>::max() < std::numeric_limits<std::int32_t>::max());

// Integers in two loops. The first looks for the range, many numbers at a time while they are narrow; what
// lies within the clip range as a whole is then written without clipping.
template <int, typename T>
ESCCS_HD std::enable_if_t<std::is_integral_v<T>, Seen<T>> write_channel(const T *in, float *__restrict out,
                                                                        std::int64_t count, const Params &p,
                                                                        float mean, float inv_std) {
    T lowest = std::numeric_limits<T>::max(), highest = std::numeric_limits<T>::min();
    for (std::int64_t i = 0; i < count; ++i) {
        lowest = in[i] < lowest ? in[i] : lowest;
        highest = in[i] > highest ? in[i] : highest;
    }
    const bool inside = unit_of(lowest, p.dn_scale, p.dn_offset) >= p.low &&
                        unit_of(highest, p.dn_scale, p.dn_offset) <= p.high;
    const std::int32_t sum = inside ? write_integers<false>(in, out, count, p, mean, inv_std)
                                    : write_integers<true>(in, out, count, p, mean, inv_std);
    return {lowest, highest, static_cast<double>(sum)};
}

// Floats in one loop, since nothing is saved by knowing the range first.
template <int Bytes>
ESCCS_HD Seen<float> write_channel(const float *in, float *__restrict out, std::int64_t count, const Params &p,
                                   float mean, float inv_std) {
    using Floats = typename Vector<Bytes>::Type;
    constexpr int width = Bytes / sizeof(float), parts = kLanes / width;
    constexpr float infinity = std::numeric_limits<float>::infinity();
    const float low = p.low, high = p.high;
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
            value = value < low ? Floats{} + low : value;
            value = value > high ? Floats{} + high : value;
            value = (value - mean) * inv_std;
            std::memcpy(out + i + part * width, &value, sizeof value);
        }
    Seen<float> seen{infinity, -infinity, 0.0};
    for (std::int64_t i = whole; i < count; ++i) {
        seen.lowest = std::min(seen.lowest, in[i]);
        seen.highest = std::max(seen.highest, in[i]);
        seen.sum += in[i];
        out[i] = normalize(clip(in[i], low, high), mean, inv_std);
    }
    for (int part = 0; part < parts; ++part)
        for (int lane = 0; lane < width; ++lane) {
            seen.lowest = std::min(seen.lowest, lowest[part][lane]);
            seen.highest = std::max(seen.highest, highest[part][lane]);
            seen.sum += sum[part][lane];
        }
    return seen;
}

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

// How many values lie below and above the clip range; asked only where the range of a block says that some do.
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
template <int Bytes, typename T>
ESCCS_HD bool whole_channel(const T *in, float *out, std::int64_t count, float mean, float inv_std, const Params &p,
                            Stats &stats) {
    const Seen<T> seen = write_channel<Bytes>(in, out, count, p, mean, inv_std);
    const float lowest = unit_of(seen.lowest, p.dn_scale, p.dn_offset);
    const float highest = unit_of(seen.highest, p.dn_scale, p.dn_offset);
    if (lowest < p.low || highest > p.high) count_outside(in, count, p, stats);
    stats.minimum = std::min(stats.minimum, lowest);
    stats.maximum = std::max(stats.maximum, highest);
    stats.sum += sum_in_unit<T>(seen.sum, count, p);
    return is_finite(static_cast<float>(seen.sum));
}

// Puts `fill` in the place of what is not usable; by bits, since a choice may become a branch.
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

// The same where only some are usable: the others take the value of `usable`, which leaves the range as it
// is, and are taken back afterwards.
template <int Bytes, typename T>
ESCCS_HD void partial_channel(const T *in, float *out, const std::uint8_t *ok, std::int64_t count, std::int64_t usable,
                              std::int64_t first, float mean, float inv_std, const Params &p, Stats &stats) {
    T filled[kBlock];
    const T fill = in[first];
    keep_usable(in, ok, count, fill, filled);
    Stats all;
    whole_channel<Bytes>(filled, out, count, mean, inv_std, p, all);
    keep_usable(out, ok, count, 0.0f, out);
    const float value = unit_of(fill, p.dn_scale, p.dn_offset);
    stats.below += all.below - (value < p.low ? count - usable : 0);
    stats.above += all.above - (value > p.high ? count - usable : 0);
    stats.minimum = std::min(stats.minimum, all.minimum);
    stats.maximum = std::max(stats.maximum, all.maximum);
    keep_usable(in, ok, count, T{0}, filled);
    stats.sum += sum_in_unit<T>(sum_of<Bytes>(filled, count), usable, p);
}

}  // namespace esccs

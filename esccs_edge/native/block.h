// One block of pixels of a patch, all channels: which pixels are usable, and then channel by channel.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "channel.h"

namespace esccs {

// Marks usable pixels in `ok` and returns how many there are.
template <typename T>
ESCCS_HD std::int64_t mark_usable(const T *in, std::uint8_t *ok, std::int64_t count, const Params &p, Stats &stats) {
    std::uint8_t absent[kBlock], finite[kBlock];
    const float nodata = p.nodata;
    std::memset(absent, p.has_nodata, count);
    std::memset(finite, 1, count);
    for (std::int64_t c = 0; c < p.channels; ++c) {
        const T *stored = in + c * p.pixels;
        for (std::int64_t i = 0; i < count; ++i) absent[i] &= static_cast<float>(stored[i]) == nodata;
        if constexpr (std::is_floating_point_v<T>)
            for (std::int64_t i = 0; i < count; ++i) finite[i] &= is_finite(stored[i]);
    }
    std::int32_t usable = 0, numbers = 0;
    for (std::int64_t i = 0; i < count; ++i) {
        ok[i] = finite[i] & (absent[i] ^ 1);
        usable += ok[i];
        numbers += finite[i];
    }
    stats.nonfinite += count - numbers;
    stats.valid += usable;
    return usable;
}

template <typename T>
ESCCS_HD bool holds(const T *in, std::int64_t count, float wanted) {
    std::int32_t hits = 0;
    for (std::int64_t i = 0; i < count; ++i) hits += static_cast<float>(in[i]) == wanted;
    return hits != 0;
}

// Returns false if a number was NaN or infinite.
template <typename T>
ESCCS_HD bool to_decibel(const T *in, float *__restrict db, std::int64_t count, const Params &p) {
    const float scale = p.dn_scale, offset = p.dn_offset;
    std::int32_t finite = 0;
    for (std::int64_t i = 0; i < count; ++i) {
        finite += is_finite(static_cast<float>(in[i]));
        db[i] = decibel(unit_of(in[i], scale, offset));
    }
    return finite == count;
}

// `in` and `out` point at the block in the first channel.
template <int Bytes, typename T, bool Decibel>
ESCCS_HD void block(const T *in, float *out, std::int64_t count, const Params &p, Stats &stats) {
    std::uint8_t ok[kBlock];
    std::int64_t usable = count, first = 0;
    const auto channels = [&](bool partial, Stats &seen) __attribute__((always_inline)) {
        bool finite = true;
        for (std::int64_t c = 0; c < p.channels; ++c) {
            const T *stored = in + c * p.pixels;
            float *normal = out + c * p.pixels, mean = p.mean[c], inv_std = p.inv_std[c];
            const auto one = [&](const auto *values) __attribute__((always_inline)) {
                if (partial)
                    partial_channel<Bytes>(values, normal, ok, count, usable, first, mean, inv_std, p, seen);
                else
                    finite &= whole_channel<Bytes>(values, normal, count, mean, inv_std, p, seen);
            };
            if constexpr (Decibel) {
                float db[kBlock];
                finite &= to_decibel(stored, db, count, p);
                one(db);
            } else {
                one(stored);
            }
        }
        return finite;
    };

    // Nearly every block is usable as a whole. It is taken so until it turns out otherwise.
    if (!p.has_nodata || !holds(in, count, p.nodata)) {
        Stats whole;
        whole.valid = count;
        if (channels(false, whole)) return stats.merge(whole);
    }
    usable = mark_usable(in, ok, count, p, stats);
    if (!usable) {
        for (std::int64_t c = 0; c < p.channels; ++c) std::fill_n(out + c * p.pixels, count, 0.0f);
        return;
    }
    first = std::find(ok, ok + count, 1) - ok;
    channels(true, stats);
}

}  // namespace esccs

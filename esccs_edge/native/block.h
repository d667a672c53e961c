// One block of pixels of a patch, all channels: which pixels are usable, and then channel by channel.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "channel.h"
#include "interleave.h"

namespace esccs {

constexpr std::int64_t kTile = 2048;  // pixels of a block whose channels are interleaved: a tile fits the first-level cache
static_assert(kTile <= kBlock && kTile % kGroup == 0);

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

// Where the channels of a block are written: float32 each to its own plane of a patch.
template <typename Out>
struct Rows {
    static constexpr bool prefetches = false;
    Out *out;
    const Params &p;

    ESCCS_HD Rows(Out *first, std::int64_t, const Params &params) : out(first), p(params) {}
    ESCCS_HD Out *row(std::int64_t channel) { return out + channel * p.pixels; }
    ESCCS_HD void done(std::int64_t) {}
    ESCCS_HD void nothing(std::int64_t count) {
        for (std::int64_t c = 0; c < p.channels; ++c) std::fill_n(row(c), count, kNothing<Out>);
    }
};

// Bytes into a tile, and from there all channels of a pixel side by side.
template <>
struct Rows<std::uint8_t> {
    // Tiles are too short for the hardware prefetcher, so the next channel is prefetched by hand.
    static constexpr bool prefetches = true;
    std::uint8_t *out;
    std::int64_t count;
    const Params &p;
    alignas(64) std::uint8_t tile[kGroup * kTile];

    ESCCS_HD Rows(std::uint8_t *first, std::int64_t pixels, const Params &params)
        : out(first), count(pixels), p(params) {}
    ESCCS_HD std::uint8_t *row(std::int64_t channel) { return tile + channel % kGroup * kTile; }
    ESCCS_HD void done(std::int64_t channel) {
        const std::int64_t first = channel / kGroup * kGroup, filled = channel + 1 - first;
        if (filled == kGroup || channel + 1 == p.channels)
            interleave(tile, kTile, filled, p.channels, out + first, count);
    }
    ESCCS_HD void nothing(std::int64_t pixels) { std::memset(out, kZeroStep, pixels * p.channels); }
};

// `in` and `out` point at the block in the first channel.
template <int Bytes, typename T, bool Decibel, typename Out>
ESCCS_HD void block(const T *in, Out *out, std::int64_t count, const Params &p, Stats &stats) {
    std::uint8_t ok[kBlock];
    Rows<Out> rows(out, count, p);
    std::int64_t usable = count, first = 0;
    const auto channels = [&](bool partial, Stats &seen) __attribute__((always_inline)) {
        bool finite = true;
        for (std::int64_t c = 0; c < p.channels; ++c) {
            const T *stored = in + c * p.pixels;
            const auto one = [&](const auto *values, const auto *next) __attribute__((always_inline)) {
                const Writer<std::decay_t<decltype(*values)>, Out> writer(p, c);
                if (partial)
                    partial_channel<Bytes>(values, rows.row(c), ok, count, usable, first, writer, p, seen);
                else
                    finite &= whole_channel<Bytes>(values, rows.row(c), count, writer, p, seen, next);
            };
            if constexpr (Decibel) {
                float db[kBlock];
                finite &= to_decibel(stored, db, count, p);
                one(db, static_cast<const float *>(nullptr));
            } else {
                const T *next = c + 1 < p.channels ? stored + p.pixels : in + count;
                one(stored, rows.prefetches ? next : nullptr);
            }
            rows.done(c);
        }
        return finite;
    };

    // Optimistic pass, since nearly every block is usable as a whole; on the first pixel that is not, the block
    // is done again with a mask.
    if (!p.has_nodata || !holds(in, count, p.nodata)) {
        Stats whole;
        whole.valid = count;
        if (channels(false, whole)) return stats.merge(whole);
    }
    usable = mark_usable(in, ok, count, p, stats);
    if (!usable) return rows.nothing(count);
    first = std::find(ok, ok + count, 1) - ok;
    channels(true, stats);
}

}  // namespace esccs

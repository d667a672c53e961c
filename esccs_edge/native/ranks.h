// Some pixels of each band of a patch: which values half of them, a tenth of them lie below, and how fine the
// steps are that they come in. What the bulk of a patch is judged by; see pixels/band_values.py.
#pragma once

#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

#include "pixel.h"

namespace esccs {

constexpr std::int64_t kMostPlaces = 1024;  // pixels of a band that are looked at, at most
constexpr std::int64_t kMostRanks = 8;

// Unsigned numbers in the order of the stored ones, so that ranks are found by comparing alone; not narrower than
// what counts the places.
template <typename T>
using Key = std::conditional_t<std::is_floating_point_v<T>, std::uint32_t, std::uint16_t>;

template <typename T>
ESCCS_HD Key<T> key_of(T stored) {
    if constexpr (std::is_floating_point_v<T>) {
        const std::int32_t bits = bits_of(stored);
        return static_cast<std::uint32_t>(bits ^ (bits >> 31 | std::numeric_limits<std::int32_t>::min()));
    } else {
        return static_cast<std::uint16_t>(stored - std::numeric_limits<T>::min());
    }
}

template <typename T>
ESCCS_HD double value_of(Key<T> key) {
    if constexpr (std::is_floating_point_v<T>) {
        const std::int32_t bits = static_cast<std::int32_t>(key);
        return float_of(bits ^ (~bits >> 31 | std::numeric_limits<std::int32_t>::min()));
    } else {
        return static_cast<double>(key) + std::numeric_limits<T>::min();
    }
}

// The keys that so many others lie below, bit by bit from the highest in which any two differ: no branch depends
// on a pixel, and a few vector instructions compare a band.
template <typename K>
ESCCS_HD void ranked(const K *keys, std::int64_t count, const std::int64_t *order, std::int64_t ranks, K *found) {
    K lowest = std::numeric_limits<K>::max(), highest = 0;
    for (std::int64_t i = 0; i < count; ++i) {
        lowest = keys[i] < lowest ? keys[i] : lowest;
        highest = keys[i] > highest ? keys[i] : highest;
    }
    int bits = 0;
    while (bits < std::numeric_limits<K>::digits && (lowest ^ highest) >> bits) ++bits;
    for (std::int64_t r = 0; r < ranks; ++r)
        found[r] = static_cast<K>(static_cast<std::uint64_t>(lowest) >> bits << bits);
    while (bits--)
        for (std::int64_t r = 0; r < ranks; ++r) {
            const K candidate = static_cast<K>(found[r] | K{1} << bits);
            K below = 0;
#pragma GCC unroll 4
            for (std::int64_t i = 0; i < count; ++i) below += keys[i] < candidate ? 1 : 0;
            found[r] = below <= order[r] ? candidate : found[r];
        }
}

// The smallest difference between two values that differ; 0 where there are fewer than three values.
template <typename T>
ESCCS_HD double finest_step(const T *stored, std::int64_t count) {
    float values[kMostPlaces];
    for (std::int64_t i = 0; i < count; ++i) values[i] = static_cast<float>(stored[i]);
    // Positive floats are ordered as their bits; less one, 0 and whatever is negative come after all of them.
    std::uint32_t nearest = std::numeric_limits<std::uint32_t>::max();
    std::int32_t others = 0;
    for (std::int64_t i = 0; i < count; ++i) {
        std::uint32_t above = std::numeric_limits<std::uint32_t>::max();
        std::uint32_t sides = 0;
        for (std::int64_t j = 0; j < count; ++j) {
            const float difference = values[j] - values[i];
            const std::uint32_t bits = static_cast<std::uint32_t>(bits_of(difference)) - 1;
            above = bits < above ? bits : above;
            sides |= (difference > 0 ? 1u : 0u) | (difference < 0 ? 2u : 0u);
        }
        nearest = above < nearest ? above : nearest;
        others |= sides == 3;
    }
    return others ? float_of(static_cast<std::int32_t>(nearest + 1)) : 0.0;
}

// Where to look, and for what; the same for every patch of a batch.
struct Look {
    const std::int64_t *places;  // (channels, count), counted from the patch
    std::int64_t channels, count;
    const std::int64_t *order;  // ranks among `count` sorted values
    std::int64_t ranks;
    std::int64_t stepped;  // channel whose steps are looked at, or -1
    double dn_scale, dn_offset;
};

// Fills (ranks, channels) and the step, integers in the unit of the modality, floats as they are. Places lie far
// apart, so that a patch that left the cache is fetched ahead: waiting for it takes several times as long as the rest.
template <typename T>
ESCCS_HD void look_at_bands(const T *in, const Look &look, double *out, double *step) {
    const auto in_unit = [&](double stored) {
        return std::is_integral_v<T> ? (stored + look.dn_offset) * look.dn_scale : stored;
    };
    *step = 0.0;
    for (std::int64_t c = 0; c < look.channels; ++c) {
        T stored[kMostPlaces];
        Key<T> keys[kMostPlaces];
        for (std::int64_t i = 0; i < look.count; ++i) stored[i] = in[look.places[c * look.count + i]];
        const std::int64_t *next = look.places + (c + 1) * look.count;
        for (std::int64_t i = 0; i < (c + 1 < look.channels ? look.count : 0); ++i) __builtin_prefetch(in + next[i]);
        for (std::int64_t i = 0; i < look.count; ++i) keys[i] = key_of(stored[i]);
        Key<T> found[kMostRanks];
        ranked(keys, look.count, look.order, look.ranks, found);
        for (std::int64_t r = 0; r < look.ranks; ++r) out[r * look.channels + c] = in_unit(value_of<T>(found[r]));
        if (c == look.stepped)
            *step = finest_step(stored, look.count) * (std::is_integral_v<T> ? look.dn_scale : 1.0);
    }
}

}  // namespace esccs

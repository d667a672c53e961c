// Channels of bytes, one after the other -> pixels, one after the other.
#pragma once

#include <cstdint>
#include <cstring>

#include "pixel.h"

namespace esccs {

constexpr std::int64_t kGroup = 16;  // bytes in the smallest register, and channels handled at once

typedef std::uint8_t Register __attribute__((vector_size(kGroup)));

// Bytes of two registers by their numbers; every compiler has its own word for it.
#if defined(__clang__)
#define ESCCS_PICK(A, B, ...) __builtin_shufflevector(A, B, __VA_ARGS__)
#else
#define ESCCS_PICK(A, B, ...) __builtin_shuffle(A, B, Register{__VA_ARGS__})
#endif

// `Padded` rows of 16 pixels -> 16 pixels of `Padded` bytes: pairs of rows are zipped, log2(Padded) times.
template <int Padded>
ESCCS_HD void transpose(Register *rows) {
    for (int round = 1; round < Padded; round *= 2) {
        Register zipped[Padded];
        for (int row = 0; row < Padded / 2; ++row) {
            const Register one = rows[row], other = rows[row + Padded / 2];
            zipped[2 * row] = ESCCS_PICK(one, other, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
            zipped[2 * row + 1] = ESCCS_PICK(one, other, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
        }
        std::memcpy(rows, zipped, sizeof zipped);
    }
}

// The next 16 pixels of `Padded` channels, of which `channels` are there.
template <int Padded>
ESCCS_HD void gather(const std::uint8_t *tile, std::int64_t stride, std::int64_t channels, Register *rows) {
#pragma GCC unroll 16
    for (int c = 0; c < Padded; ++c)
        if (c < channels)
            std::memcpy(rows + c, tile + c * stride, kGroup);
        else
            rows[c] = Register{};
    transpose<Padded>(rows);
}

// All `channels` of `count` pixels. A pixel is stored with its padding, which the next pixel overwrites; so the
// last pixels are left to do. Returns how many are done.
template <int Padded>
ESCCS_HD std::int64_t interleave_most(const std::uint8_t *tile, std::int64_t stride, std::int64_t channels,
                                      std::uint8_t *out, std::int64_t count) {
    constexpr int each = kGroup / Padded;  // pixels in a register
    std::int64_t first = 0;
    for (; first + 2 * kGroup <= count; first += kGroup) {
        Register rows[Padded];
        gather<Padded>(tile + first, stride, channels, rows);
        std::uint8_t *to = out + first * channels;
#pragma GCC unroll 16
        for (int row = 0; row < Padded; ++row)
            for (int i = 0; i < each; ++i)
                std::memcpy(to + (row * each + i) * channels, reinterpret_cast<std::uint8_t *>(rows + row) + i * Padded,
                            Padded);
    }
    return first;
}

// The same where a pixel needs no padding.
template <int Padded>
ESCCS_HD std::int64_t interleave_exactly(const std::uint8_t *tile, std::int64_t stride, std::uint8_t *out,
                                         std::int64_t count) {
    std::int64_t first = 0;
    for (; first + kGroup <= count; first += kGroup) {
        Register rows[Padded];
        gather<Padded>(tile + first, stride, Padded, rows);
#pragma GCC unroll 16
        for (int row = 0; row < Padded; ++row) std::memcpy(out + first * Padded + row * kGroup, rows + row, kGroup);
    }
    return first;
}

// Channel c of pixel i, at tile[c * stride + i], goes to out[i * all + c].
ESCCS_HD void interleave(const std::uint8_t *tile, std::int64_t stride, std::int64_t channels, std::int64_t all,
                         std::uint8_t *out, std::int64_t count) {
    std::int64_t done = 0;
    if (channels != all)
        done = 0;  // other channels stand between
    else if (channels == 2)
        done = interleave_exactly<2>(tile, stride, out, count);
    else if (channels == 4)
        done = interleave_exactly<4>(tile, stride, out, count);
    else if (channels <= 8)
        done = interleave_most<8>(tile, stride, channels, out, count);
    else
        done = interleave_most<16>(tile, stride, channels, out, count);
    for (std::int64_t i = done; i < count; ++i)
        for (std::int64_t c = 0; c < channels; ++c) out[i * all + c] = tile[c * stride + i];
}

}  // namespace esccs

// Fused preprocessing on the CPU: stored pixels -> normalised float32, with the counts that say how
// usable they were. One pass over memory: a block of pixels is small enough to stay in the cache
// while its validity mask is made and its channels are written.

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <limits>
#include <optional>
#include <stdexcept>
#include <thread>
#include <vector>

#include "pixel.h"

namespace nb = nanobind;

// Compiled for a plain x86-64 and again for AVX2 and AVX-512; the loader picks at run time.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define ESCCS_SIMD __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define ESCCS_SIMD
#endif

namespace {

constexpr std::int64_t kBlock = 2048;  // pixels; 13 uint16 bands of a block are 52 KB
constexpr int kLanes = 16;             // independent accumulators, so that reductions vectorise
constexpr std::int64_t kPixelsPerThread = 1 << 15;  // below this a thread costs more than it saves

struct Params {
    float dn_scale, dn_offset, nodata, low, high;
    bool has_nodata, linear_to_db;
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

struct Accumulators {
    float minimum[kLanes], maximum[kLanes], sum[kLanes];
    std::int32_t below[kLanes], above[kLanes];

    Accumulators() {
        std::fill_n(minimum, kLanes, std::numeric_limits<float>::infinity());
        std::fill_n(maximum, kLanes, -std::numeric_limits<float>::infinity());
        std::fill_n(sum, kLanes, 0.0f);
        std::fill_n(below, kLanes, 0);
        std::fill_n(above, kLanes, 0);
    }

    void flush(Stats &stats) const {
        for (int lane = 0; lane < kLanes; ++lane) {
            stats.minimum = std::min(stats.minimum, minimum[lane]);
            stats.maximum = std::max(stats.maximum, maximum[lane]);
            stats.sum += sum[lane];
            stats.below += below[lane];
            stats.above += above[lane];
        }
    }
};

template <bool Masked, bool Decibel>
ESCCS_HD float one_value(float stored, bool ok, const Params &p, float scale, float offset, float mean,
                         float inv_std, int lane, Accumulators &acc) {
    const float unit = esccs::physical(stored, scale, offset);
    const float raw = Decibel ? esccs::decibel(unit) : unit;
    // A masked pixel takes the low end of the clip range, which counts as neither below nor above.
    const float value = Masked && !ok ? p.low : raw;
    acc.below[lane] += value < p.low;
    acc.above[lane] += value > p.high;
    if (Masked) {
        acc.minimum[lane] = ok && value < acc.minimum[lane] ? value : acc.minimum[lane];
        acc.maximum[lane] = ok && value > acc.maximum[lane] ? value : acc.maximum[lane];
        acc.sum[lane] += ok ? value : 0.0f;
    } else {
        acc.minimum[lane] = value < acc.minimum[lane] ? value : acc.minimum[lane];
        acc.maximum[lane] = value > acc.maximum[lane] ? value : acc.maximum[lane];
        acc.sum[lane] += value;
    }
    const float out = esccs::normalize(esccs::clip(value, p.low, p.high), mean, inv_std);
    return Masked && !ok ? 0.0f : out;
}

template <typename T, bool Masked, bool Decibel>
ESCCS_HD void write_channel(const T *in, float *out, const std::uint8_t *ok, std::int64_t count,
                            const Params &p, float scale, float offset, float mean, float inv_std,
                            Stats &stats) {
    Accumulators acc;
    std::int64_t i = 0;
    for (; i + kLanes <= count; i += kLanes)
        for (int lane = 0; lane < kLanes; ++lane)
            out[i + lane] = one_value<Masked, Decibel>(static_cast<float>(in[i + lane]), Masked && ok[i + lane],
                                                       p, scale, offset, mean, inv_std, lane, acc);
    for (; i < count; ++i)
        out[i] = one_value<Masked, Decibel>(static_cast<float>(in[i]), Masked && ok[i], p, scale, offset, mean,
                                            inv_std, 0, acc);
    acc.flush(stats);
}

// Marks usable pixels in `ok`; returns true when every pixel of the block is usable.
template <typename T>
ESCCS_HD bool mark_valid(const T *in, std::uint8_t *ok, std::int64_t count, const Params &p, Stats &stats) {
    std::uint8_t absent[kBlock], finite[kBlock];
    std::int64_t maybe_absent = 0, bad = 0;
    if (p.has_nodata)
        for (std::int64_t i = 0; i < count; ++i) {
            absent[i] = static_cast<float>(in[i]) == p.nodata;
            maybe_absent += absent[i];
        }
    if (maybe_absent)
        for (std::int64_t c = 1; c < p.channels; ++c)
            for (std::int64_t i = 0; i < count; ++i)
                absent[i] &= static_cast<float>(in[c * p.pixels + i]) == p.nodata;
    if constexpr (std::is_floating_point_v<T>) {
        std::fill_n(finite, count, std::uint8_t{1});
        for (std::int64_t c = 0; c < p.channels; ++c)
            for (std::int64_t i = 0; i < count; ++i) finite[i] &= esccs::is_finite(in[c * p.pixels + i]);
        for (std::int64_t i = 0; i < count; ++i) bad += !finite[i];
    }
    stats.nonfinite += bad;
    if (!maybe_absent && !bad) {
        stats.valid += count;
        return true;
    }
    std::int64_t valid = 0;
    for (std::int64_t i = 0; i < count; ++i) {
        ok[i] = !(maybe_absent && absent[i]) && !(bad && !finite[i]);
        valid += ok[i];
    }
    stats.valid += valid;
    return valid == count;
}

template <typename T, bool Decibel>
ESCCS_HD void block(const T *in, float *out, std::int64_t count, const Params &p, Stats &stats) {
    constexpr bool is_dn = !std::is_floating_point_v<T>;
    const float scale = is_dn ? p.dn_scale : 1.0f, offset = is_dn ? p.dn_offset : 0.0f;
    std::uint8_t ok[kBlock];
    const bool all = mark_valid(in, ok, count, p, stats);
    for (std::int64_t c = 0; c < p.channels; ++c) {
        const std::int64_t at = c * p.pixels;
        if (all)
            write_channel<T, false, Decibel>(in + at, out + at, ok, count, p, scale, offset, p.mean[c],
                                             p.inv_std[c], stats);
        else
            write_channel<T, true, Decibel>(in + at, out + at, ok, count, p, scale, offset, p.mean[c],
                                            p.inv_std[c], stats);
    }
}

#define ESCCS_BLOCK(NAME, TYPE, DECIBEL)                                                                   \
    ESCCS_SIMD void NAME(const void *in, float *out, std::int64_t count, const Params &p, Stats &stats) { \
        block<TYPE, DECIBEL>(static_cast<const TYPE *>(in), out, count, p, stats);                         \
    }
ESCCS_BLOCK(block_u8, std::uint8_t, false)
ESCCS_BLOCK(block_u16, std::uint16_t, false)
ESCCS_BLOCK(block_i16, std::int16_t, false)
ESCCS_BLOCK(block_f32, float, false)
ESCCS_BLOCK(block_u8_db, std::uint8_t, true)
ESCCS_BLOCK(block_u16_db, std::uint16_t, true)
ESCCS_BLOCK(block_i16_db, std::int16_t, true)
ESCCS_BLOCK(block_f32_db, float, true)

using BlockFn = void (*)(const void *, float *, std::int64_t, const Params &, Stats &);
using Image = nb::ndarray<nb::ro, nb::ndim<3>, nb::c_contig, nb::device::cpu>;
using Output = nb::ndarray<float, nb::ndim<4>, nb::c_contig, nb::device::cpu>;
using Vector = nb::ndarray<const float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using StatsTable = nb::ndarray<double, nb::shape<-1, 7>, nb::c_contig, nb::device::cpu>;

BlockFn block_for(const Image &image, bool to_db) {
    if (image.dtype() == nb::dtype<std::uint16_t>()) return to_db ? block_u16_db : block_u16;
    if (image.dtype() == nb::dtype<float>()) return to_db ? block_f32_db : block_f32;
    if (image.dtype() == nb::dtype<std::int16_t>()) return to_db ? block_i16_db : block_i16;
    if (image.dtype() == nb::dtype<std::uint8_t>()) return to_db ? block_u8_db : block_u8;
    throw std::invalid_argument("pixels must be uint8, uint16, int16 or float32");
}

struct Job {
    const void *in = nullptr;
    std::int64_t itemsize = 0;
    float *out = nullptr;
    BlockFn run = nullptr;
};

void preprocess(std::vector<std::optional<Image>> images, Output out, Vector mean, Vector inv_std,
                StatsTable stats_out, float dn_scale, float dn_offset, std::optional<float> nodata, float low,
                float high, bool linear_to_db, int threads) {
    const std::int64_t count = images.size(), channels = out.shape(1), pixels = out.shape(2) * out.shape(3);
    if (count > static_cast<std::int64_t>(out.shape(0)) || count > static_cast<std::int64_t>(stats_out.shape(0)))
        throw std::invalid_argument("output holds fewer rows than there are images");
    if (static_cast<std::int64_t>(mean.shape(0)) != channels || static_cast<std::int64_t>(inv_std.shape(0)) != channels)
        throw std::invalid_argument("mean and inv_std must have one value per channel");
    const Params p{dn_scale, dn_offset, nodata.value_or(0.0f), low,    high, nodata.has_value(), linear_to_db,
                   mean.data(), inv_std.data(), channels, pixels};

    std::vector<Job> jobs(count);
    for (std::int64_t n = 0; n < count; ++n) {
        jobs[n].out = out.data() + n * channels * pixels;
        if (!images[n]) continue;
        const Image &image = *images[n];
        for (int axis = 0; axis < 3; ++axis)
            if (image.shape(axis) != out.shape(axis + 1))
                throw std::invalid_argument("image and output shapes differ");
        jobs[n].in = image.data();
        jobs[n].itemsize = image.itemsize();
        jobs[n].run = block_for(image, linear_to_db);
    }

    nb::gil_scoped_release release;
    const std::int64_t blocks = (pixels + kBlock - 1) / kBlock, units = count * blocks;
    const std::int64_t useful = 1 + count * channels * pixels / (channels * kPixelsPerThread);
    const std::int64_t workers = std::clamp<std::int64_t>(std::min<std::int64_t>(threads, useful), 1, std::max<std::int64_t>(units, 1));
    std::vector<std::vector<Stats>> partial(workers, std::vector<Stats>(count));

    auto work = [&](std::int64_t worker) {
        for (std::int64_t unit = units * worker / workers; unit < units * (worker + 1) / workers; ++unit) {
            const Job &job = jobs[unit / blocks];
            const std::int64_t start = unit % blocks * kBlock, length = std::min(kBlock, pixels - start);
            if (job.in)
                job.run(static_cast<const char *>(job.in) + start * job.itemsize, job.out + start, length, p,
                        partial[worker][unit / blocks]);
            else
                for (std::int64_t c = 0; c < channels; ++c) std::fill_n(job.out + c * pixels + start, length, 0.0f);
        }
    };
    std::vector<std::thread> crew;
    for (std::int64_t worker = 1; worker < workers; ++worker) crew.emplace_back(work, worker);
    work(0);
    for (auto &thread : crew) thread.join();

    for (std::int64_t n = 0; n < count; ++n) {
        Stats total;
        for (const auto &stats : partial) total.merge(stats[n]);
        const double values = static_cast<double>(total.valid) * channels;
        const double none = std::numeric_limits<double>::quiet_NaN();
        double *row = stats_out.data() + n * 7;
        row[0] = total.valid;
        row[1] = total.nonfinite;
        row[2] = total.below;
        row[3] = total.above;
        row[4] = total.valid ? total.minimum : none;
        row[5] = total.valid ? total.maximum : none;
        row[6] = total.valid ? total.sum / values : none;
    }
}

}  // namespace

NB_MODULE(_preprocess_cpu, m) {
    m.doc() = "Fused preprocessing kernels; call esccs_edge.preprocess instead.";
    m.def("preprocess", &preprocess, nb::arg("images"), nb::arg("out"), nb::arg("mean"), nb::arg("inv_std"),
          nb::arg("stats"), nb::arg("dn_scale"), nb::arg("dn_offset"), nb::arg("nodata").none(), nb::arg("low"),
          nb::arg("high"), nb::arg("linear_to_db"), nb::arg("threads"));
}

// Fused preprocessing on the CPU: stored pixels -> normalized float32, with the counts that say how
// usable they were; and the ranks of each band. Here are the choice of the instruction set, the threads
// and the binding; the work on one block of pixels is in block.h, that on a few pixels in ranks.h.

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <limits>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "block.h"
#include "counts.h"
#include "crew.h"
#include "gather.h"
#include "image.h"
#include "ranks.h"

namespace nb = nanobind;

namespace {

using esccs::kBlock, esccs::kTile, esccs::Image, esccs::Look, esccs::Params, esccs::Stats;

constexpr std::int64_t kValuesPerThread = 1 << 20;  // below this a thread costs more than it saves

template <typename Out>
using BlockFn = void (*)(const void *, Out *, std::int64_t, const Params &, Stats &);
using LookFn = void (*)(const void *, const Look &, double *, double *);

// The work on a block, compiled for what every processor of the kind has (SSE2, NEON) and again for newer
// ones, so that one wheel serves all. The number is the size of a register in bytes.
#define ESCCS_RUN(NAME, BYTES, ...)                                                                               \
    template <typename T, bool Decibel, typename Out>                                                            \
    __VA_ARGS__ void NAME(const void *in, Out *out, std::int64_t count, const Params &p, Stats &stats) {         \
        esccs::block<BYTES, T, Decibel, Out>(static_cast<const T *>(in), out, count, p, stats);                  \
    }                                                                                                             \
    template <typename T>                                                                                        \
    __VA_ARGS__ void NAME##_look(const void *in, const Look &look, double *ranks, double *step) {                \
        esccs::look_at_bands(static_cast<const T *>(in), look, ranks, step);                                     \
    }
#define ESCCS_TABLE(NAME, OUT)                                                                                   \
    {NAME<std::uint8_t, false, OUT>, NAME<std::uint16_t, false, OUT>, NAME<std::int16_t, false, OUT>,            \
     NAME<float, false, OUT>,        NAME<std::uint8_t, true, OUT>,   NAME<std::uint16_t, true, OUT>,            \
     NAME<std::int16_t, true, OUT>,  NAME<float, true, OUT>}
#define ESCCS_LOOKS(NAME)                                                                                        \
    {NAME##_look<std::uint8_t>, NAME##_look<std::uint16_t>, NAME##_look<std::int16_t>, NAME##_look<float>}
#define ESCCS_SET(NAME, FUNCTION)                                                                                \
    {NAME, ESCCS_TABLE(FUNCTION, float), ESCCS_TABLE(FUNCTION, std::uint8_t), ESCCS_LOOKS(FUNCTION)}

struct InstructionSet {
    const char *name;
    // in the order of Dtype; then the same from linear to dB
    BlockFn<float> planes[8];
    BlockFn<std::uint8_t> steps[8];
    LookFn looks[4];
};

ESCCS_RUN(run_baseline, 16, )
#if defined(__x86_64__)
ESCCS_RUN(run_avx2, 32, __attribute__((target("avx2"))))
ESCCS_RUN(run_avx512, 64, __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,prefer-vector-width=512"))))
#endif

// What this processor has, best first.
std::vector<InstructionSet> instruction_sets() {
    std::vector<InstructionSet> sets;
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq"))
        sets.push_back(ESCCS_SET("avx512", run_avx512));
    if (__builtin_cpu_supports("avx2")) sets.push_back(ESCCS_SET("avx2", run_avx2));
#endif
    sets.push_back(ESCCS_SET("baseline", run_baseline));
    return sets;
}

InstructionSet &chosen_set() {
    static InstructionSet chosen = instruction_sets().front();
    return chosen;
}

std::vector<std::string> names_of_sets() {
    std::vector<std::string> names;
    for (const InstructionSet &set : instruction_sets()) names.push_back(set.name);
    return names;
}

void use_set(const std::string &name) {
    for (const InstructionSet &set : instruction_sets())
        if (set.name == name) {
            chosen_set() = set;
            return;
        }
    throw std::invalid_argument("this processor has no instruction set of that name");
}

// Float32, each channel a plane; or steps, all channels of a pixel side by side.
using Planes = nb::ndarray<float, nb::ndim<4>, nb::c_contig, nb::device::cpu>;
using Steps = nb::ndarray<std::uint8_t, nb::ndim<4>, nb::c_contig, nb::device::cpu>;
using Vector = nb::ndarray<const float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using StatsTable = nb::ndarray<double, nb::shape<-1, 7>, nb::c_contig, nb::device::cpu>;

template <typename Out>
constexpr bool kPlanar = std::is_same_v<Out, float>;

template <typename Out>
BlockFn<Out> block_for(const Image &image, bool to_db) {
    const InstructionSet &set = chosen_set();
    const int entry = esccs::dtype_of(image) + (to_db ? 4 : 0);
    if constexpr (kPlanar<Out>) return set.planes[entry];
    else return set.steps[entry];
}

template <typename Out>
struct Job {
    const void *in = nullptr;
    std::int64_t itemsize = 0;
    Out *out = nullptr;
    BlockFn<Out> run = nullptr;
};

template <typename Output>
void preprocess(std::vector<std::optional<Image>> images, Output out, Vector mean, Vector inv_std,
                StatsTable stats_out, float dn_scale, float dn_offset, std::optional<float> nodata, float low,
                float high, bool linear_to_db, int threads) {
    using Out = typename Output::Scalar;
    constexpr int kChannelAxis = kPlanar<Out> ? 1 : 3, kRowAxis = kPlanar<Out> ? 2 : 1;
    constexpr std::int64_t kUnit = kPlanar<Out> ? kBlock : kTile;
    const std::int64_t count = images.size(), channels = out.shape(kChannelAxis);
    const std::int64_t height = out.shape(kRowAxis), width = out.shape(kRowAxis + 1), pixels = height * width;
    if (count > static_cast<std::int64_t>(out.shape(0)) || count > static_cast<std::int64_t>(stats_out.shape(0)))
        throw std::invalid_argument("output holds fewer rows than there are images");
    if (static_cast<std::int64_t>(mean.shape(0)) != channels || static_cast<std::int64_t>(inv_std.shape(0)) != channels)
        throw std::invalid_argument("mean and inv_std must have one value per channel");
    if (!(dn_scale > 0)) throw std::invalid_argument("dn_scale must be positive");
    const Params p{dn_scale, dn_offset, nodata.value_or(0.0f), low, high, nodata.has_value(),
                   mean.data(), inv_std.data(), channels, pixels};

    std::vector<Job<Out>> jobs(count);
    for (std::int64_t n = 0; n < count; ++n) {
        jobs[n].out = out.data() + n * channels * pixels;
        if (!images[n]) continue;
        const Image &image = *images[n];
        const std::int64_t wanted[] = {channels, height, width};
        for (int axis = 0; axis < 3; ++axis)
            if (static_cast<std::int64_t>(image.shape(axis)) != wanted[axis])
                throw std::invalid_argument("image and output shapes differ");
        jobs[n].in = image.data();
        jobs[n].itemsize = image.itemsize();
        jobs[n].run = block_for<Out>(image, linear_to_db);
    }

    nb::gil_scoped_release release;
    const std::int64_t blocks = (pixels + kUnit - 1) / kUnit, units = count * blocks;
    const std::int64_t useful = std::min(units, count * channels * pixels / kValuesPerThread);
    const std::int64_t workers = std::max<std::int64_t>(std::min<std::int64_t>(threads, useful), 1);
    std::vector<std::vector<Stats>> partial(workers, std::vector<Stats>(count));

    auto work = [&](std::int64_t worker) {
        for (std::int64_t unit = units * worker / workers; unit < units * (worker + 1) / workers; ++unit) {
            const Job<Out> &job = jobs[unit / blocks];
            const std::int64_t start = unit % blocks * kUnit, length = std::min(kUnit, pixels - start);
            Out *to = job.out + start * (kPlanar<Out> ? 1 : channels);
            if (job.in)
                job.run(static_cast<const char *>(job.in) + start * job.itemsize, to, length, p,
                        partial[worker][unit / blocks]);
            else
                esccs::Rows<Out>(to, length, p).nothing(length);
        }
    };
    esccs::crew(workers, work);

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

using Places = nb::ndarray<const std::int64_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Order = nb::ndarray<const std::int64_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using RanksTable = nb::ndarray<double, nb::ndim<3>, nb::c_contig, nb::device::cpu>;
using StepsTable = nb::ndarray<double, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

// A few microseconds of work, done in the calling thread with the interpreter lock held.
void ranks(const std::vector<std::optional<Image>> &images, Places places, Order order, std::int64_t stepped,
           double dn_scale, double dn_offset, RanksTable table, StepsTable steps) {
    const Look look{places.data(), static_cast<std::int64_t>(places.shape(0)),
                    static_cast<std::int64_t>(places.shape(1)), order.data(),
                    static_cast<std::int64_t>(order.shape(0)), stepped, dn_scale, dn_offset};
    const std::int64_t count = images.size(), row = look.ranks * look.channels;
    if (look.count > esccs::kMostPlaces || look.ranks > esccs::kMostRanks)
        throw std::invalid_argument("too many places or ranks of a band");
    if (count > static_cast<std::int64_t>(steps.shape(0)) || count > static_cast<std::int64_t>(table.shape(0)) ||
        look.ranks != static_cast<std::int64_t>(table.shape(1)) ||
        look.channels != static_cast<std::int64_t>(table.shape(2)))
        throw std::invalid_argument("the tables do not have one row for each image");
    for (std::int64_t r = 0; r < look.ranks; ++r)
        if (look.order[r] < 0 || look.order[r] >= look.count) throw std::invalid_argument("no such rank");
    const std::int64_t *end = look.places + look.channels * look.count;
    const auto [first, last] = std::minmax_element(look.places, end);
    for (std::int64_t n = 0; n < count; ++n) {
        if (!images[n]) continue;
        if (first != end && (*first < 0 || *last >= static_cast<std::int64_t>(images[n]->size())))
            throw std::invalid_argument("a place lies outside of an image");
        chosen_set().looks[esccs::dtype_of(*images[n])](images[n]->data(), look, table.data() + n * row,
                                                        steps.data() + n);
    }
}

template <typename Output>
void define(nb::module_ &m, const char *name) {
    m.def(name, &preprocess<Output>, nb::arg("images"), nb::arg("out"), nb::arg("mean"), nb::arg("inv_std"),
          nb::arg("stats"), nb::arg("dn_scale"), nb::arg("dn_offset"), nb::arg("nodata").none(), nb::arg("low"),
          nb::arg("high"), nb::arg("linear_to_db"), nb::arg("threads"));
}

}  // namespace

NB_MODULE(_preprocess_cpu, m) {
    m.doc() = "Fused preprocessing kernels; call esccs_edge.pixels.preprocess instead.";
    define<Planes>(m, "preprocess");
    define<Steps>(m, "quantize");
    define_gather(m);
    define_counts(m);
    m.def("ranks", &ranks, nb::arg("images"), nb::arg("places"), nb::arg("order"), nb::arg("stepped"),
          nb::arg("dn_scale"), nb::arg("dn_offset"), nb::arg("table").noconvert(), nb::arg("steps").noconvert());
    m.def("instruction_sets", &names_of_sets, "What the kernels can use on this processor, best first.");
    m.def("use", &use_set, nb::arg("instruction_set"), "Use another one from now on; for tests.");
}

// Fused preprocessing on the CPU: stored pixels -> normalised float32, with the counts that say how
// usable they were. Here are the choice of the instruction set, the threads and the binding; the work
// on one block of pixels is in block.h.

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
#include <thread>
#include <vector>

#include "block.h"

namespace nb = nanobind;

namespace {

using esccs::kBlock, esccs::Params, esccs::Stats;

constexpr std::int64_t kValuesPerThread = 1 << 20;  // below this a thread costs more than it saves

using BlockFn = void (*)(const void *, float *, std::int64_t, const Params &, Stats &);

// The work on a block, compiled for what every processor of the kind has (SSE2, NEON) and again for newer
// ones, so that one wheel serves all. The number is the size of a register in bytes.
#define ESCCS_RUN(NAME, BYTES, ...)                                                                               \
    template <typename T, bool Decibel>                                                                          \
    __VA_ARGS__ void NAME(const void *in, float *out, std::int64_t count, const Params &p, Stats &stats) {       \
        esccs::block<BYTES, T, Decibel>(static_cast<const T *>(in), out, count, p, stats);                       \
    }
#define ESCCS_TABLE(NAME)                                                                                        \
    {NAME<std::uint8_t, false>, NAME<std::uint16_t, false>, NAME<std::int16_t, false>, NAME<float, false>,       \
     NAME<std::uint8_t, true>,  NAME<std::uint16_t, true>,  NAME<std::int16_t, true>,  NAME<float, true>}

struct InstructionSet {
    const char *name;
    BlockFn blocks[8];  // uint8, uint16, int16, float32; then the same from linear to dB
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
        sets.push_back({"avx512", ESCCS_TABLE(run_avx512)});
    if (__builtin_cpu_supports("avx2")) sets.push_back({"avx2", ESCCS_TABLE(run_avx2)});
#endif
    sets.push_back({"baseline", ESCCS_TABLE(run_baseline)});
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

using Image = nb::ndarray<nb::ro, nb::ndim<3>, nb::c_contig, nb::device::cpu>;
using Output = nb::ndarray<float, nb::ndim<4>, nb::c_contig, nb::device::cpu>;
using Vector = nb::ndarray<const float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using StatsTable = nb::ndarray<double, nb::shape<-1, 7>, nb::c_contig, nb::device::cpu>;

BlockFn block_for(const Image &image, bool to_db) {
    const nb::dlpack::dtype types[] = {nb::dtype<std::uint8_t>(), nb::dtype<std::uint16_t>(),
                                       nb::dtype<std::int16_t>(), nb::dtype<float>()};
    for (int type = 0; type < 4; ++type)
        if (image.dtype() == types[type]) return chosen_set().blocks[type + (to_db ? 4 : 0)];
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
    if (!(dn_scale > 0)) throw std::invalid_argument("dn_scale must be positive");
    const Params p{dn_scale, dn_offset, nodata.value_or(0.0f), low, high, nodata.has_value(),
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
    const std::int64_t useful = std::min(units, count * channels * pixels / kValuesPerThread);
    const std::int64_t workers = std::max<std::int64_t>(std::min<std::int64_t>(threads, useful), 1);
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
    m.def("instruction_sets", &names_of_sets, "What the kernels can use on this processor, best first.");
    m.def("use", &use_set, nb::arg("instruction_set"), "Use another one from now on; for tests.");
}

// Patches anywhere in memory -> one buffer that can be copied to the GPU at once (patch.h).

#include "gather.h"

#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "crew.h"
#include "image.h"

namespace nb = nanobind;

namespace {

using esccs::Image, esccs::Patch, esccs::kVectorBytes;

// Less than twice this is copied in the calling thread with the interpreter lock held: once released, it may take
// milliseconds to get the lock back.
constexpr std::int64_t kBytesPerThread = 4 << 20;

using Buffer = nb::ndarray<std::uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

struct Copy {
    void *to;
    const void *from;
    std::size_t size;
};

std::int64_t aligned(std::int64_t size) { return (size + kVectorBytes - 1) / kVectorBytes * kVectorBytes; }

void copy_all(const std::vector<Copy> &copies, std::int64_t threads) {
    const std::int64_t count = copies.size(), workers = std::min(threads, count);
    auto copy = [&](std::int64_t first, std::int64_t last) {
        for (std::int64_t n = first; n < last; ++n) std::memcpy(copies[n].to, copies[n].from, copies[n].size);
    };
    if (workers < 2) return copy(0, count);
    nb::gil_scoped_release release;
    esccs::crew(workers, [&](std::int64_t worker) { copy(count * worker / workers, count * (worker + 1) / workers); });
}

// The table has for each modality its patches, then absent ones up to `rows`. Returns the bytes used, and for each
// modality how many bytes a value of each patch has, 0 where it is absent.
std::pair<std::int64_t, nb::list> gather(const std::vector<std::vector<std::optional<Image>>> &modalities,
                                         std::int64_t rows, Buffer buffer, std::int64_t start, int threads) {
    for (const auto &images : modalities)
        if (static_cast<std::int64_t>(images.size()) > rows) throw std::invalid_argument("more patches than rows");
    const std::int64_t count = modalities.size() * rows, room = buffer.size();
    if (start < count * static_cast<std::int64_t>(sizeof(Patch)) || start > room ||
        reinterpret_cast<std::uintptr_t>(buffer.data()) % 8)
        throw std::invalid_argument("the table of patches does not fit before the pixels");
    std::vector<Copy> copies;
    copies.reserve(count);
    nb::list itemsizes;
    std::int64_t end = start;
    Patch *table = reinterpret_cast<Patch *>(buffer.data());
    for (const auto &images : modalities) {
        std::fill_n(table, rows, Patch{});
        std::string sizes(images.size(), 0);
        for (std::size_t n = 0; n < images.size(); ++n) {
            if (!images[n]) continue;
            const std::size_t size = images[n]->nbytes();
            if (end + static_cast<std::int64_t>(size) > room)
                throw std::invalid_argument("the buffer is too small for these patches");
            table[n] = {end, esccs::dtype_of(*images[n]), 1};
            sizes[n] = static_cast<char>(images[n]->itemsize());
            copies.push_back({buffer.data() + end, images[n]->data(), size});
            end += aligned(size);
        }
        table += rows;
        itemsizes.append(nb::bytes(sizes.data(), sizes.size()));
    }
    copy_all(copies, std::min<std::int64_t>(threads, (end - start) / kBytesPerThread));
    return {std::min(end, room), itemsizes};
}

}  // namespace

void define_gather(nb::module_ &m) {
    m.def("gather", &gather, nb::arg("modalities"), nb::arg("rows"), nb::arg("buffer").noconvert(), nb::arg("start"), nb::arg("threads"));
}

// Patches anywhere in memory -> one buffer that can be copied to the GPU at once (patch.h).

#include "gather.h"

#include <nanobind/stl/optional.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <vector>

#include "crew.h"
#include "image.h"

namespace nb = nanobind;

namespace {

using esccs::Image, esccs::Patch, esccs::kVectorBytes;

// Less than this is copied in the calling thread with the interpreter lock held: once released, it may take
// milliseconds to get the lock back.
constexpr std::int64_t kBytesPerThread = 4 << 20;

using Buffer = nb::ndarray<std::uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

std::int64_t aligned(std::int64_t size) { return (size + kVectorBytes - 1) / kVectorBytes * kVectorBytes; }

std::int64_t gather(const std::vector<std::optional<Image>> &images, Buffer buffer, std::int64_t start, int threads) {
    const std::int64_t count = images.size(), room = buffer.size();
    if (start < count * static_cast<std::int64_t>(sizeof(Patch)) || start > room ||
        reinterpret_cast<std::uintptr_t>(buffer.data()) % 8)
        throw std::invalid_argument("the table of patches does not fit before the pixels");
    Patch *table = reinterpret_cast<Patch *>(buffer.data());
    std::int64_t end = start;
    for (std::int64_t n = 0; n < count; ++n) {
        if (!images[n]) {
            table[n] = {};
            continue;
        }
        if (end + static_cast<std::int64_t>(images[n]->nbytes()) > room)
            throw std::invalid_argument("the buffer is too small for these patches");
        table[n] = {end, esccs::dtype_of(*images[n]), 1};
        end += aligned(images[n]->nbytes());
    }
    auto copy = [&](std::int64_t first, std::int64_t last) {
        for (std::int64_t n = first; n < last; ++n)
            if (images[n]) std::memcpy(buffer.data() + table[n].offset, images[n]->data(), images[n]->nbytes());
    };
    const std::int64_t workers = std::min<std::int64_t>({threads, count, (end - start) / kBytesPerThread});
    if (workers < 1) {
        copy(0, count);
        return std::min(end, room);
    }
    nb::gil_scoped_release release;
    esccs::crew(workers, [&](std::int64_t worker) { copy(count * worker / workers, count * (worker + 1) / workers); });
    return std::min(end, room);
}

}  // namespace

void define_gather(nb::module_ &m) {
    m.def("gather", &gather, nb::arg("images"), nb::arg("buffer").noconvert(), nb::arg("start"), nb::arg("threads"));
}

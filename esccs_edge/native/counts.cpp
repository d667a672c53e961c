// What the CUDA kernel counted of each patch -> values for Python.

#include "counts.h"

#include <cstdint>
#include <cstring>
#include <limits>
#include <stdexcept>

namespace nb = nanobind;

namespace {

// `Stats` of preprocess_cuda.cu, as it is settled for the host.
struct Counts {
    std::uint32_t valid, nonfinite, below, above;
    float lowest, highest;
    double sum;
};

// Where an entry of `present` is 0, the patch is `absent`; others become a `kind`, a tuple with the fields of
// `PixelStats`. It is made as `tuple.__new__` does, since a constructor in Python takes three times as long.
nb::list read_counts(nb::bytes rows, nb::bytes present, std::int64_t channels, std::int64_t pixels,
                     nb::type_object kind, nb::object absent) {
    constexpr float kNone = std::numeric_limits<float>::quiet_NaN();
    const auto make = reinterpret_cast<newfunc>(PyType_GetSlot(&PyTuple_Type, Py_tp_new));
    auto *const type = reinterpret_cast<PyTypeObject *>(kind.ptr());
    if (!PyType_IsSubtype(type, &PyTuple_Type)) throw nb::type_error("kind must be a class of tuples");
    if (rows.size() < present.size() * sizeof(Counts)) throw std::invalid_argument("fewer rows than patches");
    nb::list found;
    for (std::size_t n = 0; n < present.size(); ++n) {
        if (!present.c_str()[n]) {
            found.append(absent);
            continue;
        }
        Counts row;
        std::memcpy(&row, rows.c_str() + n * sizeof row, sizeof row);
        if (!row.valid) row.lowest = row.highest = kNone;
        const double mean = row.valid ? row.sum / (static_cast<double>(row.valid) * channels) : kNone;
        const nb::tuple fields = nb::make_tuple(pixels, row.valid, row.nonfinite, row.below, row.above, row.lowest,
                                                row.highest, mean);
        nb::object made = nb::steal(make(type, nb::make_tuple(fields).ptr(), nullptr));
        if (!made.is_valid()) nb::raise_python_error();
        found.append(made);
    }
    return found;
}

}  // namespace

void define_counts(nb::module_ &m) {
    m.def("read_counts", &read_counts, nb::arg("rows"), nb::arg("present"), nb::arg("channels"), nb::arg("pixels"),
          nb::arg("kind"), nb::arg("absent"));
}

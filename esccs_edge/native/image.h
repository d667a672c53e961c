// One patch as Python hands it over.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <stdexcept>

#include "patch.h"

namespace esccs {

// (C, H, W), of one of the types of `Dtype`.
using Image = nanobind::ndarray<nanobind::ro, nanobind::ndim<3>, nanobind::c_contig, nanobind::device::cpu>;

inline Dtype dtype_of(const Image &image) {
    namespace nb = nanobind;
    if (image.dtype() == nb::dtype<std::uint8_t>()) return kUint8;
    if (image.dtype() == nb::dtype<std::uint16_t>()) return kUint16;
    if (image.dtype() == nb::dtype<std::int16_t>()) return kInt16;
    if (image.dtype() == nb::dtype<float>()) return kFloat32;
    throw std::invalid_argument("pixels must be uint8, uint16, int16 or float32");
}

}  // namespace esccs

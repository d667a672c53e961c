// How a batch of raw patches lies in one buffer for the GPU: Patch[batch], then pixels. Written by
// gather.cpp, read by preprocess_cuda.cu; backends/trt/pixel_kernels.py mirrors it.
#pragma once

#include <cstdint>

namespace esccs {

// How pixels are stored.
enum Dtype : std::int32_t { kUint8 = 0, kUint16 = 1, kInt16 = 2, kFloat32 = 3 };

// Where one patch starts, counted from the buffer, and how it is stored. Absent patches become 0.
struct Patch {
    std::int64_t offset;
    std::int32_t dtype, present;
};

// Patches are aligned to 16 bytes, so that the kernel can load a vector of so many at once.
constexpr int kVectorBytes = 16;

}  // namespace esccs

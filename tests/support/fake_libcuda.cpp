// A libcuda.so.1 without a GPU: host memory, streams that run at once, graphs that run again what was captured,
// the real kernels on the CPU.
// It lets the real `cuda.bindings` marshal every argument that this package passes, and fails loudly
// (CUDA_ERROR_INVALID_VALUE) on handles it did not make. Only the calls used here exist.
// Compiled with -DIDLE it copies and computes nothing, so that what is left is the cost of calling it.
#include <cstdio>
#include <cstdlib>
#include <dlfcn.h>
#include <functional>
#include <map>
#include <set>
#include <vector>

#include "kernel_on_host.cpp"

#ifdef IDLE
constexpr bool idle = true;
#else
constexpr bool idle = false;
#endif

namespace {
enum { kOk = 0, kInvalid = 1, kNoFunction = 500 };
std::set<void *> live;
std::map<unsigned long long, std::size_t> device_bytes;  // of each allocation
constexpr std::size_t total_bytes = 1ull << 33;
int depth = 0, retained = 0;
void *primary = nullptr;

int make(void **out, std::size_t size) {
    *out = std::aligned_alloc(256, (size + 511) / 256 * 256);
    live.insert(*out);
    return kOk;
}
int end(void *gone) {
    if (!live.erase(gone)) return kInvalid;
    std::free(gone);
    return kOk;
}
int known(void *handle) { return depth > 0 && live.count(handle) ? kOk : kInvalid; }

// What a graph runs, by its handle; what a stream captures, by the stream.
using Enqueued = std::vector<std::function<void()>>;
std::map<void *, Enqueued> graphs, captured;

int enqueue(void *stream, std::function<void()> work) {
    if (known(stream)) return kInvalid;
    const auto capture = captured.find(stream);
    if (capture == captured.end()) work();
    else capture->second.push_back(std::move(work));
    return kOk;
}
int end_graph(void *gone) {
    graphs.erase(gone);
    return end(gone);
}
}  // namespace

#define CALL extern "C" __attribute__((visibility("default"))) int
using Address = unsigned long long;

CALL cuInit(unsigned flags) { return flags; }
CALL cuDriverGetVersion(int *version) { *version = 13000; return kOk; }
CALL cuDeviceGetCount(int *count) { *count = 1; return kOk; }
CALL cuDeviceGet(int *device, int ordinal) { *device = ordinal; return ordinal ? 101 : kOk; }
CALL cuDeviceGetName(char *name, int length, int) { std::strncpy(name, "Fake GPU", length); return kOk; }
CALL cuDeviceTotalMem_v2(std::size_t *bytes, int) { *bytes = 1 << 30; return kOk; }
CALL cuDeviceGetAttribute(int *value, int attribute, int) {
    *value = attribute == 75 ? 8 : attribute == 76 ? 9 : 0;
    return kOk;
}
CALL cuDeviceGetPCIBusId(char *text, int length, int) { std::strncpy(text, "0000:00:00.0", length); return kOk; }
CALL cuDevicePrimaryCtxRetain(void **context, int) {
    if (!retained++) make(&primary, 1);
    *context = primary;
    return kOk;
}
CALL cuDevicePrimaryCtxRelease_v2(int) {
    if (--retained) return kOk;
    if (live.size() != 1) return 709;  // CUDA_ERROR_CONTEXT_IS_DESTROYED: something was not freed
    return end(*live.begin());
}
CALL cuCtxPushCurrent_v2(void *context) { ++depth; return live.count(context) ? kOk : kInvalid; }
CALL cuCtxPopCurrent_v2(void **context) { *context = nullptr; return depth-- > 0 ? kOk : kInvalid; }
CALL cuMemGetInfo_v2(std::size_t *free, std::size_t *total) {
    *free = *total = total_bytes;
    for (const auto &[address, size] : device_bytes) *free -= size;
    return kOk;
}
CALL cuMemAlloc_v2(Address *address, std::size_t size) {
    if (size > total_bytes) return 2;
    make(reinterpret_cast<void **>(address), size);
    device_bytes[*address] = size;
    return kOk;
}
CALL cuMemFree_v2(Address address) {
    device_bytes.erase(address);
    return end(reinterpret_cast<void *>(address));
}
CALL cuMemHostAlloc(void **memory, std::size_t size, unsigned) { return make(memory, size); }
CALL cuMemFreeHost(void *memory) { return end(memory); }
CALL cuMemHostGetDevicePointer_v2(Address *address, void *memory, unsigned) {
    *address = reinterpret_cast<Address>(memory);
    return known(memory);
}
CALL cuMemcpyHtoDAsync_v2(Address target, const void *source, std::size_t size, void *stream) {
    return enqueue(stream, [=] {
        if (!idle) std::memcpy(reinterpret_cast<void *>(target), source, size);
    });
}
CALL cuMemcpyDtoHAsync_v2(void *target, Address source, std::size_t size, void *stream) {
    return enqueue(stream, [=] {
        if (!idle) std::memcpy(target, reinterpret_cast<void *>(source), size);
    });
}
CALL cuMemsetD8Async(Address target, unsigned char value, std::size_t size, void *stream) {
    return enqueue(stream, [=] {
        if (!idle) std::memset(reinterpret_cast<void *>(target), value, size);
    });
}
CALL cuLaunchHostFunc(void *stream, void (*function)(void *), void *data) {
    return enqueue(stream, [=] { function(data); });
}
CALL cuStreamCreate(void **stream, unsigned flags) { return flags == 1 ? make(stream, 1) : kInvalid; }
CALL cuStreamDestroy_v2(void *stream) { return end(stream); }
CALL cuStreamSynchronize(void *stream) { return known(stream); }
CALL cuStreamWaitEvent(void *stream, void *event, unsigned) { return known(stream) || known(event); }
CALL cuEventCreate(void **event, unsigned flags) { return flags < 4 ? make(event, 1) : kInvalid; }
CALL cuEventDestroy_v2(void *event) { return end(event); }
CALL cuEventRecord(void *event, void *stream) { return known(stream) || known(event); }
CALL cuEventSynchronize(void *event) { return known(event); }
CALL cuEventElapsedTime(float *milliseconds, void *, void *) { *milliseconds = 1.5f; return kOk; }
CALL cuEventElapsedTime_v2(float *milliseconds, void *, void *) { *milliseconds = 1.5f; return kOk; }
CALL cuModuleLoadData(void **module, const void *image) {
    return *static_cast<const std::uint32_t *>(image) == 0xba55ed50u ? make(module, 1) : 200;
}
// pycuda's road: other names, older calls.
CALL cuModuleLoadDataEx(void **module, const void *image, unsigned, int *, void **) {
    return cuModuleLoadData(module, image);
}
CALL cuFuncSetBlockShape(void *, int, int, int) { return kOk; }
CALL cuCtxDetach(void *) { return kInvalid; }  // never: the primary context is released, not detached
CALL cuCtxGetDevice(int *device) { *device = 0; return kOk; }
CALL cuDeviceComputeCapability(int *major, int *minor, int) { *major = 8; *minor = 9; return kOk; }
CALL cuModuleUnload(void *module) { return end(module); }
CALL cuModuleGetFunction(void **function, void *module, const char *name) {
    const bool is_ours = !std::strcmp(name, "esccs_preprocess_f32");
    *function = is_ours ? reinterpret_cast<void *>(host_esccs_preprocess_f32) : nullptr;
    return *function ? known(module) : kNoFunction;
}
CALL cuLaunchKernel(void *function, unsigned x, unsigned y, unsigned z, unsigned block, unsigned by, unsigned bz,
                    unsigned shared, void *stream, void **parameters, void **extra) {
    if (known(stream) || z != 1 || by != 1 || bz != 1 || shared > 49152) return kInvalid;
    if (!parameters && (!extra || extra[0] != reinterpret_cast<void *>(1))) return kInvalid;
    // pycuda packs the arguments into one buffer: CU_LAUNCH_PARAM_BUFFER_POINTER, then its address.
    const Params values = *static_cast<const Params *>(parameters ? parameters[0] : extra[1]);
    return enqueue(stream, [=] {
        if (!idle) reinterpret_cast<void (*)(const void *, unsigned, unsigned, unsigned)>(function)(&values, x, y, block);
    });
}
CALL cuStreamBeginCapture_v2(void *stream, int mode) {
    captured[stream];
    return mode == 1 ? known(stream) : kInvalid;
}
CALL cuStreamEndCapture(void *stream, void **graph) {
    if (known(stream) || !captured.count(stream)) return kInvalid;
    make(graph, 1);
    graphs[*graph] = std::move(captured[stream]);
    captured.erase(stream);
    return kOk;
}
CALL cuGraphInstantiateWithFlags(void **executable, void *graph, unsigned long long flags) {
    if (flags || known(graph)) return kInvalid;
    make(executable, 1);
    graphs[*executable] = graphs[graph];
    return kOk;
}
CALL cuGraphDestroy(void *graph) { return end_graph(graph); }
CALL cuGraphExecDestroy(void *executable) { return end_graph(executable); }
CALL cuGraphLaunch(void *executable, void *stream) {
    if (known(executable)) return kInvalid;
    return enqueue(stream, [=] {
        for (const auto &work : graphs[executable]) work();
    });
}
CALL cuGetErrorName(int, const char **text) { *text = "CUDA_ERROR_FAKE"; return kOk; }
CALL cuGetErrorString(int, const char **text) { *text = "as the fake driver says"; return kOk; }

static void *find(const char *symbol) {
    Dl_info self;
    dladdr(reinterpret_cast<void *>(find), &self);
    void *library = dlopen(self.dli_fname, RTLD_NOW | RTLD_NOLOAD);
    char name[256];
    for (const char *suffix : {"_v2", ""}) {
        std::snprintf(name, sizeof name, "%s%s", symbol, suffix);
        if (void *found = dlsym(library, name)) return found;
    }
    if (!std::strcmp(symbol, "cuGraphInstantiate")) return dlsym(library, "cuGraphInstantiateWithFlags");
    return nullptr;
}
CALL cuGetProcAddress(const char *symbol, void **found, int, std::uint64_t) {
    *found = find(symbol);
    return *found ? kOk : kNoFunction;
}
CALL cuGetProcAddress_v2(const char *symbol, void **found, int version, std::uint64_t flags, int *status) {
    const int code = cuGetProcAddress(symbol, found, version, flags);
    if (status) *status = code ? 1 : 0;
    return code;
}

// The CUDA preprocessing kernel on CPU threads, one per CUDA thread: real warps, shared memory, alignment.
// Blocks run one after the other. Made to be compiled with sanitizers, which then find what memcheck and
// racecheck look for; `kernel_on_host.cpp` is the quick form. Input and output: see `main`.
#include <pthread.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

#include "cuda_words.h"

static thread_local Index threadIdx;
static Index blockIdx, blockDim{1, 1, 1}, gridDim{1, 1, 1};

struct Warp {
    pthread_barrier_t barrier;
    std::uint64_t slots[32];
    Warp() { pthread_barrier_init(&barrier, nullptr, 32); }
    ~Warp() { pthread_barrier_destroy(&barrier); }
};
static std::vector<Warp> *warps;

template <typename T>
static T __shfl_down_sync(unsigned mask, T value, int step) {
    if (mask != 0xffffffffu) std::abort();  // no other is used
    Warp &warp = (*warps)[threadIdx.x / 32];
    const unsigned lane = threadIdx.x % 32, from = lane + step < 32 ? lane + step : lane;
    std::memcpy(&warp.slots[lane], &value, sizeof value);
    pthread_barrier_wait(&warp.barrier);
    std::memcpy(&value, &warp.slots[from], sizeof value);
    pthread_barrier_wait(&warp.barrier);
    return value;
}

// With -DRACY nothing is atomic, which the thread sanitizer has to see.
template <typename T, typename Change>
static T atomically(T *target, Change change) {
    T old, wanted;
#ifdef RACY
    old = *target;
    *target = change(old);
    return old;
#endif
    __atomic_load(target, &old, __ATOMIC_SEQ_CST);
    do wanted = change(old);
    while (!__atomic_compare_exchange(target, &old, &wanted, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));
    return old;
}
template <typename T>
static T atomicAdd(T *target, T value) { return atomically(target, [&](T old) { return old + value; }); }
template <typename T>
static T atomicMax(T *target, T value) { return atomically(target, [&](T old) { return old > value ? old : value; }); }

#include "preprocess_cuda.cu"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(start, size)
#endif

alignas(16) std::uint8_t esccs_shared[48 * 1024];

struct Launch {
    std::int64_t raw_bytes, tiles, batch, block, shared_bytes;
};

static void run_block(const Params &parameters) {
    std::vector<Warp> mine(blockDim.x / 32);
    warps = &mine;
    std::vector<std::thread> threads;
    for (unsigned x = 0; x < blockDim.x; ++x)
        threads.emplace_back([&, x] {
            threadIdx = {x, 0, 0};
            esccs_preprocess_f32(parameters);
        });
    for (std::thread &thread : threads) thread.join();
}

template <typename T>
static T *allocate(std::int64_t count) {
    void *memory = nullptr;
    if (posix_memalign(&memory, 256, count * sizeof(T))) std::abort();
    std::memset(memory, 0, count * sizeof(T));
    return static_cast<T *>(memory);
}

template <typename T>
static T *read(std::int64_t count) {
    T *memory = allocate<T>(count);
    if (std::fread(memory, sizeof(T), count, stdin) != static_cast<std::size_t>(count)) std::abort();
    return memory;
}

// Standard input: Params with any pointers, Launch, the raw buffer. Output: of each modality `out`, then what
// was settled; then the availability. Runs twice over the same counters, as two batches do.
int main() {
    Params *p = read<Params>(1);
    const Launch launch = *read<Launch>(1);
    p->raw = read<std::uint8_t>(launch.raw_bytes);
    p->done = allocate<std::uint32_t>(launch.batch);
    p->availability = allocate<float>(launch.batch * p->modalities);
    for (std::int32_t m = 0; m < p->modalities; ++m) {
        p->of[m].out = allocate<float>(launch.batch * p->of[m].channels * p->pixels);
        p->of[m].counts = allocate<Stats>(launch.batch);
        p->of[m].settled = allocate<Stats>(launch.batch);
    }
    gridDim = {static_cast<unsigned>(launch.tiles), static_cast<unsigned>(launch.batch), 1};
    blockDim = {static_cast<unsigned>(launch.block), 1, 1};
    ASAN_POISON_MEMORY_REGION(esccs_shared + launch.shared_bytes, sizeof esccs_shared - launch.shared_bytes);
    for (int round = 0; round < 2; ++round)
        for (blockIdx.y = 0; blockIdx.y < gridDim.y; ++blockIdx.y)
            for (blockIdx.x = 0; blockIdx.x < gridDim.x; ++blockIdx.x) run_block(*p);
    for (std::int32_t m = 0; m < p->modalities; ++m) {
        std::fwrite(p->of[m].out, sizeof(float), launch.batch * p->of[m].channels * p->pixels, stdout);
        std::fwrite(p->of[m].settled, sizeof(Stats), launch.batch, stdout);
    }
    std::fwrite(p->availability, sizeof(float), launch.batch * p->modalities, stdout);
}

// Work shared among a few threads.
#pragma once

#include <cstdint>
#include <thread>
#include <vector>

namespace esccs {

// Runs work(0) ... work(workers - 1) at once, the first in the calling thread.
template <typename Work>
void crew(std::int64_t workers, const Work &work) {
    std::vector<std::thread> others;
    for (std::int64_t worker = 1; worker < workers; ++worker) others.emplace_back(work, worker);
    work(0);
    for (auto &thread : others) thread.join();
}

}  // namespace esccs

// Work shared among a few threads.
#pragma once

#include <cstdint>
#include <system_error>
#include <thread>
#include <vector>

namespace esccs {

// Runs work(0) ... work(workers - 1) at once, the first in the calling thread. Where the system gives no more
// threads, the calling thread does what is left.
template <typename Work>
void crew(std::int64_t workers, const Work &work) {
    std::vector<std::thread> others;
    std::int64_t next = 1;
    try {
        for (; next < workers; ++next) others.emplace_back(work, next);
    } catch (const std::system_error &) {
    }
    work(0);
    for (; next < workers; ++next) work(next);
    for (auto &thread : others) thread.join();
}

}  // namespace esccs

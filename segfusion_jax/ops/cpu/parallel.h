// A loop shared with XLA's thread pool.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>

#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;

// Threads that work on a loop, the caller's among them.
inline int64_t num_workers(ffi::ThreadPool& pool, int64_t tasks) {
  return std::max<int64_t>(1, std::min<int64_t>(tasks, pool.num_threads()));
}

// Calls body(task, worker) for every task, 0 <= worker < num_workers, and returns when all are done.
//
// The caller takes tasks too and waits only for those that others have begun, so that callers on the pool's own threads
// (one a simulated device) cannot wait for one another.
//
// Where it is to be `repeatable`, each worker has tasks of its own, whichever thread does its work: what they add up is
// then rounded alike at every run.
template <typename Body>
void parallel_for(ffi::ThreadPool& pool, int64_t tasks, const Body& body, bool repeatable = false) {
  struct Progress {
    std::atomic<int64_t> next{0}, done{0};
  };
  auto progress = std::make_shared<Progress>();
  const int64_t workers = num_workers(pool, tasks), shares = repeatable ? std::min(workers, tasks) : tasks;
  auto work = [=, &body](int64_t worker) {
    for (int64_t share; (share = progress->next.fetch_add(1)) < shares;) {
      for (int64_t task = share; task < tasks; task += shares) body(task, repeatable ? share : worker);
      if (progress->done.fetch_add(1) + 1 == shares) progress->done.notify_all();
    }
  };
  for (int64_t worker = workers - 1; worker > 0; --worker) {
    pool.Schedule([work, worker] { work(worker); });
  }
  work(0);
  for (int64_t done; (done = progress->done.load()) < shares;) progress->done.wait(done);
}

// A loop shared with XLA's thread pool.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;

// XLA says 0 where it has no pool.
inline int64_t num_threads(const ffi::ThreadPool& pool) { return std::max<int64_t>(1, pool.num_threads()); }

// Threads that work on a loop, the caller's among them.
inline int64_t num_workers(const ffi::ThreadPool& pool, int64_t tasks) {
  return std::max<int64_t>(1, std::min(tasks, num_threads(pool)));
}

// Calls body(task, worker) for every task, 0 <= worker < num_workers, and returns when all are done.
//
// The caller takes tasks too and waits only for those that others have begun, so that callers on the pool's own threads
// (one a simulated device) cannot wait for one another.
//
// Where it is to be `repeatable`, each worker has tasks of its own, whichever thread does its work: what they add up is
// then rounded alike at every run.
//
// The body must not throw, nor allocate therefore: the other threads would go on with what the caller has left.
template <typename Body>
void parallel_for(ffi::ThreadPool& pool, int64_t tasks, const Body& body, bool repeatable = false) noexcept {
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

// The sum of what each worker has added up: of [workers, rows, padded columns] to [rows, columns].
inline void add_workers(const std::vector<float>& totals, int64_t rows, int64_t columns, int64_t padded_columns,
                        float* sums) {
  const size_t share = rows * padded_columns;
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t column = 0; column < columns; ++column) {
      double sum = 0;
      for (size_t at = row * padded_columns + column; at < totals.size(); at += share) sum += totals[at];
      sums[row * columns + column] = sum;
    }
  }
}

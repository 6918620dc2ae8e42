// As much of CUDA as the kernels use, on the host: the blocks of a launch run one after another in a random order, the
// threads of a block are fibers that run from barrier to barrier, each time in another order. A barrier that some
// threads of a block do not reach ends the process. (emulate.py rewrites <<<…>>> into emulation::launch.)
#pragma once
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <vector>

#define __global__
#define __device__
#define __forceinline__ inline
#define __grid_constant__
#define __launch_bounds__(...)
#define __shared__ static  // blocks do not overlap
#define __restrict__

struct alignas(8) uint2 {
  unsigned x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
struct dim3 {
  unsigned x, y, z;
  dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
using cudaStream_t = void*;

namespace emulation {

constexpr size_t kStack = 64 << 10;

struct Fiber {
  ucontext_t context;
  std::unique_ptr<char[]> stack;
  bool ended;
  int barrier;  // the line that it waits in
  bool vote;
};
struct Trap {};

inline std::vector<Fiber> fibers;
inline ucontext_t scheduler;
inline const std::function<void()>* kernel;
inline dim3 thread, block, threads_of_block;
inline unsigned current;
inline bool in_fibers, saw_barrier;
inline int traps = 0;
inline std::mt19937 random_numbers;

[[noreturn]] inline void fail(const char* what, int line) {
  std::fprintf(stderr, "emulation: %s (line %d)\n", what, line);
  std::_Exit(3);
}

inline void run_thread() {
  try {
    (*kernel)();
  } catch (const Trap&) {
    ++traps;
  }
}

inline void run_fiber() {
  run_thread();
  fibers[current].ended = true;
  swapcontext(&fibers[current].context, &scheduler);
}

inline void become(unsigned index) {
  current = index;
  thread = dim3(index % threads_of_block.x, index / threads_of_block.x % threads_of_block.y,
                index / (threads_of_block.x * threads_of_block.y));
}

inline void wait(int line) {
  if (!in_fibers) fail("a barrier in a block, and none in the first one that ran", line);
  saw_barrier = true;
  Fiber& mine = fibers[current];
  mine.barrier = line;
  swapcontext(&mine.context, &scheduler);
}

inline unsigned ballot(unsigned lanes, bool vote, int line) {
  if (lanes != 0xffffffffu) fail("a vote of a part of a warp", line);
  fibers[current].vote = vote;
  wait(line);
  unsigned votes = 0;
  for (unsigned lane = 0; lane < 32; ++lane) votes |= unsigned(fibers[current / 32 * 32 + lane].vote) << lane;
  wait(line);  // nobody votes again before all have counted
  return votes;
}

inline void run_block_in_fibers(unsigned count) {
  if (fibers.size() < count) fibers.resize(count);
  for (unsigned index = 0; index < count; ++index) {
    Fiber& fiber = fibers[index];
    if (!fiber.stack) fiber.stack.reset(new char[kStack]);
    fiber.ended = false;
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.get();
    fiber.context.uc_stack.ss_size = kStack;
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, run_fiber, 0);
  }
  std::vector<unsigned> order(count);
  for (unsigned index = 0; index < count; ++index) order[index] = index;
  for (unsigned left = count; left > 0;) {
    std::shuffle(order.begin(), order.end(), random_numbers);
    unsigned ended = 0;
    int barrier = -1;
    for (unsigned index : order) {
      Fiber& fiber = fibers[index];
      become(index);
      swapcontext(&scheduler, &fiber.context);
      if (fiber.ended) {
        ++ended;
      } else if (barrier >= 0 && fiber.barrier != barrier) {
        fail("threads of a block wait at different barriers", barrier);
      } else {
        barrier = fiber.barrier;
      }
    }
    if (ended > 0 && ended < count) fail("a barrier that only some threads of a block reach", barrier);
    left = count - ended;
  }
}

inline void launch(dim3 grid, dim3 threads, const std::function<void()>& call) {
  kernel = &call;
  threads_of_block = threads;
  const unsigned count = threads.x * threads.y * threads.z;
  std::vector<dim3> blocks;
  for (unsigned z = 0; z < grid.z; ++z)
    for (unsigned y = 0; y < grid.y; ++y)
      for (unsigned x = 0; x < grid.x; ++x) blocks.emplace_back(x, y, z);
  std::shuffle(blocks.begin(), blocks.end(), random_numbers);
  saw_barrier = false;
  for (size_t next = 0; next < blocks.size(); ++next) {
    block = blocks[next];
    in_fibers = next == 0 || saw_barrier;  // without barriers a thread is a call
    if (in_fibers) {
      run_block_in_fibers(count);
    } else {
      for (unsigned index = 0; index < count; ++index) {
        become(index);
        run_thread();
      }
    }
  }
}

}  // namespace emulation

#define threadIdx emulation::thread
#define blockIdx emulation::block
#define __syncthreads() emulation::wait(__LINE__)
#define __ballot_sync(lanes, vote) emulation::ballot(lanes, vote, __LINE__)
#define __trap() throw emulation::Trap()

using std::max;
using std::min;
inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
template <typename T>
T __ldg(const T* from) {
  return *from;
}
template <typename T>
void __stwb(T* to, T value) {
  *to = value;
}
template <typename T>
void atomicMin(T* at, T value) {
  *at = min(*at, value);
}
template <typename T>
void atomicMax(T* at, T value) {
  *at = max(*at, value);
}
inline int cudaGetLastError() { return 0; }

// Traps since the last call.
extern "C" inline __attribute__((used)) int emulation_traps() {
  const int seen = emulation::traps;
  emulation::traps = 0;
  return seen;
}

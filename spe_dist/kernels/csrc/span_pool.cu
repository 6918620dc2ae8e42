// span_pool on CUDA. Forward: a warp per span and 16-byte column of channels; every tap of a span is read once, in the
// order of memory. Backward: a block per word gathers from the spans that hold it, in their order, and writes every
// gradient once: no atomics, so sums are the same in every run.
#include "span_pool.h"

#include <cuda_bf16.h>
#include <cuda_runtime.h>

namespace {

constexpr int kMostSizes = 16;
constexpr int kSpansPerBlock = 4;
constexpr int kBackwardThreads = 256;

struct Sizes {
  int64_t words, spans;
  int channels, num_sizes, tap_columns;
  int kernel_sizes[kMostSizes];
};

template <typename Tap>
struct ValueOf {
  using type = float;
};
template <>
struct ValueOf<double> {
  using type = double;
};

template <typename Tap>
__device__ __forceinline__ typename ValueOf<Tap>::type widen(Tap value) {
  return value;
}
template <>
__device__ __forceinline__ float widen(__nv_bfloat16 value) {
  return __bfloat162float(value);
}

template <typename T, int N>
struct alignas(sizeof(T) * N) Pack {
  T values[N];
};

// Block (32, kSpansPerBlock): x goes over packs of channels of one kernel size, y over spans.
template <typename Tap, int N>
__global__ void forward(Sizes sizes, const Tap* __restrict__ taps, const int64_t* __restrict__ starts,
                        const int64_t* __restrict__ ends, typename ValueOf<Tap>::type* __restrict__ lowest,
                        typename ValueOf<Tap>::type* __restrict__ highest, int32_t* __restrict__ lowest_at,
                        int32_t* __restrict__ highest_at) {
  using Value = typename ValueOf<Tap>::type;
  const int64_t span = static_cast<int64_t>(blockIdx.x) * kSpansPerBlock + threadIdx.y;
  const int channel = (blockIdx.y * 32 + threadIdx.x) * N;
  const int which = blockIdx.z;
  if (span >= sizes.spans || channel >= sizes.channels) return;

  const int size = sizes.kernel_sizes[which];
  int64_t column = channel;
  for (int before = 0; before < which; ++before) column += static_cast<int64_t>(sizes.kernel_sizes[before]) * sizes.channels;
  const int64_t start = starts[span], end = ends[span];
  if (start < 0 || start > end || end > sizes.words) __trap();

  Pack<Value, N> low, high;
  Pack<int32_t, N> low_at, high_at;
#pragma unroll
  for (int n = 0; n < N; ++n) {
    low.values[n] = high.values[n] = Value(0);
    low_at.values[n] = high_at.values[n] = 0;
  }
  const int64_t windows = start == end ? 0 : end - start + size - 1;
  for (int64_t window = 0; window < windows; ++window) {
    const int64_t first = start - (size - 1) + window;
    Value total[N] = {};
    for (int tap = 0; tap < size; ++tap) {
      const int64_t word = first + tap;
      if (word < start || word >= end) continue;
      const auto pack = *reinterpret_cast<const Pack<Tap, N>*>(taps + word * sizes.tap_columns + column +
                                                               static_cast<int64_t>(tap) * sizes.channels);
#pragma unroll
      for (int n = 0; n < N; ++n) total[n] += widen(pack.values[n]);
    }
#pragma unroll
    for (int n = 0; n < N; ++n) {
      // NaN is lower and higher than any number: the first one stays, as in the definition.
      const bool open = low.values[n] == low.values[n];
      if (window == 0 || (open && !(total[n] >= low.values[n]))) {
        low.values[n] = total[n];
        low_at.values[n] = static_cast<int32_t>(window);
      }
      if (window == 0 || (open && !(total[n] <= high.values[n]))) {
        high.values[n] = total[n];
        high_at.values[n] = static_cast<int32_t>(window);
      }
    }
  }
  const int64_t out = (span * sizes.num_sizes + which) * sizes.channels + channel;
#pragma unroll
  for (int n = 0; n < N; ++n) {
    lowest[out + n] = low.values[n];
    highest[out + n] = high.values[n];
    lowest_at[out + n] = low_at.values[n];
    highest_at[out + n] = high_at.values[n];
  }
}

// Block: one word. Chunks of spans are searched for those that hold it; each thread then owns columns of the gradient.
template <typename Value>
__global__ void backward(Sizes sizes, const Value* __restrict__ grad_lowest, const Value* __restrict__ grad_highest,
                         const int32_t* __restrict__ lowest_at, const int32_t* __restrict__ highest_at,
                         const int64_t* __restrict__ starts, const int64_t* __restrict__ ends,
                         Value* __restrict__ grad_taps) {
  __shared__ int64_t holding[kBackwardThreads];
  __shared__ int warp_counts[kBackwardThreads / 32];
  const int64_t word = blockIdx.x;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  Value* row = grad_taps + word * sizes.tap_columns;
  bool written = false;

  for (int64_t chunk = 0; chunk < sizes.spans || !written; chunk += kBackwardThreads) {
    const int64_t span = chunk + threadIdx.x;
    const bool holds = span < sizes.spans && starts[span] <= word && word < ends[span];
    const unsigned votes = __ballot_sync(0xffffffffu, holds);
    if (lane == 0) warp_counts[warp] = __popc(votes);
    __syncthreads();
    int place = __popc(votes & ((1u << lane) - 1)), count = 0;
    for (int other = 0; other < kBackwardThreads / 32; ++other) {
      if (other < warp) place += warp_counts[other];
      count += warp_counts[other];
    }
    if (holds) holding[place] = span;
    __syncthreads();

    if (count > 0 || !written) {
      int which = 0;
      int64_t size_column = 0;
      for (int64_t column = threadIdx.x; column < sizes.tap_columns; column += kBackwardThreads) {
        while (column >= size_column + static_cast<int64_t>(sizes.kernel_sizes[which]) * sizes.channels) {
          size_column += static_cast<int64_t>(sizes.kernel_sizes[which++]) * sizes.channels;
        }
        const int tap = static_cast<int>((column - size_column) / sizes.channels);
        const int channel = static_cast<int>((column - size_column) % sizes.channels);
        Value total = written ? row[column] : Value(0);
        for (int index = 0; index < count; ++index) {
          const int64_t here = (holding[index] * sizes.num_sizes + which) * sizes.channels + channel;
          const int64_t window = word - tap - starts[holding[index]] + sizes.kernel_sizes[which] - 1;
          if (lowest_at[here] == window) total += grad_lowest[here];
          if (highest_at[here] == window) total += grad_highest[here];
        }
        row[column] = total;
      }
      written = true;
    }
    __syncthreads();
  }
}

bool convert(const SpanPoolSizes& given, Sizes* sizes) {
  if (given.num_sizes < 1 || given.num_sizes > kMostSizes) return false;
  *sizes = {given.words, given.spans, static_cast<int>(given.channels), static_cast<int>(given.num_sizes), 0, {}};
  for (int k = 0; k < sizes->num_sizes; ++k) {
    sizes->kernel_sizes[k] = given.kernel_sizes[k];
    sizes->tap_columns += given.kernel_sizes[k] * sizes->channels;
  }
  return true;
}

template <typename Tap, int N>
void launch_forward(const Sizes& sizes, const void* taps, const int64_t* starts, const int64_t* ends, void* lowest,
                    void* highest, int32_t* lowest_at, int32_t* highest_at, cudaStream_t stream) {
  using Value = typename ValueOf<Tap>::type;
  const int packs = (sizes.channels + N - 1) / N;
  const dim3 grid(static_cast<unsigned>((sizes.spans + kSpansPerBlock - 1) / kSpansPerBlock), (packs + 31) / 32,
                  sizes.num_sizes);
  forward<Tap, N><<<grid, dim3(32, kSpansPerBlock), 0, stream>>>(
      sizes, static_cast<const Tap*>(taps), starts, ends, static_cast<Value*>(lowest), static_cast<Value*>(highest),
      lowest_at, highest_at);
}

template <typename Tap>
void choose_forward(const Sizes& sizes, const void* taps, const int64_t* starts, const int64_t* ends, void* lowest,
                    void* highest, int32_t* lowest_at, int32_t* highest_at, cudaStream_t stream) {
  // 16-byte loads where every row of channels begins at a multiple of 16 bytes, else of 8 (bf16 with 100 channels).
  constexpr int kWide = 16 / sizeof(Tap), kHalf = 8 / sizeof(Tap);
  const auto address = reinterpret_cast<uintptr_t>(taps);
  auto launch = launch_forward<Tap, 1>;
  if (sizes.channels % kWide == 0 && address % 16 == 0) {
    launch = launch_forward<Tap, kWide>;
  } else if (sizes.channels % kHalf == 0 && address % 8 == 0) {
    launch = launch_forward<Tap, kHalf>;
  }
  launch(sizes, taps, starts, ends, lowest, highest, lowest_at, highest_at, stream);
}

template <typename Value>
void launch_backward(const Sizes& sizes, const void* grad_lowest, const void* grad_highest, const int32_t* lowest_at,
                     const int32_t* highest_at, const int64_t* starts, const int64_t* ends, void* grad_taps,
                     cudaStream_t stream) {
  backward<Value><<<static_cast<unsigned>(sizes.words), kBackwardThreads, 0, stream>>>(
      sizes, static_cast<const Value*>(grad_lowest), static_cast<const Value*>(grad_highest), lowest_at, highest_at,
      starts, ends, static_cast<Value*>(grad_taps));
}

}  // namespace

// Both return a cudaError_t, or -1 for sizes or a type that they do not know. They wait for nothing.
extern "C" int span_pool_forward_cuda(const SpanPoolSizes* given, int type, const void* taps, const int64_t* starts,
                                      const int64_t* ends, void* lowest, void* highest, int32_t* lowest_at,
                                      int32_t* highest_at, void* stream) {
  Sizes sizes;
  if (!convert(*given, &sizes)) return -1;
  if (sizes.spans == 0) return 0;
  const auto on = static_cast<cudaStream_t>(stream);
  switch (type) {
    case SPAN_POOL_FLOAT:
      choose_forward<float>(sizes, taps, starts, ends, lowest, highest, lowest_at, highest_at, on);
      break;
    case SPAN_POOL_DOUBLE:
      choose_forward<double>(sizes, taps, starts, ends, lowest, highest, lowest_at, highest_at, on);
      break;
    case SPAN_POOL_BFLOAT16:
      choose_forward<__nv_bfloat16>(sizes, taps, starts, ends, lowest, highest, lowest_at, highest_at, on);
      break;
    default:
      return -1;
  }
  return cudaGetLastError();
}

extern "C" int span_pool_backward_cuda(const SpanPoolSizes* given, int type, const void* grad_lowest,
                                       const void* grad_highest, const int32_t* lowest_at, const int32_t* highest_at,
                                       const int64_t* starts, const int64_t* ends, void* grad_taps, void* stream) {
  Sizes sizes;
  if (!convert(*given, &sizes)) return -1;
  if (sizes.words == 0) return 0;
  const auto on = static_cast<cudaStream_t>(stream);
  if (type == SPAN_POOL_FLOAT) {
    launch_backward<float>(sizes, grad_lowest, grad_highest, lowest_at, highest_at, starts, ends, grad_taps, on);
  } else if (type == SPAN_POOL_DOUBLE) {
    launch_backward<double>(sizes, grad_lowest, grad_highest, lowest_at, highest_at, starts, ends, grad_taps, on);
  } else {
    return -1;
  }
  return cudaGetLastError();
}

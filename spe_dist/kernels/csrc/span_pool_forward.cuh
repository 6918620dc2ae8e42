// The forward pass: a warp per span, kernel size and 32 packs of channels. The taps of several words are on their way
// before the first of them is added, and the open windows stay in registers.
#pragma once
#include "span_pool.cuh"

namespace {

constexpr int kSpansPerBlock = 4;  // one per warp

template <typename Value, int N>
struct Extremes {
  Value low[N], high[N];
  int low_at[N], high_at[N];

  __device__ __forceinline__ void clear(Value lowest, Value highest) {
#pragma unroll
    for (int n = 0; n < N; ++n) {
      low[n] = lowest;
      high[n] = highest;
      low_at[n] = high_at[n] = 0;
    }
  }
  // NaN is lower and higher than any number: the first one stays, as in the definition.
  __device__ __forceinline__ void take(const Value (&total)[N], int window) {
#pragma unroll
    for (int n = 0; n < N; ++n) {
      const bool open = low[n] == low[n];  // both extremes become NaN together
      if (!(total[n] >= low[n]) && open) {
        low[n] = total[n];
        low_at[n] = window;
      }
      if (!(total[n] <= high[n]) && open) {
        high[n] = total[n];
        high_at[n] = window;
      }
    }
  }
};

// All windows of one span for a kernel size known to the compiler. Each sum has the order of the definition.
template <typename Tap, int N, int K>
__device__ __forceinline__ void pool(const Tap* __restrict__ taps, int64_t row, int channels, int words,
                                     Extremes<typename ValueOf<Tap>::type, N>& found) {
  using Value = typename ValueOf<Tap>::type;
  constexpr int kAhead = sizeof(Tap) * N >= 16 ? 2 : 4;  // words whose taps are loaded before the first is added
  Value open[K][N];                                      // open[m]: the window that lacks m + 1 words
#pragma unroll
  for (int m = 0; m < K; ++m)
#pragma unroll
    for (int n = 0; n < N; ++n) open[m][n] = Value(0);
  for (int word = 0; word < words; word += kAhead) {
    Pack<Tap, N> loaded[kAhead][K];
#pragma unroll
    for (int ahead = 0; ahead < kAhead; ++ahead)
      if (word + ahead < words)
#pragma unroll
        for (int tap = 0; tap < K; ++tap) loaded[ahead][tap].load(taps + (word + ahead) * row + tap * channels);
#pragma unroll
    for (int ahead = 0; ahead < kAhead; ++ahead)
      if (word + ahead < words) {
#pragma unroll
        for (int m = 0; m < K; ++m)
#pragma unroll
          for (int n = 0; n < N; ++n) open[m][n] += widen(loaded[ahead][K - 1 - m].values[n]);
        found.take(open[0], word + ahead);
#pragma unroll
        for (int m = 0; m < K; ++m)
#pragma unroll
          for (int n = 0; n < N; ++n) open[m][n] = m + 1 < K ? open[m + 1 < K ? m + 1 : m][n] : Value(0);
      }
  }
#pragma unroll
  for (int m = 0; m + 1 < K; ++m) found.take(open[m], words + m);
}

// The same for any kernel size, window by window.
template <typename Tap, int N>
__device__ __forceinline__ void pool_wide(const Tap* __restrict__ taps, int64_t row, int channels, int words, int size,
                                          Extremes<typename ValueOf<Tap>::type, N>& found) {
  using Value = typename ValueOf<Tap>::type;
  for (int window = 0; window < words + size - 1; ++window) {
    const int first = window - (size - 1);
    Value total[N];
#pragma unroll
    for (int n = 0; n < N; ++n) total[n] = Value(0);
    for (int tap = first < 0 ? -first : 0; tap < size && first + tap < words; ++tap) {
      Pack<Tap, N> pack;
      pack.load(taps + (first + tap) * row + static_cast<int64_t>(tap) * channels);
#pragma unroll
      for (int n = 0; n < N; ++n) total[n] += widen(pack.values[n]);
    }
    found.take(total, window);
  }
}

// What a forward pass writes. Without a bias both extremes and their places; with one the larger GELU of the two, its
// slope, and the place of the extreme it belongs to; neither of these two if `second` is null.
struct Results {
  const void* bias;  // in the type of `first`
  void *first, *second, *first_at, *second_at;
  bool narrow_first;   // `first` and bias are bf16
  bool narrow_places;  // places are int16
};

template <typename Out, typename Value, int N>
__device__ __forceinline__ void store_gelu(const Results& to, int64_t out, int column,
                                           const Extremes<Value, N>& found) {
  const Out* bias = static_cast<const Out*>(to.bias) + column;  // one by one: a parameter may begin anywhere
  Value pooled[N], slope[N];
  int at[N];
#pragma unroll
  for (int n = 0; n < N; ++n) {
    const Value shift = widen(bias[n]), low = found.low[n] + shift, high = found.high[n] + shift;
    const Value low_phi = Value(0.5) * (Value(1) + error_function(low * Value(0.70710678118654752440)));
    const Value high_phi = Value(0.5) * (Value(1) + error_function(high * Value(0.70710678118654752440)));
    const bool lower = !(low * low_phi <= high * high_phi);
    const Value x = lower ? low : high, phi = lower ? low_phi : high_phi;
    pooled[n] = x * phi;
    slope[n] = phi + x * exponential(Value(-0.5) * x * x) * Value(0.39894228040143267794);
    at[n] = lower ? found.low_at[n] : found.high_at[n];
  }
  store_as<Out, N>(to.first, out, pooled);
  if (to.second == nullptr) return;
  store_as<Value, N>(to.second, out, slope);
  store_places<N>(to.first_at, out, to.narrow_places, at);
}

// Block (32, kSpansPerBlock): x goes over packs of channels of one kernel size, y over spans.
template <typename Tap, int N>
__global__ void __launch_bounds__(kLanes* kSpansPerBlock)
    forward(const __grid_constant__ Sizes sizes, const __grid_constant__ Results to, const Tap* __restrict__ taps,
            const int64_t* __restrict__ starts, const int64_t* __restrict__ ends) {
  using Value = typename ValueOf<Tap>::type;
  const int64_t span = static_cast<int64_t>(blockIdx.x) * kSpansPerBlock + threadIdx.y;
  const int channel = (blockIdx.y * kLanes + threadIdx.x) * N;
  const int which = blockIdx.z;
  if (span >= sizes.spans || channel >= sizes.channels) return;
  const int64_t start = starts[span], end = ends[span];
  if (start < 0 || start > end || end > sizes.words) __trap();

  const int words = static_cast<int>(end - start), size = sizes.kernel_sizes[which];
  const int64_t row = sizes.tap_columns;
  const Tap* from = taps + start * row + sizes.columns[which] + channel;
  Extremes<Value, N> found;
  if (words == 0) {
    found.clear(Value(0), Value(0));
  } else {
    found.clear(Value(INFINITY), Value(-INFINITY));
    switch (size) {
      case 1:
        pool<Tap, N, 1>(from, row, sizes.channels, words, found);
        break;
      case 2:
        pool<Tap, N, 2>(from, row, sizes.channels, words, found);
        break;
      case 3:
        pool<Tap, N, 3>(from, row, sizes.channels, words, found);
        break;
      case 4:
        pool<Tap, N, 4>(from, row, sizes.channels, words, found);
        break;
      default:
        pool_wide<Tap, N>(from, row, sizes.channels, words, size, found);
    }
  }
  const int column = which * sizes.channels + channel;
  const int64_t out = span * sizes.num_sizes * sizes.channels + column;
  if (to.bias == nullptr) {
    store_as<Value, N>(to.first, out, found.low);
    store_as<Value, N>(to.second, out, found.high);
    store_places<N>(to.first_at, out, to.narrow_places, found.low_at);
    store_places<N>(to.second_at, out, to.narrow_places, found.high_at);
  } else if (to.narrow_first) {
    store_gelu<Tap, Value, N>(to, out, column, found);
  } else {
    store_gelu<Value, Value, N>(to, out, column, found);
  }
}

template <typename Tap, int N>
void launch_forward(const Sizes& sizes, const Results& to, const void* taps, const int64_t* starts,
                    const int64_t* ends, cudaStream_t stream) {
  const dim3 grid(blocks(sizes.spans, kSpansPerBlock), blocks(sizes.channels, kLanes * N), sizes.num_sizes);
  forward<Tap, N><<<grid, dim3(kLanes, kSpansPerBlock), 0, stream>>>(sizes, to, static_cast<const Tap*>(taps), starts,
                                                                     ends);
}

template <typename Tap>
int choose_forward(const Sizes& sizes, const Results& to, const void* taps, const int64_t* starts, const int64_t* ends,
                   cudaStream_t stream) {
  using Value = typename ValueOf<Tap>::type;
  constexpr int kWide = Widths<Tap>::wide, kHalf = Widths<Tap>::half;
  const int first = to.narrow_first ? sizeof(Tap) : sizeof(Value), place = to.narrow_places ? 2 : 4;
  const std::initializer_list<std::pair<const void*, int>> tensors = {{taps, sizeof(Tap)},
                                                                      {to.first, first},
                                                                      {to.second, sizeof(Value)},
                                                                      {to.first_at, place},
                                                                      {to.second_at, place}};
  if (fits<kWide>(sizes, tensors)) {
    launch_forward<Tap, kWide>(sizes, to, taps, starts, ends, stream);
  } else if (fits<kHalf>(sizes, tensors)) {
    launch_forward<Tap, kHalf>(sizes, to, taps, starts, ends, stream);
  } else {
    launch_forward<Tap, 1>(sizes, to, taps, starts, ends, stream);
  }
  return cudaGetLastError();
}

int run_forward(const SpanPoolSizes& given, int type, const Results& to, const void* taps, const int64_t* starts,
                const int64_t* ends, cudaStream_t stream) {
  Sizes sizes;
  if (!convert(given, &sizes)) return -1;
  if (sizes.spans == 0) return 0;
  switch (type) {
    case SPAN_POOL_FLOAT:
      return choose_forward<float>(sizes, to, taps, starts, ends, stream);
    case SPAN_POOL_DOUBLE:
      return choose_forward<double>(sizes, to, taps, starts, ends, stream);
    case SPAN_POOL_BFLOAT16:
      return choose_forward<__nv_bfloat16>(sizes, to, taps, starts, ends, stream);
    default:
      return -1;
  }
}

}  // namespace

// span_pool on the CPU: one pass over each span's windows with the running extremes in a small buffer, threads over
// spans; the backward pass has its threads over channels, so that no two of them add to one place and sums have one order.
#include "span_pool.h"

#include "int8_passes.h"  // one library holds all that is compiled for CPUs

#include <algorithm>
#include <cstring>

namespace {

constexpr int64_t kBlock = 128;  // channels whose extremes stay in the first-level cache

struct BFloat16 {
  uint16_t bits;
};

inline float widen(float value) { return value; }
inline double widen(double value) { return value; }
inline float widen(BFloat16 value) {
  const uint32_t bits = static_cast<uint32_t>(value.bits) << 16;
  float result;
  std::memcpy(&result, &bits, sizeof(result));
  return result;
}

template <typename Tap, typename Value>
void pool_channels(const Tap* taps, int64_t row, int64_t start, int64_t end, int64_t size, int64_t count,
                   int64_t channels, Value* lowest, Value* highest, int32_t* lowest_at, int32_t* highest_at) {
  Value total[kBlock];
  for (int64_t window = 0; window < end - start + size - 1; ++window) {
    const int64_t first = start - (size - 1) + window;
    const int64_t from = std::max<int64_t>(0, start - first), to = std::min<int64_t>(size, end - first);
    const Tap* tap = taps + (first + from) * row + from * channels;
    for (int64_t c = 0; c < count; ++c) total[c] = widen(tap[c]);
    for (int64_t j = from + 1; j < to; ++j) {
      tap += row + channels;
      for (int64_t c = 0; c < count; ++c) total[c] += widen(tap[c]);
    }
    if (window == 0) {
      for (int64_t c = 0; c < count; ++c) {
        lowest[c] = highest[c] = total[c];
        lowest_at[c] = highest_at[c] = 0;
      }
      continue;
    }
    const int32_t at = static_cast<int32_t>(window);
    for (int64_t c = 0; c < count; ++c) {
      // NaN is lower and higher than any number: the first one stays, as in the definition.
      const bool open = lowest[c] == lowest[c];
      const bool lower = open & !(total[c] >= lowest[c]), higher = open & !(total[c] <= highest[c]);
      lowest[c] = lower ? total[c] : lowest[c];
      lowest_at[c] = lower ? at : lowest_at[c];
      highest[c] = higher ? total[c] : highest[c];
      highest_at[c] = higher ? at : highest_at[c];
    }
  }
}

template <typename Tap, typename Value>
void forward(const SpanPoolSizes& sizes, const Tap* taps, const int64_t* starts, const int64_t* ends, Value* lowest,
             Value* highest, int32_t* lowest_at, int32_t* highest_at, int threads) {
  int64_t tap_rows = 0;
  for (int64_t k = 0; k < sizes.num_sizes; ++k) tap_rows += sizes.kernel_sizes[k];
  const int64_t row = tap_rows * sizes.channels, width = sizes.num_sizes * sizes.channels;
#pragma omp parallel for schedule(dynamic, 8) num_threads(threads)
  for (int64_t span = 0; span < sizes.spans; ++span) {
    const int64_t out = span * width;
    if (starts[span] == ends[span]) {
      std::fill_n(lowest + out, width, Value(0));
      std::fill_n(highest + out, width, Value(0));
      std::fill_n(lowest_at + out, width, 0);
      std::fill_n(highest_at + out, width, 0);
      continue;
    }
    int64_t column = 0;
    for (int64_t k = 0; k < sizes.num_sizes; ++k) {
      for (int64_t c = 0; c < sizes.channels; c += kBlock) {
        const int64_t here = out + k * sizes.channels + c, count = std::min(kBlock, sizes.channels - c);
        pool_channels(taps + column + c, row, starts[span], ends[span], sizes.kernel_sizes[k], count, sizes.channels,
                      lowest + here, highest + here, lowest_at + here, highest_at + here);
      }
      column += sizes.kernel_sizes[k] * sizes.channels;
    }
  }
}

template <typename Value>
void backward(const SpanPoolSizes& sizes, const Value* grad_lowest, const Value* grad_highest, const int32_t* lowest_at,
              const int32_t* highest_at, const int64_t* starts, const int64_t* ends, Value* grad_taps,
              int threads) {
  int64_t tap_rows = 0;
  for (int64_t k = 0; k < sizes.num_sizes; ++k) tap_rows += sizes.kernel_sizes[k];
  const int64_t row = tap_rows * sizes.channels, width = sizes.num_sizes * sizes.channels;
  const int64_t blocks = (sizes.channels + 31) / 32;
  const int extremes = grad_highest == nullptr ? 1 : 2;
#pragma omp parallel for collapse(2) schedule(static) num_threads(threads)
  for (int64_t k = 0; k < sizes.num_sizes; ++k) {
    for (int64_t block = 0; block < blocks; ++block) {
      const int64_t size = sizes.kernel_sizes[k];
      int64_t column = 0;
      for (int64_t before = 0; before < k; ++before) column += sizes.kernel_sizes[before] * sizes.channels;
      const int64_t last = std::min(sizes.channels, (block + 1) * 32);
      for (int64_t span = 0; span < sizes.spans; ++span) {
        const int64_t start = starts[span], end = ends[span];
        if (start == end) continue;
        for (int64_t c = block * 32; c < last; ++c) {
          const int64_t here = span * width + k * sizes.channels + c;
          for (int extreme = 0; extreme < extremes; ++extreme) {
            const Value grad = extreme ? grad_highest[here] : grad_lowest[here];
            if (grad == Value(0)) continue;  // of the two extremes, GELU chose one
            const int64_t first = start - (size - 1) + (extreme ? highest_at : lowest_at)[here];
            const int64_t from = std::max<int64_t>(0, start - first), to = std::min<int64_t>(size, end - first);
            Value* target = grad_taps + (first + from) * row + column + from * sizes.channels + c;
            for (int64_t j = from; j < to; ++j, target += row + sizes.channels) *target += grad;
          }
        }
      }
    }
  }
}

}  // namespace

// Both return 0, or 1 for an unknown type.
extern "C" int span_pool_forward(const SpanPoolSizes* sizes, int type, const void* taps, const int64_t* starts,
                                 const int64_t* ends, void* lowest, void* highest, int32_t* lowest_at,
                                 int32_t* highest_at, int threads) {
  switch (type) {
    case SPAN_POOL_FLOAT:
      forward(*sizes, static_cast<const float*>(taps), starts, ends, static_cast<float*>(lowest),
              static_cast<float*>(highest), lowest_at, highest_at, threads);
      return 0;
    case SPAN_POOL_DOUBLE:
      forward(*sizes, static_cast<const double*>(taps), starts, ends, static_cast<double*>(lowest),
              static_cast<double*>(highest), lowest_at, highest_at, threads);
      return 0;
    case SPAN_POOL_BFLOAT16:
      forward(*sizes, static_cast<const BFloat16*>(taps), starts, ends, static_cast<float*>(lowest),
              static_cast<float*>(highest), lowest_at, highest_at, threads);
      return 0;
    default:
      return 1;
  }
}

// Without grad_highest and highest_at, the other two are of the only extreme that passes a gradient back.
extern "C" int span_pool_backward(const SpanPoolSizes* sizes, int type, const void* grad_lowest,
                                  const void* grad_highest, const int32_t* lowest_at, const int32_t* highest_at,
                                  const int64_t* starts, const int64_t* ends, void* grad_taps,
                                  int threads) {
  switch (type) {
    case SPAN_POOL_FLOAT:
      backward(*sizes, static_cast<const float*>(grad_lowest), static_cast<const float*>(grad_highest), lowest_at,
               highest_at, starts, ends, static_cast<float*>(grad_taps), threads);
      return 0;
    case SPAN_POOL_DOUBLE:
      backward(*sizes, static_cast<const double*>(grad_lowest), static_cast<const double*>(grad_highest), lowest_at,
               highest_at, starts, ends, static_cast<double*>(grad_taps), threads);
      return 0;
    default:
      return 1;
  }
}

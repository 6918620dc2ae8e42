// The backward pass: a block per tile of words lists the spans that touch it, then its warps gather, word by word, from
// the listed spans in their order, and write every gradient once: no atomics, so sums are the same in every run.
#pragma once
#include "span_pool.cuh"

namespace {

constexpr int kTile = 16;  // words of a block
constexpr int kWarps = 8;
constexpr int kThreads = kWarps * kLanes;
constexpr int kListed = 1024;   // spans that a tile has room for; of more, every warp searches their chunks again
constexpr int kTapsAtOnce = 4;  // of a kernel size, whose gradients one look at a span finds

// First and last word of all spans of a chunk of kThreads: most chunks have none that touches a tile.
__global__ void __launch_bounds__(kThreads)
    bound_chunks(int64_t spans, const int64_t* __restrict__ starts, const int64_t* __restrict__ ends,
                 int32_t* __restrict__ bounds) {
  __shared__ int32_t first, last;
  const int64_t span = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (threadIdx.x == 0) {
    first = INT32_MAX;
    last = 0;
  }
  __syncthreads();
  if (span < spans && starts[span] < ends[span]) {
    atomicMin(&first, static_cast<int32_t>(starts[span]));
    atomicMax(&last, static_cast<int32_t>(ends[span]));
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    bounds[2 * blockIdx.x] = first;
    bounds[2 * blockIdx.x + 1] = last;
  }
}

// Where a thread's item goes among the kept ones of the block, in order of threads; `kept` is how many there are.
__device__ __forceinline__ int place_among(bool keep, int* counts, int& kept) {
  const int lane = threadIdx.x % kLanes, warp = threadIdx.x / kLanes;
  const unsigned votes = __ballot_sync(0xffffffffu, keep);
  if (lane == 0) counts[warp] = __popc(votes);
  __syncthreads();
  int place = __popc(votes & ((1u << lane) - 1));
  kept = 0;
  for (int other = 0; other < kWarps; ++other) {
    if (other < warp) place += counts[other];
    kept += counts[other];
  }
  __syncthreads();  // the next call writes the counts again
  return place;
}

// The extremes that pass a gradient back: two of them, or one whose gradient is yet to be multiplied by a slope.
struct Given {
  const void *grads[2], *places[2], *slope;
  bool narrow_places;
};

// Block: kTile words. Each of its warps takes a word and a kernel size at a time; lanes take packs of channels.
template <typename Grad, typename Tap, int N, int kExtremes>
__global__ void __launch_bounds__(kThreads, 2)
    backward(const __grid_constant__ Sizes sizes, const __grid_constant__ Given given,
             const int64_t* __restrict__ starts, const int64_t* __restrict__ ends, const int32_t* __restrict__ bounds,
             Tap* __restrict__ grad_taps) {
  using Value = typename ValueOf<Tap>::type;
  __shared__ int counts[kWarps];
  __shared__ int chunks[kThreads];
  __shared__ int32_t listed[kListed];
  __shared__ int32_t listed_start[kListed], listed_end[kListed];
  const int lane = threadIdx.x % kLanes, warp = threadIdx.x / kLanes;
  const int tile = blockIdx.x * kTile;
  const int words = static_cast<int>(sizes.words), spans = static_cast<int>(sizes.spans);
  const int tile_end = tile + kTile < words ? tile + kTile : words;
  const int all_chunks = (spans + kThreads - 1) / kThreads;

  int touching = 0, first_chunk = 0, end_chunk = 0;
  for (int base = 0; base < all_chunks; base += kThreads) {
    const int chunk = base + threadIdx.x;
    const bool looks = chunk < all_chunks && bounds[2 * chunk] < tile_end && bounds[2 * chunk + 1] > tile;
    int hits, kept;
    const int hit = place_among(looks, counts, hits);
    if (looks) chunks[hit] = chunk;
    __syncthreads();
    if (hits > 0) {
      if (end_chunk == 0) first_chunk = chunks[0];
      end_chunk = chunks[hits - 1] + 1;
    }
    for (int next = 0; next < hits; ++next) {
      const int span = chunks[next] * kThreads + threadIdx.x;
      int start = 0, end = 0;
      if (span < spans) {
        start = static_cast<int>(starts[span]);
        end = static_cast<int>(ends[span]);
      }
      const bool touches = start < end && start < tile_end && end > tile;
      const int place = touching + place_among(touches, counts, kept);
      if (touches && place < kListed) {
        listed[place] = span;
        listed_start[place] = start;
        listed_end[place] = end;
      }
      touching += kept;
    }
    __syncthreads();  // the next round writes the chunks again, and the list is read below
  }
  const bool all_listed = touching <= kListed;
  const int first_candidate = all_listed ? 0 : first_chunk * kThreads;
  const int end_candidate = all_listed ? touching : min(end_chunk * kThreads, spans);

  const int items = (tile_end - tile) * sizes.num_sizes;
  for (int item = warp; item < items; item += kWarps) {
    const int word = tile + item / sizes.num_sizes;
    const int which = item % sizes.num_sizes, size = sizes.kernel_sizes[which];
    for (int channel = lane * N; channel < sizes.channels; channel += kLanes * N) {
      for (int first_tap = 0; first_tap < size; first_tap += kTapsAtOnce) {
        Value total[kTapsAtOnce][N];
#pragma unroll
        for (int tap = 0; tap < kTapsAtOnce; ++tap)
#pragma unroll
          for (int n = 0; n < N; ++n) total[tap][n] = Value(0);
        for (int index = first_candidate; index < end_candidate; ++index) {
          const int span = all_listed ? listed[index] : index;
          const int start = all_listed ? listed_start[index] : static_cast<int>(starts[index]);
          const int end = all_listed ? listed_end[index] : static_cast<int>(ends[index]);
          if (word < start || word >= end) continue;
          const int64_t here = (static_cast<int64_t>(span) * sizes.num_sizes + which) * sizes.channels + channel;
          const int window = word - start + size - 1 - first_tap;  // that has the word as first_tap
          Pack<Grad, N> grads[kExtremes];
          Pack<Value, N> slope;
          int places[kExtremes][N];
#pragma unroll
          for (int extreme = 0; extreme < kExtremes; ++extreme)
            grads[extreme].load(static_cast<const Grad*>(given.grads[extreme]) + here);
          if (kExtremes == 1) slope.load(static_cast<const Value*>(given.slope) + here);
#pragma unroll
          for (int extreme = 0; extreme < kExtremes; ++extreme)
            load_places<N>(given.places[extreme], here, given.narrow_places, places[extreme]);
#pragma unroll
          for (int extreme = 0; extreme < kExtremes; ++extreme)
#pragma unroll
            for (int n = 0; n < N; ++n) {
              const Value wide = widen(grads[extreme].values[n]);
              const Value grad = kExtremes == 1 ? wide * slope.values[n] : wide;
#pragma unroll
              for (int tap = 0; tap < kTapsAtOnce; ++tap)
                if (places[extreme][n] == window - tap) total[tap][n] += grad;
            }
        }
        const int64_t target = static_cast<int64_t>(word) * sizes.tap_columns + sizes.columns[which] + channel;
#pragma unroll
        for (int tap = 0; tap < kTapsAtOnce; ++tap)
          if (first_tap + tap < size)
            store_as<Tap, N>(grad_taps, target + static_cast<int64_t>(first_tap + tap) * sizes.channels, total[tap]);
      }
    }
  }
}

template <typename Grad, typename Tap, int kExtremes>
int choose_backward(const Sizes& sizes, const Given& given, const int64_t* starts, const int64_t* ends,
                    int32_t* bounds, void* grad_taps, cudaStream_t stream) {
  using Value = typename ValueOf<Tap>::type;
  constexpr int kWide = Widths<Tap>::wide, kHalf = Widths<Tap>::half;
  if (sizes.words == 0) return 0;
  if (sizes.spans > 0) {
    bound_chunks<<<blocks(sizes.spans, kThreads), kThreads, 0, stream>>>(sizes.spans, starts, ends, bounds);
  }
  const int place = given.narrow_places ? 2 : 4;
  const std::initializer_list<std::pair<const void*, int>> tensors = {
      {given.grads[0], sizeof(Grad)}, {given.grads[1], sizeof(Grad)}, {given.slope, sizeof(Value)},
      {given.places[0], place},       {given.places[1], place},       {grad_taps, sizeof(Tap)}};
  auto* const target = static_cast<Tap*>(grad_taps);
  const unsigned grid = blocks(sizes.words, kTile);
  if (fits<kWide>(sizes, tensors)) {
    backward<Grad, Tap, kWide, kExtremes><<<grid, kThreads, 0, stream>>>(sizes, given, starts, ends, bounds, target);
  } else if (fits<kHalf>(sizes, tensors)) {
    backward<Grad, Tap, kHalf, kExtremes><<<grid, kThreads, 0, stream>>>(sizes, given, starts, ends, bounds, target);
  } else {
    backward<Grad, Tap, 1, kExtremes><<<grid, kThreads, 0, stream>>>(sizes, given, starts, ends, bounds, target);
  }
  return cudaGetLastError();
}

}  // namespace

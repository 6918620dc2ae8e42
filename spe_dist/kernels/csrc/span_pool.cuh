// What both passes of span_pool share on CUDA: types, packs of channels and how they are read and written.
#pragma once
#include "span_pool.h"

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cmath>
#include <initializer_list>
#include <utility>

namespace {

constexpr int kMostSizes = 16;
constexpr int64_t kMost = INT32_MAX - 1024;  // words, and spans: their numbers are int32, rounded up to whole blocks too
constexpr int kLanes = 32;

struct Sizes {
  int64_t words, spans;
  int channels, num_sizes, tap_columns;
  int kernel_sizes[kMostSizes];
  int columns[kMostSizes];  // first tap column of each kernel size
};

template <typename Tap>
struct Widths {  // elements of a pack: of 16 bytes; what bf16 of 100 channels fits
  static constexpr int wide = 16 / sizeof(Tap), half = sizeof(Tap) == 2 ? 4 : 1;
};

template <typename T>
struct ValueOf {  // what windows and gradients are summed in
  using type = float;
};
template <>
struct ValueOf<double> {
  using type = double;
};

__device__ __forceinline__ float widen(float value) { return value; }
__device__ __forceinline__ double widen(double value) { return value; }
__device__ __forceinline__ float widen(__nv_bfloat16 value) { return __bfloat162float(value); }
__device__ __forceinline__ void narrow(float value, float* to) { *to = value; }
__device__ __forceinline__ void narrow(double value, double* to) { *to = value; }
__device__ __forceinline__ void narrow(float value, __nv_bfloat16* to) { *to = __float2bfloat16(value); }
__device__ __forceinline__ void narrow(int value, int* to) { *to = value; }
__device__ __forceinline__ void narrow(int value, int16_t* to) { *to = static_cast<int16_t>(value); }

__device__ __forceinline__ float error_function(float x) { return erff(x); }
__device__ __forceinline__ double error_function(double x) { return erf(x); }
__device__ __forceinline__ float exponential(float x) { return expf(x); }
__device__ __forceinline__ double exponential(double x) { return exp(x); }

// Memory is read and written in words of up to 16 bytes: the compiler would split a structure into its members.
template <int Bytes>
struct Word;
template <>
struct Word<2> {
  using type = unsigned short;
};
template <>
struct Word<4> {
  using type = unsigned;
};
template <>
struct Word<8> {
  using type = uint2;
};
template <>
struct Word<16> {
  using type = uint4;
};

template <typename T, int N>
struct Pack {
  static constexpr int kPerWord = sizeof(T) * N > 16 ? 16 / static_cast<int>(sizeof(T)) : N;
  using Unit = typename Word<kPerWord * sizeof(T)>::type;
  T values[N];

  __device__ __forceinline__ void load(const T* from) {
#pragma unroll
    for (int n = 0; n < N; n += kPerWord) {
      const Unit unit = __ldg(reinterpret_cast<const Unit*>(from + n));
      memcpy(values + n, &unit, sizeof(unit));
    }
  }
  __device__ __forceinline__ void store(T* to) const {
#pragma unroll
    for (int n = 0; n < N; n += kPerWord) {
      Unit unit;
      memcpy(&unit, values + n, sizeof(unit));
      __stwb(reinterpret_cast<Unit*>(to + n), unit);
    }
  }
};

template <typename T, int N, typename Value>
__device__ __forceinline__ void store_as(void* to, int64_t offset, const Value (&values)[N]) {
  Pack<T, N> pack;
#pragma unroll
  for (int n = 0; n < N; ++n) narrow(values[n], &pack.values[n]);
  pack.store(static_cast<T*>(to) + offset);
}

template <int N>
__device__ __forceinline__ void store_places(void* to, int64_t offset, bool narrow_places, const int (&places)[N]) {
  if (narrow_places) {
    store_as<int16_t, N>(to, offset, places);
  } else {
    store_as<int, N>(to, offset, places);
  }
}

template <int N>
__device__ __forceinline__ void load_places(const void* from, int64_t offset, bool narrow_places, int (&places)[N]) {
  if (narrow_places) {
    Pack<int16_t, N> pack;
    pack.load(static_cast<const int16_t*>(from) + offset);
#pragma unroll
    for (int n = 0; n < N; ++n) places[n] = pack.values[n];
  } else {
    Pack<int, N> pack;
    pack.load(static_cast<const int*>(from) + offset);
#pragma unroll
    for (int n = 0; n < N; ++n) places[n] = pack.values[n];
  }
}

bool convert(const SpanPoolSizes& given, Sizes* sizes) {
  if (given.num_sizes < 1 || given.num_sizes > kMostSizes) return false;
  if (given.words > kMost || given.spans > kMost) return false;
  *sizes = {given.words, given.spans, static_cast<int>(given.channels), static_cast<int>(given.num_sizes), 0, {}, {}};
  for (int k = 0; k < sizes->num_sizes; ++k) {
    sizes->kernel_sizes[k] = given.kernel_sizes[k];
    sizes->columns[k] = sizes->tap_columns;
    sizes->tap_columns += given.kernel_sizes[k] * sizes->channels;
  }
  return true;
}

unsigned blocks(int64_t items, int per_block) { return static_cast<unsigned>((items + per_block - 1) / per_block); }

// Whether packs of N channels begin at multiples of their size, or of 16 bytes, in every tensor.
template <int N>
bool fits(const Sizes& sizes, std::initializer_list<std::pair<const void*, int>> tensors) {
  if (sizes.channels % N != 0) return false;
  for (const auto& [pointer, bytes] : tensors) {
    const int whole = N * bytes < 16 ? N * bytes : 16;
    if (reinterpret_cast<uintptr_t>(pointer) % whole != 0) return false;
  }
  return true;
}

}  // namespace

// The operators span_pool and span_gelu_pool in plain C, for CPU (span_pool.cpp) and CUDA (span_pool.cu). See
// span_pool_reference.py for what they compute; nothing here knows of torch, so the files compile without its headers.
//
//   taps      [words, tap_columns]  all filter taps applied to all words; tap_columns = sum(kernel_sizes) * channels,
//                                   for each kernel size, for each of its taps, the channels
//   starts, ends  [spans] int64     half-open spans of words, in any order; the callers have checked their range
//   lowest, highest, *_at, pooled, slope, at  [spans, num_sizes * channels]
//
// Window i of a span and a filter of k words begins at word start - (k - 1) + i; words outside the span count as zero.
#pragma once
#include <cstdint>

enum SpanPoolType { SPAN_POOL_FLOAT = 0, SPAN_POOL_DOUBLE = 1, SPAN_POOL_BFLOAT16 = 2 };

struct SpanPoolSizes {
  int64_t words, spans, channels, num_sizes;
  const int32_t* kernel_sizes;  // on the host
};

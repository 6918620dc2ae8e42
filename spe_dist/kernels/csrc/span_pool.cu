// span_pool and span_gelu_pool on CUDA, as functions of a shared library.
//
// All return a cudaError_t, or -1 for sizes or types that they do not know. They wait for nothing. narrow_places: places
// are int16, else int32; the caller knows that every window has a smaller number.
#include "span_pool_backward.cuh"
#include "span_pool_forward.cuh"

extern "C" int span_pool_forward_cuda(const SpanPoolSizes* sizes, int taps_type, int narrow_places, const void* taps,
                                      const int64_t* starts, const int64_t* ends, void* lowest, void* highest,
                                      void* lowest_at, void* highest_at, void* stream) {
  const Results to{nullptr, lowest, highest, lowest_at, highest_at, false, narrow_places != 0};
  return run_forward(*sizes, taps_type, to, taps, starts, ends, static_cast<cudaStream_t>(stream));
}

// pooled and bias are of one type: that of the taps, or fp32 beside bf16 taps. slope and at may both be null.
extern "C" int span_gelu_pool_forward_cuda(const SpanPoolSizes* sizes, int taps_type, int bias_type, int narrow_places,
                                           const void* taps, const void* bias, const int64_t* starts,
                                           const int64_t* ends, void* pooled, void* slope, void* at, void* stream) {
  const bool wider = taps_type == SPAN_POOL_BFLOAT16 && bias_type == SPAN_POOL_FLOAT;
  if (bias_type != taps_type && !wider) return -1;
  const Results to{bias, pooled, slope, at, nullptr, bias_type == SPAN_POOL_BFLOAT16, narrow_places != 0};
  return run_forward(*sizes, taps_type, to, taps, starts, ends, static_cast<cudaStream_t>(stream));
}

// The gradients are in the type of the values. bounds: room for two int32 for every 256 spans, or part of them.
extern "C" int span_pool_backward_cuda(const SpanPoolSizes* given, int taps_type, int narrow_places,
                                       const void* grad_lowest, const void* grad_highest, const void* lowest_at,
                                       const void* highest_at, const int64_t* starts, const int64_t* ends,
                                       int32_t* bounds, void* grad_taps, void* stream) {
  Sizes sizes;
  if (!convert(*given, &sizes)) return -1;
  const Given from{{grad_lowest, grad_highest}, {lowest_at, highest_at}, nullptr, narrow_places != 0};
  const auto on = static_cast<cudaStream_t>(stream);
  switch (taps_type) {
    case SPAN_POOL_FLOAT:
      return choose_backward<float, float, 2>(sizes, from, starts, ends, bounds, grad_taps, on);
    case SPAN_POOL_DOUBLE:
      return choose_backward<double, double, 2>(sizes, from, starts, ends, bounds, grad_taps, on);
    case SPAN_POOL_BFLOAT16:
      return choose_backward<float, __nv_bfloat16, 2>(sizes, from, starts, ends, bounds, grad_taps, on);
    default:
      return -1;
  }
}

extern "C" int span_gelu_pool_backward_cuda(const SpanPoolSizes* given, int taps_type, int grad_type,
                                            int narrow_places, const void* grad, const void* slope, const void* at,
                                            const int64_t* starts, const int64_t* ends, int32_t* bounds,
                                            void* grad_taps, void* stream) {
  Sizes sizes;
  if (!convert(*given, &sizes)) return -1;
  const Given from{{grad, nullptr}, {at, nullptr}, slope, narrow_places != 0};
  const auto on = static_cast<cudaStream_t>(stream);
  if (taps_type == SPAN_POOL_FLOAT && grad_type == SPAN_POOL_FLOAT) {
    return choose_backward<float, float, 1>(sizes, from, starts, ends, bounds, grad_taps, on);
  }
  if (taps_type == SPAN_POOL_DOUBLE && grad_type == SPAN_POOL_DOUBLE) {
    return choose_backward<double, double, 1>(sizes, from, starts, ends, bounds, grad_taps, on);
  }
  if (taps_type == SPAN_POOL_BFLOAT16 && grad_type == SPAN_POOL_FLOAT) {
    return choose_backward<float, __nv_bfloat16, 1>(sizes, from, starts, ends, bounds, grad_taps, on);
  }
  if (taps_type == SPAN_POOL_BFLOAT16 && grad_type == SPAN_POOL_BFLOAT16) {
    return choose_backward<__nv_bfloat16, __nv_bfloat16, 1>(sizes, from, starts, ends, bounds, grad_taps, on);
  }
  return -1;
}

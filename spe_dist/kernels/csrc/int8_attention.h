// What layers of 8-bit integers do between their products, on the CPU: numbers to steps, and attention within sentences
// whose results are steps. A step s stands for (s - zero) * width. See int8_attention.py.
//
// Vectors of 16 numbers are GCC's and Clang's own: one register of AVX-512, two of AVX2, four of anything older.
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

namespace int8_attention {

constexpr int64_t kLanes = 16, kRows = 4;  // numbers of a vector; queries whose scores stay in registers
constexpr int64_t kFetched = 64;  // pieces
typedef float Floats __attribute__((vector_size(4 * kLanes), aligned(4)));
typedef int32_t Ints __attribute__((vector_size(4 * kLanes), aligned(4)));
typedef uint8_t Bytes __attribute__((vector_size(kLanes), aligned(1)));
constexpr Ints kLane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

struct Steps {
  float per_unit;  // 1 / width
  int32_t zero;

  uint8_t of(float value) const {
    const float place = std::min(std::max(value * per_unit + static_cast<float>(zero), 0.0f), 255.0f);
    return static_cast<uint8_t>(place + 0.5f);
  }
};

inline Floats load(const float* from) {
  Floats values;
  std::memcpy(&values, from, sizeof(values));
  return values;
}

template <typename Join>
inline float join(const Floats& values, Join both) {
  float parts[kLanes];
  std::memcpy(parts, &values, sizeof(parts));
  for (int64_t half = kLanes / 2; half > 0; half /= 2)
    for (int64_t lane = 0; lane < half; ++lane) parts[lane] = both(parts[lane], parts[lane + half]);
  return parts[0];
}

// e^x for x <= 0 within 2e-7: 2 to a whole number, by the exponent's bits, times a polynomial.
inline Floats exp_of_negative(Floats x) {
  Floats power = x * 1.44269504f;
  power = power < -126.0f ? Floats{} - 126.0f : power;
  const Floats whole = (power + 12582912.0f) - 12582912.0f;  // rounds
  const Floats rest = power - whole;
  Floats result = Floats{} + 1.5403530e-4f;
  for (const float c : {1.3333558e-3f, 9.6181291e-3f, 5.5504109e-2f, 2.4022651e-1f, 6.9314718e-1f, 1.0f})
    result = result * rest + c;
  const Ints exponent = (__builtin_convertvector(whole, Ints) + 127) << 23;
  Floats scale;
  std::memcpy(&scale, &exponent, sizeof(scale));
  return result * scale;
}

inline void write(const Floats& values, const Steps& steps, uint8_t* out) {
  Floats place = values * steps.per_unit + static_cast<float>(steps.zero);
  place = place < 0.0f ? Floats{} : place;
  place = place > 255.0f ? Floats{} + 255.0f : place;
  const Bytes bytes = __builtin_convertvector(__builtin_convertvector(place + 0.5f, Ints), Bytes);
  std::memcpy(out, &bytes, sizeof(bytes));
}

// One head of one sentence of `length` pieces; rows of query, key and value are `row` apart, of `out` `out_row`.
// `keys` [size, padded] and `scores` [kRows, padded] are room to work in; padded is the length rounded up to kLanes.
template <int64_t kSize>
void attend(const float* query, const float* key, const float* value, int64_t row, int64_t length, float scale,
            const Steps& steps, uint8_t* out, int64_t out_row, float* keys, float* scores) {
  const int64_t padded = (length + kLanes - 1) / kLanes * kLanes;
  for (int64_t j = 0; j < padded; ++j)
    for (int64_t d = 0; d < kSize; ++d) keys[d * padded + j] = j < length ? key[j * row + d] : 0.0f;
  for (int64_t first = 0; first < length; first += kRows) {
    const int64_t rows = std::min(kRows, length - first);
    const float* of_row[kRows];
    for (int64_t r = 0; r < kRows; ++r) of_row[r] = query + (first + std::min(r, rows - 1)) * row;
    Floats highest[kRows];
    for (auto& one : highest) one = Floats{} - 3.0e38f;
    for (int64_t j = 0; j < padded; j += kLanes) {
      Floats sums[kRows] = {};
      for (int64_t d = 0; d < kSize; ++d) {
        const Floats of_keys = load(keys + d * padded + j);
        for (int64_t r = 0; r < kRows; ++r) sums[r] += of_row[r][d] * of_keys;
      }
      for (int64_t r = 0; r < kRows; ++r) {
        sums[r] = kLane < static_cast<int32_t>(length - j) ? sums[r] : Floats{} - 3.0e38f;
        highest[r] = sums[r] > highest[r] ? sums[r] : highest[r];
        std::memcpy(scores + r * padded + j, &sums[r], sizeof(sums[r]));
      }
    }
    float shares[kRows];  // 1 / sum of the exponentials
    for (int64_t r = 0; r < kRows; ++r) {
      const float top = join(highest[r], [](float a, float b) { return std::max(a, b); });
      Floats total = {};
      for (int64_t j = 0; j < padded; j += kLanes) {
        const Floats power = exp_of_negative((load(scores + r * padded + j) - top) * scale);
        total += power;
        std::memcpy(scores + r * padded + j, &power, sizeof(power));
      }
      shares[r] = 1.0f / join(total, [](float a, float b) { return a + b; });
    }
    Floats states[kRows][kSize / kLanes] = {};
    for (int64_t j = 0; j < length; ++j)
      for (int64_t part = 0; part < kSize / kLanes; ++part) {
        const Floats of_value = load(value + j * row + part * kLanes);
        for (int64_t r = 0; r < kRows; ++r) states[r][part] += scores[r * padded + j] * of_value;
      }
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t part = 0; part < kSize / kLanes; ++part)
        write(states[r][part] * shares[r], steps, out + (first + r) * out_row + part * kLanes);
  }
}

template <int64_t kSize>
void attend_all(const float* qkv, const int32_t* starts, int64_t sequences, int64_t heads, float scale,
                const Steps& steps, uint8_t* out, int threads) {
  const int64_t hidden = heads * kSize;
#pragma omp parallel num_threads(threads)
  {
    std::vector<float> keys, scores;
#pragma omp for schedule(dynamic, 8)
    for (int64_t s = 0; s < sequences; ++s) {
      const int64_t first = starts[s], length = starts[s + 1] - first, padded = (length + kLanes - 1) / kLanes * kLanes;
      keys.resize(std::max<size_t>(keys.size(), kSize * padded));
      scores.resize(std::max<size_t>(scores.size(), kRows * padded));
      // The next sentence: rows are so far apart that the processor fetches nothing ahead by itself.
      const int64_t next = s + 1 < sequences ? std::min<int64_t>(starts[s + 2] - starts[s + 1], kFetched) : 0;
      for (int64_t i = 0; i < next * 3 * hidden; i += kLanes)
        __builtin_prefetch(qkv + (first + length) * 3 * hidden + i);
      for (int64_t h = 0; h < heads; ++h) {
        const float* query = qkv + first * 3 * hidden + h * kSize;
        attend<kSize>(query, query + hidden, query + 2 * hidden, 3 * hidden, length, scale, steps,
                      out + first * hidden + h * kSize, hidden, keys.data(), scores.data());
      }
    }
  }
}

}  // namespace int8_attention

extern "C" {

// values [count] → steps [count]
void int8_steps(const float* values, int64_t count, float per_unit, int32_t zero, uint8_t* out, int threads) {
  using namespace int8_attention;
  const Steps steps{per_unit, zero};
#pragma omp parallel for num_threads(threads)
  for (int64_t i = 0; i < count / kLanes; ++i) write(load(values + i * kLanes), steps, out + i * kLanes);
  for (int64_t i = count / kLanes * kLanes; i < count; ++i) out[i] = steps.of(values[i]);
}

// qkv [pieces, 3, heads, size] → steps [pieces, heads * size]; 1: heads of this size are not known.
int int8_attend(const float* qkv, const int32_t* starts, int64_t sequences, int64_t heads, int64_t size, float scale,
                float per_unit, int32_t zero, uint8_t* out, int threads) {
  using namespace int8_attention;
  const Steps steps{per_unit, zero};
  switch (size) {
    case 16: attend_all<16>(qkv, starts, sequences, heads, scale, steps, out, threads); return 0;
    case 32: attend_all<32>(qkv, starts, sequences, heads, scale, steps, out, threads); return 0;
    case 64: attend_all<64>(qkv, starts, sequences, heads, scale, steps, out, threads); return 0;
    default: return 1;
  }
}

}  // extern "C"

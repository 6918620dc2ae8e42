// What lies between products of 8-bit integers, on the CPU: numbers to steps, attention within sentences, GELU, and the
// norm of a sum. A step s stands for (s - zero) * width, and each row of them has a place of its own: (width, shift).
// A product of steps is finished by its row's place: width * product - shift * sums + bias. See int8_passes.py.
//
// Vectors are GCC's and Clang's own, of a register of AVX-512 or of AVX2: GCC takes wider ones apart, number by number.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <vector>

namespace int8_passes {

#ifdef __AVX512F__
constexpr int64_t kLanes = 16;  // numbers of a vector
#else
constexpr int64_t kLanes = 8;
#endif
constexpr int64_t kRows = 8;  // queries whose scores stay in registers
constexpr float kLevels = 255.0f;
typedef float Floats __attribute__((vector_size(4 * kLanes)));
typedef int32_t Ints __attribute__((vector_size(4 * kLanes)));
typedef uint8_t Bytes __attribute__((vector_size(kLanes)));
#ifdef __AVX512F__
constexpr Ints kLane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
#else
constexpr Ints kLane = {0, 1, 2, 3, 4, 5, 6, 7};
#endif

using Whole = std::integral_constant<int64_t, kLanes>;

// The first `left` numbers, and zeros where there are fewer than a vector holds.
template <typename Left>
inline Floats load(const float* from, Left left) {
  Floats values = {};
  std::memcpy(&values, from, left * sizeof(float));
  return values;
}

template <typename Vector, typename Number, typename Left>
inline void store(const Vector& values, Left left, Number* to) {
  std::memcpy(to, &values, left * sizeof(Number));
}

// one(column, left) for each vector of a row; only the last may have less than a whole one left.
template <typename One>
inline void over(int64_t columns, One one) {
  int64_t c = 0;
  for (; c + kLanes <= columns; c += kLanes) one(c, Whole());
  if (c < columns) one(c, columns - c);
}

// Lanes whose numbers differ in one bit change places.
inline Floats exchanged(const Floats& values, int32_t bit) {
#ifdef __clang__
  Floats others;
  for (int32_t lane = 0; lane < kLanes; ++lane) others[lane] = values[lane ^ bit];
  return others;
#else
  return __builtin_shuffle(values, kLane ^ bit);
#endif
}

template <typename Both>
inline float join(Floats values, Both both) {
#pragma GCC unroll 4
  for (int32_t bit = kLanes / 2; bit > 0; bit /= 2) values = both(values, exchanged(values, bit));
  return values[0];
}

inline float sum(const Floats& values) {
  return join(values, [](auto a, auto b) { return a + b; });
}

inline float lowest(const Floats& values) {
  return join(values, [](auto a, auto b) { return a < b ? a : b; });
}

inline float highest(const Floats& values) {
  return join(values, [](auto a, auto b) { return a > b ? a : b; });
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

// x times the normal distribution's share below x within 4e-5, and within 4e-6 of x where that is more: a polynomial of
// x^2 (Chebyshev's, refitted until its largest errors were alike) up to 4.5, beyond which the share is 0 or 1.
inline Floats gelu(Floats x) {
  const Floats size = x < 0.0f ? -x : x, near = size > 4.5f ? Floats{} + 4.5f : size;
  const Floats place = near * near * (2.0f / (4.5f * 4.5f)) - 1.0f;
  Floats result = Floats{} + 3.354905509e-3f;
  for (const float c : {-9.328992484e-3f, 1.220650817e-2f, -1.674342592e-2f, 2.763042301e-2f, -4.055599735e-2f,
                        5.481840769e-2f, -7.717194009e-2f, 1.569021165e-1f})
    result = result * place + c;
  return size * near * result + x * 0.5f;
}

struct Place {
  float width, shift;  // shift: width * zero
};

// What a product of steps is finished with.
struct Finish {
  const float *sums, *bias;  // [columns]

  template <typename Left>
  Floats operator()(const float* product, const Place& place, int64_t column, Left left) const {
    return load(product + column, left) * place.width - load(sums + column, left) * place.shift +
           load(bias + column, left);
  }
};

// Lanes that differ in one bit become their sum and their difference, for each bit.
inline Floats mix_lanes(Floats values) {
#pragma GCC unroll 4
  for (int32_t bit = 1; bit < kLanes; bit *= 2)
    values = exchanged(values, bit) + ((kLane & bit) != 0 ? -values : values);
  return values;
}

// A block of a row times the Hadamard matrix of its size, in place.
template <int64_t kColumns>
inline void mix_block(float* block) {
  constexpr int64_t kVectors = kColumns / kLanes;
  Floats values[kVectors];
#pragma GCC unroll 16
  for (int64_t v = 0; v < kVectors; ++v) values[v] = mix_lanes(load(block + v * kLanes, Whole()));
#pragma GCC unroll 4
  for (int64_t bit = 1; bit < kVectors; bit *= 2)
#pragma GCC unroll 16
    for (int64_t v = 0; v < kVectors; ++v) {
      if (v & bit) continue;
      const Floats first = values[v], second = values[v + bit];
      values[v] = first + second;
      values[v + bit] = first - second;
    }
#pragma GCC unroll 16
  for (int64_t v = 0; v < kVectors; ++v) store(values[v], Whole(), block + v * kLanes);
}

// Blocks of 128 columns, or of the largest power of two that divides their number; fewer than 16 are not mixed.
inline void mix(float* row, int64_t columns) {
  if (columns % 128 == 0)
    for (int64_t c = 0; c < columns; c += 128) mix_block<128>(row + c);
  else if (columns % 64 == 0)
    for (int64_t c = 0; c < columns; c += 64) mix_block<64>(row + c);
  else if (columns % 32 == 0)
    for (int64_t c = 0; c < columns; c += 32) mix_block<32>(row + c);
  else if (columns % 16 == 0)
    for (int64_t c = 0; c < columns; c += 16) mix_block<16>(row + c);
}

// A row, mixed in place, to steps that reach from its lowest to its highest number, 0 among them. Those of a row that is
// not finite stand for NaN.
inline Place to_steps(float* values, int64_t columns, uint8_t* steps) {
  mix(values, columns);
  Floats lows = {}, highs = {};
  Ints below = {};
  over(columns, [&](int64_t c, auto left) {
    const Floats some = load(values + c, left);
    lows = some < lows ? some : lows;
    highs = some > highs ? some : highs;
  });
  const float low = lowest(lows), high = highest(highs);
  const float width = std::max((high - low) / kLevels, 1e-12f), per_unit = 1.0f / width;
  const float zero = std::floor(-low * per_unit + 0.5f);
  over(columns, [&](int64_t c, auto left) {
    Floats place = load(values + c, left) * per_unit + (zero + 0.5f);
    place = place > kLevels ? Floats{} + kLevels : place;  // not below 0: the lowest number is step 0
    const Ints whole = __builtin_convertvector(place, Ints);
    below |= whole;  // NaN becomes the lowest integer
    store(__builtin_convertvector(whole, Bytes), left, steps + c);
  });
  if (lowest(__builtin_convertvector(below, Floats)) < 0.0f) return {NAN, NAN};
  return {width, width * zero};
}

// states = norm(states + finished product), over a row.
inline void add_and_norm(const float* product, const Place& place, const Finish& finish, int64_t columns,
                         const float* weight, const float* bias, float epsilon, float* states) {
  Floats total = {}, squares = {};
  over(columns, [&](int64_t c, auto left) {
    const Floats some = load(states + c, left) + finish(product, place, c, left);
    total += some;
    store(some, left, states + c);
  });
  const float mean = sum(total) / static_cast<float>(columns);
  over(columns, [&](int64_t c, auto left) {
    Floats apart = load(states + c, left) - mean;
    apart = kLane < static_cast<int32_t>(left) ? apart : Floats{};
    squares += apart * apart;
  });
  const float scale = 1.0f / std::sqrt(sum(squares) / static_cast<float>(columns) + epsilon);
  over(columns, [&](int64_t c, auto left) {
    store((load(states + c, left) - mean) * scale * load(weight + c, left) + load(bias + c, left), left, states + c);
  });
}

// kLanes rows that are `row` apart, of which `left` are there, → their columns, which are `column` apart.
inline void transpose(const float* from, int64_t row, int64_t left, float* to, int64_t column) {
  Floats rows[kLanes];
  for (int64_t i = 0; i < kLanes; ++i) rows[i] = i < left ? load(from + i * row, Whole()) : Floats{};
#ifdef __clang__
  for (int64_t i = 0; i < kLanes; ++i)
    for (int64_t j = 0; j < kLanes; ++j) to[i * column + j] = rows[j][i];
#else
#pragma GCC unroll 4
  for (int32_t step = kLanes / 2; step > 0; step /= 2) {  // blocks beside the diagonal change places
    const Ints in_second = (kLane & step) != 0;
    const Ints upper = in_second ? kLane + (static_cast<int32_t>(kLanes) - step) : kLane;
    const Ints lower = in_second ? kLane + static_cast<int32_t>(kLanes) : kLane + step;
#pragma GCC unroll 16
    for (int64_t i = 0; i < kLanes; ++i) {
      if (i & step) continue;
      const Floats first = rows[i], second = rows[i + step];
      rows[i] = __builtin_shuffle(first, second, upper);
      rows[i + step] = __builtin_shuffle(first, second, lower);
    }
  }
  for (int64_t i = 0; i < kLanes; ++i) store(rows[i], Whole(), to + i * column);
#endif
}

// One head of one sentence of `length` pieces; rows of query, key and value are `row` apart, of `out` `out_row`.
// `keys` [size, padded] and `scores` [kRows, padded] are room to work in; padded is the length rounded up to kLanes.
template <int64_t kSize>
void attend(const float* query, const float* key, const float* value, int64_t row, int64_t length, float scale,
            float* out, int64_t out_row, float* keys, float* scores) {
  const int64_t padded = (length + kLanes - 1) / kLanes * kLanes;
  for (int64_t j = 0; j < padded; j += kLanes)
    for (int64_t d = 0; d < kSize; d += kLanes) transpose(key + j * row + d, row, length - j, keys + d * padded + j, padded);
  for (int64_t first = 0; first < length; first += kRows) {
    const int64_t rows = std::min(kRows, length - first);
    const float* of_row[kRows];
    for (int64_t r = 0; r < kRows; ++r) of_row[r] = query + (first + std::min(r, rows - 1)) * row;
    Floats tops[kRows];
    for (auto& one : tops) one = Floats{} - 3.0e38f;
    for (int64_t j = 0; j < padded; j += kLanes) {
      Floats sums[kRows] = {};
      for (int64_t d = 0; d < kSize; ++d) {
        const Floats of_keys = load(keys + d * padded + j, Whole());
        for (int64_t r = 0; r < kRows; ++r) sums[r] += of_row[r][d] * of_keys;
      }
      for (int64_t r = 0; r < kRows; ++r) {
        sums[r] = kLane < static_cast<int32_t>(length - j) ? sums[r] : Floats{} - 3.0e38f;
        tops[r] = sums[r] > tops[r] ? sums[r] : tops[r];
        std::memcpy(scores + r * padded + j, &sums[r], sizeof(sums[r]));
      }
    }
    float shares[kRows];  // 1 / sum of the exponentials
    for (int64_t r = 0; r < kRows; ++r) {
      const float top = highest(tops[r]);
      Floats total = {};
      for (int64_t j = 0; j < padded; j += kLanes) {
        const Floats power = exp_of_negative((load(scores + r * padded + j, Whole()) - top) * scale);
        total += power;
        std::memcpy(scores + r * padded + j, &power, sizeof(power));
      }
      shares[r] = 1.0f / sum(total);
    }
    Floats states[kRows][kSize / kLanes] = {};
    for (int64_t j = 0; j < length; ++j)
      for (int64_t part = 0; part < kSize / kLanes; ++part) {
        const Floats of_value = load(value + j * row + part * kLanes, Whole());
        for (int64_t r = 0; r < kRows; ++r) states[r][part] += scores[r * padded + j] * of_value;
      }
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t part = 0; part < kSize / kLanes; ++part)
        store(states[r][part] * shares[r], Whole(), out + (first + r) * out_row + part * kLanes);
  }
}

// All heads of a sentence, whose products are finished in place first; `attended` [length, heads * size] is room.
template <int64_t kSize>
void attend_in_sentence(float* qkv, const Place* places, const Finish& finish, int64_t length, int64_t heads,
                        float scale, uint8_t* steps, Place* out, float* attended, float* keys, float* scores) {
  const int64_t hidden = heads * kSize, row = 3 * hidden;
  for (int64_t i = 0; i < length; ++i)
    over(row, [&](int64_t c, auto left) { store(finish(qkv + i * row, places[i], c, left), left, qkv + i * row + c); });
  for (int64_t h = 0; h < heads; ++h) {
    const float* query = qkv + h * kSize;
    attend<kSize>(query, query + hidden, query + 2 * hidden, row, length, scale, attended + h * kSize, hidden, keys,
                  scores);
  }
  for (int64_t i = 0; i < length; ++i) out[i] = to_steps(attended + i * hidden, hidden, steps + i * hidden);
}

template <int64_t kSize>
void attend_all(float* qkv, const Place* places, const Finish& finish, const int32_t* starts, int64_t sequences,
                int64_t heads, float scale, uint8_t* steps, Place* out, int threads) {
  const int64_t hidden = heads * kSize;
#pragma omp parallel num_threads(threads)
  {
    std::vector<float> attended, keys, scores;
#pragma omp for schedule(dynamic, 8)
    for (int64_t s = 0; s < sequences; ++s) {
      const int64_t first = starts[s], length = starts[s + 1] - first, padded = (length + kLanes - 1) / kLanes * kLanes;
      attended.resize(std::max<size_t>(attended.size(), length * hidden));
      keys.resize(std::max<size_t>(keys.size(), kSize * padded));
      scores.resize(std::max<size_t>(scores.size(), kRows * padded));
      attend_in_sentence<kSize>(qkv + first * 3 * hidden, places + first, finish, length, heads, scale,
                                steps + first * hidden, out + first, attended.data(), keys.data(), scores.data());
    }
  }
}

}  // namespace int8_passes

// All are [rows, columns], places [rows].
extern "C" {

// values → steps
void int8_steps(const float* values, int64_t rows, int64_t columns, uint8_t* steps, int8_passes::Place* out,
                int threads) {
#pragma omp parallel num_threads(threads)
  {
    std::vector<float> row(columns);
#pragma omp for
    for (int64_t i = 0; i < rows; ++i) {
      std::copy_n(values + i * columns, columns, row.data());
      out[i] = int8_passes::to_steps(row.data(), columns, steps + i * columns);
    }
  }
}

// GELU of the finished product → steps
void int8_gelu(const float* product, const int8_passes::Place* places, const float* sums, const float* bias,
               int64_t rows, int64_t columns, uint8_t* steps, int8_passes::Place* out, int threads) {
  using namespace int8_passes;
  const Finish finish{sums, bias};
#pragma omp parallel num_threads(threads)
  {
    std::vector<float> row(columns);
#pragma omp for
    for (int64_t i = 0; i < rows; ++i) {
      const float* from = product + i * columns;
      over(columns, [&](int64_t c, auto left) { store(gelu(finish(from, places[i], c, left)), left, &row[c]); });
      out[i] = to_steps(row.data(), columns, steps + i * columns);
    }
  }
}

// states = norm(states + finished product)
void int8_norm(const float* product, const int8_passes::Place* places, const float* sums, const float* bias,
               int64_t rows, int64_t columns, const float* norm_weight, const float* norm_bias, float epsilon,
               float* states, int threads) {
  using namespace int8_passes;
  const Finish finish{sums, bias};
#pragma omp parallel for num_threads(threads)
  for (int64_t i = 0; i < rows; ++i)
    add_and_norm(product + i * columns, places[i], finish, columns, norm_weight, norm_bias, epsilon,
                 states + i * columns);
}

// product of query, key and value [rows, 3, heads, size], finished in place → steps of what each sentence attends to;
// 1: heads of this size are not known.
int int8_attend(float* qkv, const int8_passes::Place* places, const float* sums, const float* bias,
                const int32_t* starts, int64_t sequences, int64_t heads, int64_t size, float scale, uint8_t* steps,
                int8_passes::Place* out, int threads) {
  using namespace int8_passes;
  const Finish finish{sums, bias};
  switch (size) {
    case 16: attend_all<16>(qkv, places, finish, starts, sequences, heads, scale, steps, out, threads); return 0;
    case 32: attend_all<32>(qkv, places, finish, starts, sequences, heads, scale, steps, out, threads); return 0;
    case 64: attend_all<64>(qkv, places, finish, starts, sequences, heads, scale, steps, out, threads); return 0;
    default: return 1;
  }
}

}  // extern "C"

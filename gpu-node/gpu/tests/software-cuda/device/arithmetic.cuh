// Vector types, atomics, and the functions on integers and floats. Part of software_cuda.cuh.
#pragma once

using uint3 = software_cuda::Index;
using dim3 = software_cuda::Index;

#define SOFTWARE_CUDA_VECTORS(T, name)                                                        \
  struct alignas(2 * sizeof(T)) name##2 {                                                     \
    T x, y;                                                                                   \
  };                                                                                          \
  struct alignas(4 * sizeof(T)) name##4 {                                                     \
    T x, y, z, w;                                                                             \
  };                                                                                          \
  inline name##2 make_##name##2(T x, T y) { return {x, y}; }                                  \
  inline name##4 make_##name##4(T x, T y, T z, T w) { return {x, y, z, w}; }
SOFTWARE_CUDA_VECTORS(signed char, char)
SOFTWARE_CUDA_VECTORS(unsigned char, uchar)
SOFTWARE_CUDA_VECTORS(short, short)
SOFTWARE_CUDA_VECTORS(unsigned short, ushort)
SOFTWARE_CUDA_VECTORS(int, int)
SOFTWARE_CUDA_VECTORS(unsigned, uint)
SOFTWARE_CUDA_VECTORS(float, float)
#undef SOFTWARE_CUDA_VECTORS

template <typename T>
T __ldg(const T *address) {
  return *address;
}

template <typename To, typename From>
To software_cuda_bits(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  __builtin_memcpy(&to, &from, sizeof(To));
  return to;
}
inline float __uint_as_float(unsigned bits) { return software_cuda_bits<float>(bits); }
inline unsigned __float_as_uint(float value) { return software_cuda_bits<unsigned>(value); }
inline float __int_as_float(int bits) { return software_cuda_bits<float>(bits); }
inline int __float_as_int(float value) { return software_cuda_bits<int>(value); }

inline int __popc(unsigned value) { return __builtin_popcount(value); }
inline int __popcll(unsigned long long value) { return __builtin_popcountll(value); }
inline int __ffs(int value) { return __builtin_ffs(value); }
inline int __ffsll(long long value) { return __builtin_ffsll(value); }
inline int __clz(int value) { return value ? __builtin_clz(unsigned(value)) : 32; }
inline int __clzll(long long value) { return value ? __builtin_clzll((unsigned long long)value) : 64; }
inline unsigned __brev(unsigned value) {
  unsigned result = 0;
  for (int bit = 0; bit < 32; bit++) result |= (value >> bit & 1) << (31 - bit);
  return result;
}
/// Bytes of the eight of `high:low`, each picked by the lower three bits of a digit of `selector`.
inline unsigned __byte_perm(unsigned low, unsigned high, unsigned selector) {
  unsigned long long bytes = (unsigned long long)high << 32 | low;
  unsigned result = 0;
  for (int byte = 0; byte < 4; byte++) {
    unsigned place = selector >> (4 * byte) & 7;
    result |= unsigned(bytes >> (8 * place) & 0xff) << (8 * byte);
  }
  return result;
}
inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned shift) {
  return unsigned(((unsigned long long)high << 32 | low) >> (shift & 31));
}
inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned shift) {
  return unsigned(((unsigned long long)high << 32 | low) << (shift & 31) >> 32);
}
inline unsigned __umulhi(unsigned a, unsigned b) { return unsigned((unsigned long long)a * b >> 32); }

inline float fmaf(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
inline float __fmaf_rn(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fsqrt_rn(float a) { return __builtin_sqrtf(a); }
inline float __fdividef(float a, float b) { return a / b; }
inline float expf(float a) { return __builtin_expf(a); }
inline float exp2f(float a) { return __builtin_exp2f(a); }
inline float __expf(float a) { return __builtin_expf(a); }
inline float logf(float a) { return __builtin_logf(a); }
inline float log2f(float a) { return __builtin_log2f(a); }
inline float __logf(float a) { return __builtin_logf(a); }
inline float log1pf(float a) { return __builtin_log1pf(a); }
inline float powf(float a, float b) { return __builtin_powf(a, b); }
inline float sinf(float a) { return __builtin_sinf(a); }
inline float cosf(float a) { return __builtin_cosf(a); }
inline float tanhf(float a) { return __builtin_tanhf(a); }
inline float sqrtf(float a) { return __builtin_sqrtf(a); }
inline float rsqrtf(float a) { return float(1.0 / __builtin_sqrt(double(a))); }
inline float fabsf(float a) { return __builtin_fabsf(a); }
inline float floorf(float a) { return __builtin_floorf(a); }
inline float ceilf(float a) { return __builtin_ceilf(a); }
inline float truncf(float a) { return __builtin_truncf(a); }
inline float rintf(float a) { return __builtin_rintf(a); }
inline float roundf(float a) { return __builtin_roundf(a); }
inline float ldexpf(float a, int exponent) { return __builtin_ldexpf(a, exponent); }
inline float fminf(float a, float b) { return __builtin_fminf(a, b); }
inline float fmaxf(float a, float b) { return __builtin_fmaxf(a, b); }
inline float copysignf(float a, float b) { return __builtin_copysignf(a, b); }
inline bool isnan(float a) { return __builtin_isnan(a); }
inline bool isinf(float a) { return __builtin_isinf_sign(a) != 0; }
inline bool isfinite(float a) { return __builtin_isfinite(a); }
inline int __float2int_rn(float a) { return int(__builtin_rintf(a)); }
inline int __float2int_rz(float a) { return int(a); }
inline unsigned __float2uint_rn(float a) { return unsigned(__builtin_rintf(a)); }
inline unsigned __float2uint_rz(float a) { return unsigned(a); }
inline float __int2float_rn(int a) { return float(a); }
inline float __uint2float_rn(unsigned a) { return float(a); }

// As in CUDA, one unsigned argument makes the comparison unsigned.
#define SOFTWARE_CUDA_EXTREMES(A, B, T)                          \
  inline T min(A a, B b) {                                       \
    T x = static_cast<T>(a), y = static_cast<T>(b);              \
    return x < y ? x : y;                                        \
  }                                                              \
  inline T max(A a, B b) {                                       \
    T x = static_cast<T>(a), y = static_cast<T>(b);              \
    return x > y ? x : y;                                        \
  }
SOFTWARE_CUDA_EXTREMES(int, int, int)
SOFTWARE_CUDA_EXTREMES(unsigned, unsigned, unsigned)
SOFTWARE_CUDA_EXTREMES(int, unsigned, unsigned)
SOFTWARE_CUDA_EXTREMES(unsigned, int, unsigned)
SOFTWARE_CUDA_EXTREMES(long long, long long, long long)
SOFTWARE_CUDA_EXTREMES(unsigned long long, unsigned long long, unsigned long long)
#undef SOFTWARE_CUDA_EXTREMES
inline float min(float a, float b) { return fminf(a, b); }
inline float max(float a, float b) { return fmaxf(a, b); }
inline int abs(int a) { return a < 0 ? -a : a; }

template <typename T>
SOFTWARE_CUDA_UNNOTED T atomicCAS(T *address, T compare, T value) {
  SOFTWARE_CUDA_NOTE_ATOMIC(address);
  __atomic_compare_exchange_n(address, &compare, value, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
  return compare;
}
/// Replaces a value by a function of it, and returns the old one.
template <typename T, typename Change>
SOFTWARE_CUDA_UNNOTED T software_cuda_update(T *address, Change change) {
  SOFTWARE_CUDA_NOTE_ATOMIC(address);
  T old = __atomic_load_n(address, __ATOMIC_RELAXED);
  while (!__atomic_compare_exchange_n(address, &old, change(old), false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
  }
  return old;
}
#define SOFTWARE_CUDA_ATOMIC(T, name, function)                    \
  SOFTWARE_CUDA_UNNOTED inline T name(T *address, T value) {       \
    SOFTWARE_CUDA_NOTE_ATOMIC(address);                            \
    return function(address, value, __ATOMIC_RELAXED);             \
  }
#define SOFTWARE_CUDA_ATOMICS(T)                                                            \
  SOFTWARE_CUDA_ATOMIC(T, atomicAdd, __atomic_fetch_add)                                    \
  SOFTWARE_CUDA_ATOMIC(T, atomicSub, __atomic_fetch_sub)                                    \
  SOFTWARE_CUDA_ATOMIC(T, atomicAnd, __atomic_fetch_and)                                    \
  SOFTWARE_CUDA_ATOMIC(T, atomicOr, __atomic_fetch_or)                                      \
  SOFTWARE_CUDA_ATOMIC(T, atomicXor, __atomic_fetch_xor)                                    \
  SOFTWARE_CUDA_ATOMIC(T, atomicExch, __atomic_exchange_n)                                  \
  inline T atomicMin(T *address, T value) {                                                 \
    return software_cuda_update(address, [=](T old) { return value < old ? value : old; }); \
  }                                                                                         \
  inline T atomicMax(T *address, T value) {                                                 \
    return software_cuda_update(address, [=](T old) { return value > old ? value : old; }); \
  }
SOFTWARE_CUDA_ATOMICS(int)
SOFTWARE_CUDA_ATOMICS(unsigned)
SOFTWARE_CUDA_ATOMICS(unsigned long long)
#undef SOFTWARE_CUDA_ATOMICS
#undef SOFTWARE_CUDA_ATOMIC
inline float atomicAdd(float *address, float value) {
  unsigned old = software_cuda_update(reinterpret_cast<unsigned *>(address), [=](unsigned bits) {
    return __float_as_uint(__uint_as_float(bits) + value);
  });
  return __uint_as_float(old);
}

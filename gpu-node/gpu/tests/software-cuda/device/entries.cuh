// How the driver calls a kernel, and what a check that g++ compiled into it reports. Part of software_cuda.cuh.
#pragma once

namespace software_cuda {

template <int... positions>
struct Positions {};

template <typename T>
constexpr bool is_pointer = false;
template <typename T>
constexpr bool is_pointer<T *> = true;

template <auto kernel>
struct Call;

/// Takes the parameters of a kernel from an array of pointers to them.
template <typename... P, void (*kernel)(P...)>
struct Call<kernel> {
  static constexpr unsigned count = sizeof...(P);
  // The last is there because an array has at least one element.
  static constexpr Parameter parameters[] = {{sizeof(P), is_pointer<P>}..., {0, false}};

  static void run(void *const *parameters) { run(parameters, Positions<__integer_pack(int(sizeof...(P)))...>()); }

  template <int... positions>
  static void run(void *const *parameters, Positions<positions...>) {
    kernel(*static_cast<P *>(parameters[positions])...);
  }
};

template <auto kernel>
constexpr Entry entry(const char *name, unsigned max_threads) {
  return {name, Call<kernel>::run, Call<kernel>::parameters, Call<kernel>::count, max_threads};
}

SOFTWARE_CUDA_UNNOTED inline void enter(const Block *next) { block = next; }

/// Where a check stands: the first member of what g++ passes to the functions below.
struct Location {
  const char *file;
  unsigned line;
  unsigned column;
};

inline void undefined(const void *check, int error, const char *reason) {
  block->runtime->fail(error, reason, static_cast<const Location *>(check)->line);
}

}  // namespace software_cuda

// g++ compiles calls of these functions with -fsanitize.
extern "C" inline __attribute__((used)) void __ubsan_handle_type_mismatch_v1_abort(void *check, unsigned long) {
  software_cuda::undefined(check, 716, "misaligned address, or a null pointer");
}
extern "C" inline __attribute__((used)) void __ubsan_handle_out_of_bounds_abort(void *check, unsigned long) {
  software_cuda::undefined(check, 700, "index outside an array");
}
extern "C" inline __attribute__((used)) void __ubsan_handle_shift_out_of_bounds_abort(void *check, unsigned long,
                                                                                      unsigned long) {
  software_cuda::undefined(check, 719, "shift by a negative number or by all bits");
}
extern "C" inline __attribute__((used)) void __ubsan_handle_divrem_overflow_abort(void *check, unsigned long,
                                                                                  unsigned long) {
  software_cuda::undefined(check, 719, "division by zero");
}
extern "C" inline __attribute__((used)) void __ubsan_handle_float_cast_overflow_abort(void *check, unsigned long) {
  software_cuda::undefined(check, 719, "float outside the range of an integer");
}
extern "C" inline __attribute__((used)) void __ubsan_handle_builtin_unreachable(void *check) {
  software_cuda::undefined(check, 719, "the end of a function that returns a value");
}

// Memory of the device, and pinned memory of the host.
#pragma once
#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <string>

#include "api.h"

namespace software_cuda {

enum class MemoryKind { device, host };

/// Allocations, each of which ends at a page that faults. Addresses are never used again, so that a use after free faults.
///
/// Fresh memory has all bits set, which are NaN in a float. Between the end of an allocation and its page end may be up to
/// 255 bytes, and before it the rest of a page: these red zones have to keep their bytes.
class Memory {
 public:
  /// Whether an allocation may have the address, or have had it.
  static bool may_own(uintptr_t address);

  explicit Memory(size_t limit_bytes);

  /// Fails with CUDA_ERROR_OUT_OF_MEMORY beyond the limit, which holds for memory of the device alone.
  CUresult allocate(size_t bytes, MemoryKind kind, bool stream_ordered, uintptr_t &address);

  /// Fails with CUDA_ERROR_INVALID_VALUE unless an allocation of this kind starts at the address.
  CUresult release(uintptr_t address, MemoryKind kind);

  /// Whether the allocation that starts here came from a stream. Such memory is freed without waiting.
  bool is_stream_ordered(uintptr_t address);

  /// Why `bytes` at the address are not within one live allocation.
  std::optional<std::string> problem(uintptr_t address, size_t bytes);

  /// The same for memory of the host, which may also come from elsewhere.
  std::optional<std::string> host_problem(uintptr_t address, size_t bytes);

  /// What was written beside an allocation.
  std::optional<std::string> damage();

  size_t limit();
  void set_limit(size_t bytes);
  size_t used();

  /// The base and the size of the allocation around an address.
  std::optional<std::pair<uintptr_t, size_t>> range(uintptr_t address);

  /// Frees everything.
  void clear();

 private:
  struct Allocation {
    size_t bytes;
    MemoryKind kind;
    bool stream_ordered;
    /// Its pages that can be used.
    uintptr_t first_page;
    size_t page_bytes;
  };
  using Allocations = std::map<uintptr_t, Allocation>;

  Allocations::iterator around(uintptr_t address);
  void unmap(const Allocation &allocation);

  std::mutex mutex;
  size_t limit_bytes;
  size_t used_bytes = 0;
  Allocations allocations;
};

}  // namespace software_cuda

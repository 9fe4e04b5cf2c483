#include "memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <cstring>

namespace software_cuda {

namespace {

constexpr size_t PAGE = 4096;
/// What cuMemAlloc promises for addresses.
constexpr size_t ALIGNMENT = 256;
/// Between allocations, so that an index too large does not hit the next one.
constexpr size_t GAP = 16 << 20;
constexpr size_t ARENA = size_t(8) << 40;

size_t round_up(size_t bytes, size_t unit) { return (bytes + unit - 1) / unit * unit; }

std::string hex(uintptr_t address) {
  char text[32];
  std::snprintf(text, sizeof(text), "0x%zx", size_t(address));
  return text;
}

/// Addresses that no other part of the process gets. They are given out once.
class Arena {
 public:
  Arena() {
    void *reserved = mmap(nullptr, ARENA, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (reserved == MAP_FAILED) return;
    start = next = reinterpret_cast<uintptr_t>(reserved);
    end = start + ARENA;
  }

  /// 0 if there are none left.
  uintptr_t take(size_t bytes) {
    if (end - next < bytes + GAP) return 0;
    uintptr_t taken = next + GAP;
    next = taken + bytes;
    return taken;
  }

  bool contains(uintptr_t address) const { return start <= address && address < end; }

 private:
  uintptr_t start = 0, next = 0, end = 0;
};

// Never destroyed: threads may use it while the process ends.
Arena &arena() {
  static Arena &arena = *new Arena;
  return arena;
}

bool intact(uintptr_t start, uintptr_t end) {
  auto *bytes = reinterpret_cast<const unsigned char *>(start);
  return std::all_of(bytes, bytes + (end - start), [](unsigned char byte) { return byte == 0xff; });
}

}  // namespace

bool Memory::may_own(uintptr_t address) { return arena().contains(address); }

Memory::Memory(size_t limit_bytes) : limit_bytes(limit_bytes) {}

CUresult Memory::allocate(size_t bytes, MemoryKind kind, bool stream_ordered, uintptr_t &address) {
  if (bytes == 0) return CUDA_ERROR_INVALID_VALUE;
  std::lock_guard lock(mutex);
  if (kind == MemoryKind::device && (used_bytes > limit_bytes || bytes > limit_bytes - used_bytes))
    return CUDA_ERROR_OUT_OF_MEMORY;
  size_t rounded = round_up(bytes, ALIGNMENT);
  Allocation allocation{bytes, kind, stream_ordered, 0, round_up(rounded, PAGE)};
  allocation.first_page = arena().take(allocation.page_bytes);
  auto *pages = reinterpret_cast<void *>(allocation.first_page);
  if (!pages || mprotect(pages, allocation.page_bytes, PROT_READ | PROT_WRITE) != 0) return CUDA_ERROR_OUT_OF_MEMORY;
  std::memset(pages, 0xff, allocation.page_bytes);
  address = allocation.first_page + allocation.page_bytes - rounded;
  allocations.emplace(address, allocation);
  if (kind == MemoryKind::device) used_bytes += bytes;
  return CUDA_SUCCESS;
}

CUresult Memory::release(uintptr_t address, MemoryKind kind) {
  std::lock_guard lock(mutex);
  auto found = allocations.find(address);
  if (found == allocations.end() || found->second.kind != kind) return CUDA_ERROR_INVALID_VALUE;
  unmap(found->second);
  if (kind == MemoryKind::device) used_bytes -= found->second.bytes;
  allocations.erase(found);
  return CUDA_SUCCESS;
}

/// Gives the memory back, and keeps its addresses reserved.
void Memory::unmap(const Allocation &allocation) {
  mmap(reinterpret_cast<void *>(allocation.first_page), allocation.page_bytes, PROT_NONE,
       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
}

bool Memory::is_stream_ordered(uintptr_t address) {
  std::lock_guard lock(mutex);
  auto found = allocations.find(address);
  return found != allocations.end() && found->second.stream_ordered;
}

Memory::Allocations::iterator Memory::around(uintptr_t address) {
  auto after = allocations.upper_bound(address);
  if (after == allocations.begin()) return allocations.end();
  auto found = std::prev(after);
  return address < found->first + found->second.bytes ? found : allocations.end();
}

std::optional<std::string> Memory::problem(uintptr_t address, size_t bytes) {
  std::lock_guard lock(mutex);
  auto found = around(address);
  if (found == allocations.end()) return "no live allocation contains " + hex(address);
  size_t left = found->first + found->second.bytes - address;
  if (bytes <= left) return {};
  return std::to_string(bytes) + " bytes at " + hex(address) + " are " + std::to_string(bytes - left) +
         " more than its allocation of " + std::to_string(found->second.bytes) + " has from there";
}

std::optional<std::string> Memory::host_problem(uintptr_t address, size_t bytes) {
  if (!arena().contains(address)) return {};
  return problem(address, bytes);
}

std::optional<std::string> Memory::damage() {
  std::lock_guard lock(mutex);
  for (const auto &[address, allocation] : allocations) {
    uintptr_t before = std::max(allocation.first_page, address - ALIGNMENT);
    uintptr_t end = address + allocation.bytes;
    if (!intact(before, address) || !intact(end, allocation.first_page + allocation.page_bytes))
      return "bytes just outside the allocation of " + std::to_string(allocation.bytes) + " at " + hex(address) +
             " were written";
  }
  return {};
}

size_t Memory::limit() {
  std::lock_guard lock(mutex);
  return limit_bytes;
}

void Memory::set_limit(size_t bytes) {
  std::lock_guard lock(mutex);
  limit_bytes = bytes;
}

size_t Memory::used() {
  std::lock_guard lock(mutex);
  return used_bytes;
}

std::optional<std::pair<uintptr_t, size_t>> Memory::range(uintptr_t address) {
  std::lock_guard lock(mutex);
  auto found = around(address);
  if (found == allocations.end()) return {};
  return std::pair(found->first, found->second.bytes);
}

void Memory::clear() {
  std::lock_guard lock(mutex);
  for (const auto &[address, allocation] : allocations) unmap(allocation);
  allocations.clear();
  used_bytes = 0;
}

}  // namespace software_cuda

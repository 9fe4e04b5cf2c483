// Finds accesses of two threads to one word that nothing orders.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <unordered_map>
#include <vector>

#include "../device/interface.h"

namespace software_cuda {

/// What the threads of a launch read and wrote, for each word of 4 bytes of shared memory and of the memory of the device.
///
/// Two accesses are a race if one of them is a write, not both are atomic, other threads do them, and neither `__syncthreads`, nor
/// `__syncwarp` in one warp, lies between them. Nothing orders the blocks of a launch. Threads run one after another, so that a
/// race shows whatever they compute.
class Races {
 public:
  /// The other access of a race.
  struct Race {
    /// `read` or `write`.
    const char *what;
    /// The number of its block.
    unsigned block;
    /// Null for an asynchronous copy.
    const void *instruction;
  };

  /// Begins a launch, and in it a block, whose shared memory is at an address.
  void begin_launch();
  void begin_block(unsigned block, uintptr_t shared, size_t shared_bytes);
  /// All threads of the block have reached a barrier, or the lanes of a warp `__syncwarp`.
  void barrier();
  void sync_warp(unsigned warp) { warp_times[warp] = ++now; }

  /// Notes an access of a thread of the block. Returns an earlier one that it is not ordered with, if there is one.
  std::optional<Race> access(uintptr_t address, size_t bytes, Access kind, unsigned thread, const void *instruction);


  /// Whether an address is in the shared memory of the block.
  bool is_shared(uintptr_t address) const { return shared_start <= address && address < shared_end; }

 private:
  /// The latest accesses to a word, and the first read in the launch. Times count events; 0 is never.
  struct Word {
    uint64_t write_time, read_time, first_read_time;
    const void *write_instruction, *read_instruction;
    unsigned writer, write_block, first_read_block;
    /// Since the last barrier: the warps that read, and the lanes of the last of them since its last `__syncwarp`.
    unsigned reading_warps, reading_warp, reading_lanes;
    bool write_is_atomic;
  };
  static constexpr size_t PAGE_WORDS = 1024;

  Word &word(uintptr_t address);
  /// Whether an earlier write, or earlier reads, are ordered before an access of a thread. Accesses before `start` do not count.
  bool is_ordered_after_write(const Word &word, unsigned thread, uint64_t start) const;
  bool is_ordered_after_reads(const Word &word, unsigned thread, uint64_t start) const;

  uint64_t now = 0, launch_time = 0, block_time = 0, barrier_time = 0;
  std::vector<uint64_t> warp_times = std::vector<uint64_t>(32);
  unsigned block = 0;
  uintptr_t shared_start = 0, shared_end = 0;
  std::vector<Word> shared_words;
  std::unordered_map<uintptr_t, std::unique_ptr<Word[]>> pages;
  uintptr_t last_page_number = 0;
  Word *last_page = nullptr;
};

}  // namespace software_cuda

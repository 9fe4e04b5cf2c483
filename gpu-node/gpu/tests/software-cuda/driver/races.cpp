#include "races.h"

#include <algorithm>

namespace software_cuda {

namespace {

constexpr unsigned WARP = 32;
constexpr size_t WORD_BYTES = 4;
/// Pages of words of earlier launches that are kept, at most.
constexpr size_t MAX_PAGES = 4096;

}  // namespace

void Races::begin_launch() {
  if (pages.size() > MAX_PAGES) {
    pages.clear();
    last_page = nullptr;
  }
  launch_time = ++now;
}

void Races::begin_block(unsigned next_block, uintptr_t shared, size_t shared_bytes) {
  block = next_block;
  shared_start = shared;
  shared_end = shared + shared_bytes;
  shared_words.resize(std::max(shared_words.size(), shared_bytes / WORD_BYTES + 1));
  block_time = barrier_time = ++now;
  std::fill(warp_times.begin(), warp_times.end(), now);
}

void Races::barrier() {
  barrier_time = ++now;
  std::fill(warp_times.begin(), warp_times.end(), now);
}

Races::Word &Races::word(uintptr_t address) {
  if (is_shared(address)) return shared_words[(address - shared_start) / WORD_BYTES];
  uintptr_t number = address / WORD_BYTES / PAGE_WORDS + 1;
  if (!last_page || last_page_number != number) {
    auto &page = pages[number];
    if (!page) page = std::make_unique<Word[]>(PAGE_WORDS);
    last_page = page.get();
    last_page_number = number;
  }
  return last_page[address / WORD_BYTES % PAGE_WORDS];
}

bool Races::is_ordered_after_write(const Word &word, unsigned thread, uint64_t start) const {
  if (word.write_time < start) return true;
  if (word.write_time < block_time) return false;
  if (word.write_time < barrier_time || word.writer == thread) return true;
  return word.writer / WARP == thread / WARP && word.write_time < warp_times[thread / WARP];
}

bool Races::is_ordered_after_reads(const Word &word, unsigned thread, uint64_t start) const {
  if (word.read_time < start) return true;
  if (start <= word.first_read_time && word.first_read_time < block_time) return false;
  if (word.read_time < barrier_time) return true;
  unsigned warp = thread / WARP;
  if (word.reading_warps & ~(1u << warp)) return false;
  return word.read_time < warp_times[warp] || (word.reading_lanes & ~(1u << thread % WARP)) == 0;
}

std::optional<Races::Race> Races::access(uintptr_t address, size_t bytes, Access kind, unsigned thread,
                                         const void *instruction) {
  const bool is_atomic = kind == Access::atomic, writes = kind != Access::read;
  const unsigned warp = thread / WARP, lane = thread % WARP;
  // Shared memory is another one in every block.
  const uint64_t start = is_shared(address) ? block_time : launch_time;
  for (uintptr_t at = address & ~(WORD_BYTES - 1); at < address + bytes; at += WORD_BYTES) {
    Word &word = this->word(at);
    bool are_atomic = is_atomic && word.write_is_atomic;
    if (!are_atomic && !is_ordered_after_write(word, thread, start))
      return Race{"write", word.write_block, word.write_instruction};
    if (writes && !is_ordered_after_reads(word, thread, start)) {
      bool is_of_other_block = start <= word.first_read_time && word.first_read_time < block_time;
      return Race{"read", is_of_other_block ? word.first_read_block : block, word.read_instruction};
    }
    if (writes) {
      word.write_time = ++now;
      word.writer = thread;
      word.write_block = block;
      word.write_instruction = instruction;
      word.write_is_atomic = is_atomic;
      continue;
    }
    if (word.first_read_time < start) word.first_read_time = now, word.first_read_block = block;
    if (word.read_time < barrier_time) word.reading_warps = 0;
    if (word.reading_warp != warp || word.read_time < warp_times[warp]) word.reading_lanes = 0;
    word.reading_warps |= 1u << warp;
    word.reading_warp = warp;
    word.reading_lanes |= 1u << lane;
    word.read_time = now;
    word.read_instruction = instruction;
  }
  return {};
}

}  // namespace software_cuda

#include "executor.h"

#include <dlfcn.h>
#include <link.h>
#include <signal.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "matrix.h"
#include "memory.h"
#include "settings.h"
#include "source_line.h"

namespace software_cuda {

namespace {

constexpr unsigned MAX_THREADS = 1024;
constexpr unsigned WARP = 32;
constexpr size_t PAGE = 4096;
/// Of an asynchronous copy.
constexpr size_t COPY_BYTES = 16;
/// Of a thread, with a page that faults below.
constexpr size_t STACK = 64 << 10;

// Initial-exec, because a handler of signals must not allocate it.
__attribute__((tls_model("initial-exec"))) thread_local Executor *current = nullptr;

std::string text(Index index) {
  return "(" + std::to_string(index.x) + ", " + std::to_string(index.y) + ", " + std::to_string(index.z) + ")";
}

size_t volume(Index index) { return size_t(index.x) * index.y * index.z; }

Index at(size_t position, Index size) {
  return {unsigned(position % size.x), unsigned(position / size.x % size.y), unsigned(position / size.x / size.y)};
}

}  // namespace

const Runtime Executor::runtime = {on_barrier,         on_meet, on_start_copy, on_end_copies,
                                   on_wait_for_copies, on_fail, on_access, multiply};

Executor::Executor() : threads(MAX_THREADS), signal_stack(64 << 10) {
  void *reserved = mmap(nullptr, MAX_THREADS * STACK, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  stacks = static_cast<char *>(reserved);
  stack_t alternative{};
  alternative.ss_sp = signal_stack.data();
  alternative.ss_size = signal_stack.size();
  sigaltstack(&alternative, nullptr);
}

Executor::~Executor() {
  stack_t none{};
  none.ss_flags = SS_DISABLE;
  sigaltstack(&none, nullptr);
  munmap(stacks, MAX_THREADS * STACK);
}

Failure Executor::run(const Code &code, void *const *launch_parameters, Index blocks, Index block_threads) {
  entry = code.entry;
  parameters = launch_parameters;
  thread_count = unsigned(volume(block_threads));
  block = {nullptr, {}, block_threads, blocks, &runtime};
  add_stacks();
  backward = !backward;
  races.begin_launch();
  Failure result = guard([&] {
    size_t count = volume(blocks);
    for (size_t position = 0; position < count && failure.result == CUDA_SUCCESS; position++) {
      block.index = at(backward ? count - 1 - position : position, blocks);
      run_block(code);
    }
  });
  entry = nullptr;
  return result;
}

Failure Executor::guard(const std::function<void()> &function) {
  failure = {};
  current = this;
  running = nullptr;
  guarded = true;
  fault_instruction = other_instruction = nullptr;
  if (sigsetjmp(escape, 1) == 0) function();
  guarded = false;
  current = nullptr;
  if (fault_instruction) add_line(", at ", fault_instruction);
  if (other_instruction) add_line(", and the other access at ", other_instruction);
  return failure;
}

/// Adds the line of an instruction to the reason, if it is known.
void Executor::add_line(const char *what, const void *instruction) {
  std::string line = source_line(instruction);
  if (!line.empty()) failure.reason += what + line;
}

void Executor::fault(int signal, void *address, void *instruction) {
  Executor *executor = current;
  if (!executor || !executor->guarded) return;
  executor->guarded = false;
  executor->fault_instruction = instruction;
  char place[32];
  std::snprintf(place, sizeof(place), "%p", address);
  auto *byte = static_cast<char *>(address);
  if (signal == SIGFPE) {
    executor->fail(CUDA_ERROR_LAUNCH_FAILED, "division of integers by zero");
  } else if (signal == SIGILL) {
    executor->fail(CUDA_ERROR_LAUNCH_FAILED, "illegal instruction");
  } else if (executor->stacks <= byte && byte < executor->stacks + MAX_THREADS * STACK) {
    executor->fail(CUDA_ERROR_LAUNCH_FAILED, "stack overflow");
  } else {
    executor->fail(CUDA_ERROR_ILLEGAL_ADDRESS, std::string("access to memory outside of every allocation, to ") + place);
  }
  siglongjmp(executor->escape, 1);
}

void Executor::run_block(const Code &code) {
  code.enter(&block);
  // Everything that the module has for each thread: its shared memory, and which block it runs.
  void *shared = nullptr;
  dlinfo(code.library, RTLD_DI_TLS_DATA, &shared);
  std::memset(shared, 0xff, code.shared_bytes);
  code.enter(&block);
  unsigned number = block.index.x + block.blocks.x * (block.index.y + block.blocks.y * block.index.z);
  races.begin_block(number, uintptr_t(shared), code.shared_bytes);
  for (unsigned index = 0; index < thread_count; index++) {
    BlockThread &thread = threads[index];
    thread.index = at(index, block.threads);
    thread.state = State::ready;
    thread.copies.clear();
    thread.copy_group = 0;
    // The tops differ, so that the stacks do not compete for the same lines of the cache.
    size_t offset = index * 5 % 61 * 64;
    thread.fiber.prepare(stacks + index * STACK + PAGE, STACK - PAGE - offset, start_thread);
  }
  unsigned warps = (thread_count + WARP - 1) / WARP;
  do {
    for (unsigned position = 0; position < warps; position++) {
      unsigned first = (backward ? warps - 1 - position : position) * WARP;
      if (!run_warp(first, std::min(first + WARP, thread_count))) return;
    }
  } while (release_barrier());
}

/// Runs the lanes of a warp until all wait for other warps or have returned. False after a failure.
bool Executor::run_warp(unsigned first, unsigned end) {
  do {
    lanes_left = end - first;
    next_lane = &threads[backward ? end - 1 : first];
    if (Fiber *fiber = next_fiber()) scheduler.switch_to(*fiber);
    if (failure.result != CUDA_SUCCESS) return false;
    running = nullptr;
  } while (combine_warp(first, end));
  return failure.result == CUDA_SUCCESS;
}

/// Makes the next lane that can run the running one. Null after the last.
Fiber *Executor::next_fiber() {
  while (lanes_left > 0) {
    BlockThread *lane = next_lane;
    next_lane += backward ? -1 : 1;
    lanes_left--;
    if (lane->state != State::ready) continue;
    running = lane;
    block.thread = lane;
    return &lane->fiber;
  }
  return nullptr;
}

/// Does a warp function if all lanes arrived at one.
bool Executor::combine_warp(unsigned first, unsigned end) {
  void *arguments[WARP] = {};
  const BlockThread &leader = threads[first];
  for (unsigned index = first; index < end; index++) {
    const BlockThread &thread = threads[index];
    if (thread.state != State::at_warp) return false;
    if (thread.combine != leader.combine || thread.line != leader.line) {
      fail(CUDA_ERROR_LAUNCH_FAILED, "divergent warp: " + describe(leader) + ", " + describe(thread));
      return false;
    }
    arguments[index - first] = thread.argument;
  }
  if (leader.combine) leader.combine(arguments, end - first);
  else races.sync_warp(first / WARP);
  for (unsigned index = first; index < end; index++) threads[index].state = State::ready;
  return true;
}

/// Lets the threads go on after a barrier that all reached. False if all have returned, and after a failure.
bool Executor::release_barrier() {
  const BlockThread &leader = threads[0];
  for (unsigned index = 0; index < thread_count; index++) {
    const BlockThread &thread = threads[index];
    if (thread.state == leader.state && thread.state != State::at_warp &&
        (thread.state == State::done || thread.line == leader.line))
      continue;
    fail_divergent();
    return false;
  }
  if (leader.state == State::done) return false;
  races.barrier();
  for (unsigned index = 0; index < thread_count; index++) threads[index].state = State::ready;
  return true;
}

/// Fails because some threads wait for others that cannot arrive.
void Executor::fail_divergent() {
  for (unsigned index = 0; index < thread_count; index++) {
    const BlockThread &thread = threads[index];
    if (thread.state != State::at_warp) continue;
    unsigned first = index / WARP * WARP;
    for (unsigned other = first; other < std::min(first + WARP, thread_count); other++) {
      if (threads[other].state == State::at_warp) continue;
      return fail(CUDA_ERROR_LAUNCH_FAILED, "divergent warp: " + describe(thread) + ", " + describe(threads[other]));
    }
  }
  const BlockThread *waiting = nullptr;
  for (unsigned index = 0; index < thread_count && !waiting; index++)
    if (threads[index].state == State::at_barrier) waiting = &threads[index];
  for (unsigned index = 0; index < thread_count; index++) {
    const BlockThread &other = threads[index];
    if (other.state == waiting->state && other.line == waiting->line) continue;
    return fail(CUDA_ERROR_LAUNCH_FAILED, "divergent barrier: " + describe(*waiting) + ", " + describe(other));
  }
}

std::string Executor::describe(const BlockThread &thread) const {
  std::string subject = "thread " + text(thread.index);
  switch (thread.state) {
    case State::at_barrier: return subject + " waits at __syncthreads in line " + std::to_string(thread.line);
    case State::at_warp: return subject + " waits at a warp function in line " + std::to_string(thread.line);
    case State::done: return subject + " has returned";
    default: return subject;
  }
}

/// Keeps the first failure, with the place where it happened.
void Executor::fail(CUresult result, const std::string &reason) {
  if (failure.result != CUDA_SUCCESS) return;
  failure.result = result;
  failure.reason = reason;
  if (entry) failure.reason = std::string(entry->name) + ": " + reason + "; block " + text(block.index);
  if (running) failure.reason += ", thread " + text(running->index);
}

/// Makes the stacks of `thread_count` threads usable.
void Executor::add_stacks() {
  for (; stack_count < thread_count; stack_count++)
    mprotect(stacks + stack_count * STACK + PAGE, STACK - PAGE, PROT_READ | PROT_WRITE);
}

/// Leaves the running thread until it is ready again. The next lane of its warp runs at once, without the scheduler.
void Executor::wait(State state, unsigned line) {
  BlockThread &thread = *running;
  thread.state = state;
  thread.line = line;
  Fiber *next = failure.result == CUDA_SUCCESS ? next_fiber() : nullptr;
  thread.fiber.switch_to(next ? *next : scheduler);
}

void Executor::start_thread() {
  Executor &executor = *current;
  executor.entry->run(executor.parameters);
  executor.wait(State::done, 0);
}

void Executor::on_barrier(unsigned line) { current->wait(State::at_barrier, line); }

void Executor::on_meet(Combine combine, void *argument, unsigned line) {
  current->running->combine = combine;
  current->running->argument = argument;
  current->wait(State::at_warp, line);
}

void Executor::on_start_copy(void *to, const void *from) {
  BlockThread &thread = *current->running;
  if (settings().finds_races) {
    current->note(from, COPY_BYTES, Access::read, nullptr);
    current->note(to, COPY_BYTES, Access::write, nullptr);
  }
  std::memset(to, 0xff, COPY_BYTES);
  thread.copies.push_back({to, from, thread.copy_group});
}

void Executor::on_end_copies() { current->running->copy_group++; }

void Executor::on_wait_for_copies(unsigned later_groups) {
  BlockThread &thread = *current->running;
  auto arrives = [&](const PendingCopy &copy) { return copy.group + later_groups < thread.copy_group; };
  auto later = std::find_if_not(thread.copies.begin(), thread.copies.end(), arrives);
  for (auto copy = thread.copies.begin(); copy != later; copy++) {
    if (settings().finds_races) current->note(copy->to, COPY_BYTES, Access::write, nullptr);
    std::memcpy(copy->to, copy->from, COPY_BYTES);
  }
  thread.copies.erase(thread.copies.begin(), later);
}

/// Ends the thread if an access is a race.
void Executor::note(const void *address, size_t bytes, Access kind, const void *instruction) {
  auto start = uintptr_t(address);
  if (!races.is_shared(start) && !Memory::may_own(start)) return;
  auto race = races.access(start, bytes, kind, unsigned(running - threads.data()), instruction);
  if (!race) return;
  std::string other = race->instruction ? "" : " of an asynchronous copy";
  fail(CUDA_ERROR_LAUNCH_FAILED, std::string("race with a ") + race->what + other + " in block number " +
                                     std::to_string(race->block));
  // Lines are looked up when the kernel has ended: here the stack is that of its thread.
  fault_instruction = instruction;
  other_instruction = race->instruction;
  wait(State::done, 0);
}

void Executor::on_access(const void *address, size_t bytes, Access kind, const void *instruction) {
  current->note(address, bytes, kind, instruction);
}

void Executor::on_fail(int error, const char *reason, unsigned line) {
  current->fail(CUresult(error), std::string(reason) + " in line " + std::to_string(line));
  // The scheduler gives up the block.
  current->wait(State::done, line);
}

}  // namespace software_cuda

#include "signals.h"

#include <signal.h>
#include <ucontext.h>

#include <mutex>

#include "executor.h"

namespace software_cuda {

namespace {

constexpr int SIGNALS[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL};
struct sigaction previous[NSIG];

void *instruction_of([[maybe_unused]] void *context) {
#if defined(__x86_64__)
  return reinterpret_cast<void *>(static_cast<ucontext_t *>(context)->uc_mcontext.gregs[REG_RIP]);
#elif defined(__aarch64__)
  return reinterpret_cast<void *>(static_cast<ucontext_t *>(context)->uc_mcontext.pc);
#else
  return nullptr;
#endif
}

void handle(int signal, siginfo_t *info, void *context) {
  Executor::fault(signal, info->si_addr, instruction_of(context));
  const struct sigaction &other = previous[signal];
  if (other.sa_flags & SA_SIGINFO) return other.sa_sigaction(signal, info, context);
  if (other.sa_handler != SIG_DFL && other.sa_handler != SIG_IGN) return other.sa_handler(signal);
  // The instruction faults again, and ends the process as if there were no handler.
  sigaction(signal, &other, nullptr);
}

}  // namespace

void install_signal_handlers() {
  static std::once_flag once;
  std::call_once(once, [] {
    struct sigaction action {};
    action.sa_sigaction = handle;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    for (int signal : SIGNALS) sigaction(signal, &action, &previous[signal]);
  });
}

}  // namespace software_cuda

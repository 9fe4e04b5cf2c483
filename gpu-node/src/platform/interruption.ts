/** How long a repeated signal is ignored. */
const REPEATED_MS = 1_000

/**
 * Returns a signal that is aborted when a person or a supervisor ends this process by SIGINT or SIGTERM.
 *
 * Ctrl-C comes twice: from the terminal, and from the process that runs our TypeScript, which passes it on. So only a signal that
 * comes a second after the first one ends the process at once.
 */
export function interruptionOfProcess(): AbortSignal {
  const interruption = new AbortController()
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    const interrupt = () => {
      interruption.abort()
      setTimeout(() => process.off(signal, interrupt), REPEATED_MS).unref()
    }
    process.on(signal, interrupt)
  }
  return interruption.signal
}

/**
 * Waits until `work` ends, but at most `ms` milliseconds. The work goes on; the caller keeps the runtime from ending it.
 *
 * @throws the error of the work if it fails within that time
 */
export async function waitAtMost(work: Promise<unknown>, ms: number): Promise<void> {
  const { promise: late, resolve } = Promise.withResolvers<void>()
  const timer = setTimeout(resolve, ms)
  try {
    await Promise.race([work, late])
  } finally {
    clearTimeout(timer)
  }
}

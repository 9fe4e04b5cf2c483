/**
 * Waits until `work` ends, but at most `ms` milliseconds. The work goes on; the caller keeps the runtime from ending it.
 *
 * @returns its result; undefined if it takes longer
 * @throws the error of the work if it fails within that time
 */
export async function waitAtMost<T>(work: Promise<T>, ms: number): Promise<T | undefined> {
  const { promise: late, resolve } = Promise.withResolvers<undefined>()
  const timer = setTimeout(resolve, ms, undefined)
  try {
    return await Promise.race([work, late])
  } finally {
    clearTimeout(timer)
  }
}

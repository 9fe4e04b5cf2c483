/** How often a call is looked at within its limit. */
const CHECKS_PER_LIMIT = 20

/** The error for a call that did not return in its time. */
export class HungCallError extends Error {
  override readonly name = 'HungCallError'
}

/**
 * Returns the result of a call, unless it hangs. Time in which this process did not run does not count: a machine may sleep, or be
 * busy with something else.
 *
 * @throws HungCallError after `limitMs`, while the call goes on
 */
export async function unlessHung<T>(call: Promise<T>, limitMs: number): Promise<T> {
  const { promise: hung, reject } = Promise.withResolvers<never>()
  let checks = 0
  const timer = setInterval(() => {
    checks += 1
    if (checks === CHECKS_PER_LIMIT)
      reject(new HungCallError(`it did not return within ${Math.round(limitMs / 1000)} s`))
  }, limitMs / CHECKS_PER_LIMIT).unref()
  try {
    return await Promise.race([call, hung])
  } finally {
    clearInterval(timer)
  }
}

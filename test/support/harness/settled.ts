import { setTimeout as sleep } from 'node:timers/promises'

const LOOK_MS = 100

/** Resolves when a count has not grown for a second. Calls `look` each time it reads the count. */
export async function untilSettled(count: () => number, look: () => void = () => undefined): Promise<void> {
  for (let last = -1, still = 0; still < 1_000 / LOOK_MS; still += 1) {
    if (count() > last) still = 0
    last = count()
    look()
    await sleep(LOOK_MS)
  }
}

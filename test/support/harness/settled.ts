import { setTimeout as sleep } from 'node:timers/promises'

const LOOK_MS = 100

/** Settles when a count has not grown for a second; `look` is called at each look at it. */
export async function standsStill(count: () => number, look: () => void = () => undefined): Promise<void> {
  for (let last = -1, still = 0; still < 1_000 / LOOK_MS; still += 1) {
    if (count() > last) still = 0
    last = count()
    look()
    await sleep(LOOK_MS)
  }
}

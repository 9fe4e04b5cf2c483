import { availableParallelism } from 'node:os'

/** How many test files run at once: one more than there are processors, because some of them wait. */
export const WORKERS = Math.max(3, availableParallelism() + 1)

import { availableParallelism } from 'node:os'

/** How many test files run at once: two more than there are processors, because many of them mostly wait. */
export const WORKERS = Math.max(4, availableParallelism() + 2)

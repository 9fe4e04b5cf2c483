import { availableParallelism } from 'node:os'

/** How many test files run at once: three more than there are processors, because many of them mostly wait. */
export const WORKERS = Math.max(4, availableParallelism() + 3)

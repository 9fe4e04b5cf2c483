import { z } from 'zod'

/**
 * The name of a pruning method: a rule, and what refines its mask after each `+`.
 *
 * Only its form is fixed here. Which methods there are is a node's to say: it lists them in its heartbeat.
 */
export const pruneMethod = z
  .string()
  .max(64)
  .regex(
    /^[a-z][a-z0-9-]*(\+[a-z][a-z0-9-]*)*$/,
    "the name of a pruning method is expected, like 'continual-wanda' or 'copal+swaps'",
  )

import { z } from 'zod'

/**
 * The name of a pruning method: a rule, and a refinement after each `+`.
 *
 * Only the form is checked here; each node registers the methods that it offers.
 */
export const pruneMethod = z
  .string()
  .max(64)
  .regex(
    /^[a-z][a-z0-9-]*(\+[a-z][a-z0-9-]*)*$/,
    "expected the name of a pruning method, like 'continual-wanda' or 'copal+swaps'",
  )

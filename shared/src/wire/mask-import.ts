import { z } from 'zod'
import { modelId } from './identifiers.ts'

/**
 * Query of `PUT /admin/masks/:sha256`. The body is a mask file with that hash, the response its MaskEntry. Importing the
 * same file again returns the same version.
 */
export const importMask = z.object({
  /** May be left out while the fleet serves one model. */
  model: modelId.optional(),
  /** Whether to serve it from the next request on. */
  activate: z.stringbool({ error: "expected 'true' or 'false'" }).default(false),
  /** Weights of the linears that the mask leaves dense: the file does not contain their count, and sparsity includes them. */
  dense_weights: z
    .string()
    .regex(/^\d{1,15}$/, 'expected a number of weights')
    .transform(Number)
    .default(0),
})
/** A parsed {@link importMask}. */
export type ImportMask = z.output<typeof importMask>

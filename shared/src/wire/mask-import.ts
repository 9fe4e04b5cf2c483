import { z } from 'zod'
import { modelId } from './identifiers.ts'

/**
 * Query of `PUT /admin/masks/:sha256`. The body is a mask file with that hash, the response its MaskEntry. Importing the
 * same file again returns the same version.
 */
export const importMask = z.object({
  model: modelId.optional().describe('Id of the model. Optional if there is only one.'),
  activate: z
    .stringbool({ error: "expected 'true' or 'false'" })
    .default(false)
    .describe('`true`: evaluate the mask, and serve it if it passes the gate.'),
  dense_weights: z
    .string()
    .regex(/^\d{1,15}$/, 'expected a number of weights')
    .transform(Number)
    .default(0)
    .describe(
      'Weights of the linears that the mask leaves dense, which its file does not contain and its sparsity includes.',
    ),
})
/** A parsed {@link importMask}. */
export type ImportMask = z.output<typeof importMask>

import { z } from 'zod'
import { modelId } from './node-rpc.ts'

/**
 * Query of `PUT /admin/masks/:sha256`, whose body is a mask file with that hash: answers its MaskEntry. The same
 * file again gives the same version.
 */
export const importMask = z.object({
  /** Left out when the fleet serves one model. */
  model: modelId.optional(),
  /** Serve it from the next request on. */
  activate: z.stringbool({ error: "'true' or 'false' is expected" }).default(false),
  /** Weights of the linears that the mask leaves dense, which its file does not tell: its sparsity counts them. */
  dense_weights: z
    .string()
    .regex(/^\d{1,15}$/, 'a number of weights is expected')
    .transform(Number)
    .default(0),
})
export type ImportMask = z.output<typeof importMask>

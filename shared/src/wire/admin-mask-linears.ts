/** Sparsity of the linears of a mask, and the difference between two masks. Public, so snake_case. */
import { z } from 'zod'
import { count } from './identifiers.ts'

/** One linear of a mask. */
const maskLinear = z.object({
  layer: count,
  kind: z.string().describe('Like `q_proj` or `down_proj`.'),
  rows: count,
  columns: count,
  sparsity: z.number().min(0).max(1),
})

/** Response of `GET /admin/masks/:version/linears`. */
export const maskLinears = z.object({ model: z.string(), version: count, linears: z.array(maskLinear) })
/** A response of `GET /admin/masks/:version/linears`. */
export type MaskLinears = z.output<typeof maskLinears>

/** Response of `GET /admin/masks/:version/churn/:other`. */
export const maskChurn = z.object({
  model: z.string(),
  version: count,
  other: count,
  churn: z.number().min(0).max(1).describe('Fraction of all weights that the masks treat differently.'),
  linears: z.array(z.object({ layer: count, kind: z.string(), churn: z.number().min(0).max(1) })),
})
/** A response of `GET /admin/masks/:version/churn/:other`. */
export type MaskChurn = z.output<typeof maskChurn>

/** The general holdout, as the admin API sets and shows it. Public, so snake_case. */
import { z } from 'zod'
import { count } from './identifiers.ts'

/** Maximum characters of the general holdout, about 32,768 tokens: every mask is evaluated on all of it. */
export const MAX_GENERAL_CHARACTERS = 32_768 * 4

/** Response of `GET`, `PUT` and `DELETE /admin/holdout`. */
export const generalHoldout = z.object({
  holdout: z
    .object({
      version: count.describe('Incremented by each `PUT`. Losses are compared on one version only.'),
      sha256: z.string(),
      texts: count.describe('Texts; long ones are stored in pieces.'),
      characters: count,
      tokens: count.describe('Estimated.'),
      created_at: z.iso.datetime(),
    })
    .nullable()
    .describe('Null if there is none.'),
})
/** A response of `GET /admin/holdout`. */
export type GeneralHoldout = z.output<typeof generalHoldout>

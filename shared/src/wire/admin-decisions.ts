/** Decisions about masks, as the admin API shows them. Public, so snake_case. */
import { z } from 'zod'
import { count } from './identifiers.ts'

/** One measured figure of a decision, with the limit that it was compared with. */
export const decisionFigure = z.object({
  name: z.string().describe('What was measured, such as `perplexity / parent`.'),
  domain: z.string().nullable().describe('The domain; null for a figure over all of them.'),
  holdout: z.string().nullable().describe('SHA-256 of the holdout version that was measured on, if any.'),
  tokens: count.nullable(),
  value: z.number().nullable().describe('The point estimate; null where it is not finite.'),
  lower: z.number().nullable().describe('Lower confidence bound.'),
  upper: z.number().nullable().describe('Upper confidence bound.'),
  limit: z.number().nullable().describe('What the value or its bound is compared with.'),
  passed: z.boolean(),
  note: z.string().optional(),
})
/** One measured figure of a decision. */
export type DecisionFigure = z.output<typeof decisionFigure>

/** The kinds of decisions. */
export const decisionKind = z.enum([
  'trigger',
  'gate',
  'confirm',
  'canary',
  'watch',
  'force',
  'promote',
  'roll_back',
  'own_mask',
  'policy',
])
/** A kind of decision. */
export type DecisionKind = z.output<typeof decisionKind>

/** How a decision ended. */
export const decisionVerdict = z.enum(['passed', 'failed', 'retried', 'done', 'dry_run'])
/** How a decision ended. */
export type DecisionVerdict = z.output<typeof decisionVerdict>

/** One decision. */
export const decisionEntry = z.object({
  kind: decisionKind,
  verdict: decisionVerdict.describe(
    '`retried`: rejected, and another candidate was selected. `dry_run`: it would have been done.',
  ),
  reason: z.string(),
  mask_version: count.nullable(),
  actor: z.string().describe('The id of the admin key, or `copal` for decisions of the service itself.'),
  created_at: z.iso.datetime(),
  figures: z.array(decisionFigure),
})
/** One decision. */
export type DecisionEntry = z.output<typeof decisionEntry>

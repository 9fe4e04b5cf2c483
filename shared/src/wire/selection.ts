/** How a mask is selected, as in an update and in its calibration job. */
import { z } from 'zod'
import { DENSE } from '../mask/mask-metadata.ts'
import { patternError } from '../mask/sparsity-pattern.ts'
import { boundedRecord } from './bounded-collections.ts'
import { domainName } from './inference-fields.ts'
import { pruneMethod } from './prune-method.ts'

/** Upper bound of the linears of a model. */
export const MAX_LINEARS = 4096
/** Upper bound of the domains of a service. */
const MAX_DOMAIN_WEIGHTS = 1024

/**
 * Patterns of single linears, by the name of the weight, in which `*` matches any characters. The last match counts. `dense`
 * leaves a linear out of the mask.
 */
export const patternRules = boundedRecord(
  MAX_LINEARS,
  'patterns of single linears',
  z.record(
    z.string().min(1).max(256),
    z.string().refine((text) => text === DENSE || patternError(text) === undefined, {
      error: ({ input }) => `${patternError(String(input))}, or '${DENSE}'`,
    }),
  ),
)

/** Patterns of single linears. */
export type PatternRules = z.output<typeof patternRules>

/** Relative weights of domains, by name, 0 and above. Domains that are not named have the weight 1. */
export const domainWeights = boundedRecord(
  MAX_DOMAIN_WEIGHTS,
  'domain weights',
  z.record(domainName, z.number().min(0).max(1e6)),
)

/** Relative weights of domains. */
export type DomainWeights = z.output<typeof domainWeights>

/** Returns the weight of a domain, which may be called `constructor`. */
export function weightOf(weights: DomainWeights, domain: string): number {
  return Object.hasOwn(weights, domain) ? (weights[domain] ?? 1) : 1
}

/** The weights that a mask keeps: `0.5` prunes half of them, `2:4` keeps two of four; see `mask/sparsity-pattern.ts`. */
export const sparsityPattern = z.string().refine((text) => patternError(text) === undefined, {
  error: ({ input }) => patternError(String(input)),
})
/** Sequences of each domain that a calibration takes. */
export const calibrationSamples = z.int().min(1).max(4096)
/** Tokens of such a sequence. */
export const calibrationLength = z.int().min(16).max(32768)

/** How a mask is selected: the method, the number of weights to keep, and whether those of a row or of a matrix compete. */
export const selectionSpec = z.object({
  method: pruneMethod,
  pattern: sparsityPattern,
  /** Ignored for n:m. */
  scope: z.enum(['row', 'matrix']).default('row'),
  patterns: patternRules.optional(),
  /**
   * If given, the statistics of each domain are divided by its tokens and weighted before they are summed, so that a domain
   * counts by policy and not by the number of its tokens. Otherwise they are summed as they are, as in the paper.
   */
  weights: domainWeights.optional(),
})

/** What an update says about its selection. The policy says the rest. */
export const partialSelection = selectionSpec.extend({ scope: z.enum(['row', 'matrix']) }).partial()

/** How a mask is selected. */
export type SelectionSpec = z.output<typeof selectionSpec>

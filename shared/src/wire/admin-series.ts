/** Series over time of traffic and drift, as `GET /admin/series` returns them. Public, so snake_case. */
import { z } from 'zod'
import { countedDomain } from './inference-fields.ts'
import { count, modelId } from './identifiers.ts'

/** Widths of the periods of a series, seconds: a minute, five minutes, an hour, a day. */
export const SERIES_WIDTHS = [60, 300, 3_600, 86_400] as const

/** Query of `GET /admin/series`. */
export const seriesQuery = z.object({
  model: modelId.optional().describe('Id of the model. Optional if there is only one.'),
  domain: countedDomain
    .optional()
    .describe('Default: every domain. `(other)`: those that are not counted by name.'),
  from: z.iso.datetime().optional().describe('Default: 24 hours before `to`.'),
  to: z.iso.datetime().optional().describe('Default: now.'),
  width: z.coerce
    .number()
    // The values are in the OpenAPI document, which describes what a caller sends.
    .meta({ enum: [...SERIES_WIDTHS] })
    .pipe(z.literal([...SERIES_WIDTHS], `expected one of ${SERIES_WIDTHS.join(', ')}`))
    .optional()
    .describe('Seconds of a period. Default: the narrowest that gives at most 300 periods.'),
})
/** A parsed query of `GET /admin/series`. */
export type SeriesQuery = z.output<typeof seriesQuery>

/** Query of `GET /admin/series/gaps`. */
export const gapsQuery = seriesQuery.omit({ domain: true })

const column = z.array(z.number().nullable())

/** Means over requests with the bounds of 95 % intervals that are clustered by request; null where too little was scored. */
const estimate = z.object({ mean: column, lower: column, upper: column })

/** Requests of which texts were not scored, by the reason. */
const notScored = z.object({
  not_sampled: z.array(count),
  too_short: z.array(count),
  budget: z.array(count),
  evicted: z.array(count),
  failed: z.array(count),
})

/** The series of one domain under one mask. Every array has one value for each of its `periods`. */
export const maskSeries = z.object({
  domain: z
    .string()
    .describe('`(other)` sums the domains that are neither registered nor among the first 64 others.'),
  mask_version: count,
  periods: z.array(count).describe('Indexes into `starts` of the response, ascending.'),
  requests: z.array(count),
  failed: z.array(count),
  prompt_tokens: z.array(count),
  completion_tokens: z.array(count),
  first_token_ms: z.object({ p50: column, p95: column }),
  scored_requests: z.array(count),
  scored_tokens: z.array(count),
  dense: estimate.describe('Loss under dense weights, nats a token: does the traffic change?'),
  pruned: estimate.describe('Loss under the mask, nats a token.'),
  gap: estimate.describe('`pruned` minus `dense`, nats a token: what pruning costs.'),
  not_scored: notScored,
})
/** The series of one domain under one mask. */
export type MaskSeries = z.output<typeof maskSeries>

/** An event that charts mark on their time axis. */
export const seriesMark = z.object({
  at: z.iso.datetime(),
  kind: z.enum(['promoted', 'rolled_back', 'canary', 'gate_failed', 'alert']),
  mask_version: count.nullable(),
  domain: z.string().nullable(),
  update: z.string().nullable().describe('Id of the update that it belongs to.'),
  text: z.string().describe('What happened, in one sentence.'),
})
/** An event that charts mark on their time axis. */
export type SeriesMark = z.output<typeof seriesMark>

const periods = {
  model: z.string(),
  width: count.describe('Width of a period, seconds.'),
  starts: z.array(count).describe('Starts of the periods, Unix seconds, ascending and without gaps.'),
}

/** Response of `GET /admin/series`. */
export const seriesReport = z.object({
  ...periods,
  series: z.array(maskSeries),
  marks: z.array(seriesMark),
})
/** A response of `GET /admin/series`. */
export type SeriesReport = z.output<typeof seriesReport>

/** What pruning cost one domain in each period. */
export const domainGaps = z.object({
  domain: z.string(),
  tokens: count.describe('Prompt and completion tokens of all periods.'),
  gap: column.describe(
    'Loss under the mask minus loss under dense weights, nats a token, one value for each of `starts`: the mean of the mask under which most requests were scored; null where none was.',
  ),
})
/** What pruning cost one domain in each period. */
export type DomainGaps = z.output<typeof domainGaps>

/** Response of `GET /admin/series/gaps`. */
export const gapsReport = z.object({
  ...periods,
  domains: z.array(domainGaps).describe('By tokens, most first.'),
  marks: z.array(seriesMark),
})
/** A response of `GET /admin/series/gaps`. */
export type GapsReport = z.output<typeof gapsReport>

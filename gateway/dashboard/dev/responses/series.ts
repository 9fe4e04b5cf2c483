import type { GapsReport, MaskSeries, SeriesReport } from '@copal/shared/wire/admin-series.ts'
import { ago, domainsOf, MODEL } from './service.ts'
import { updateId } from './updates.ts'

/** The content of a report: its time in seconds, its domains, and the seconds of a period, by default those of the gateway. */
interface SeriesSpan {
  spanS: number
  count: number
  domain?: string | undefined
  width?: number | undefined
}

/** Series of domains over a span of seconds. */
export function series({ spanS, count, domain, width = widthOf(spanS) }: SeriesSpan): SeriesReport {
  const end = Math.ceil(Date.now() / 1000 / width) * width
  const starts = Array.from({ length: Math.round(spanS / width) }, (_, index) => end - spanS + index * width)
  const promotedAt = starts.findIndex((start) => start * 1000 > Date.now() - 250 * 60_000)
  const all = domainsOf(count)
    .map(({ name }) => name)
    .filter((name) => domain === undefined || name === domain)
    .flatMap((name, index) => [
      maskSeries(name, index, 13, starts, 0, Math.max(1, promotedAt + 1)),
      ...(promotedAt >= 0 ? [maskSeries(name, index, 14, starts, promotedAt, starts.length)] : []),
    ])
  return {
    model: MODEL,
    width,
    starts,
    series: all,
    marks: [
      {
        at: ago(250),
        kind: 'promoted',
        mask_version: 14,
        domain: null,
        update: updateId(14),
        text: 'Mask 14 is live for all.',
      },
      {
        at: ago(264),
        kind: 'canary',
        mask_version: 14,
        domain: null,
        update: updateId(14),
        text: 'Canary of mask 14 at 10 %.',
      },
      {
        at: ago(700),
        kind: 'gate_failed',
        mask_version: 10,
        domain: 'code',
        update: updateId(10),
        text: 'The gate rejected a mask: code lost 2.3 %.',
      },
      {
        at: ago(1_000),
        kind: 'rolled_back',
        mask_version: 12,
        domain: null,
        update: updateId(12),
        text: 'Mask 12 was rolled back to mask 11.',
      },
      {
        at: ago(9),
        kind: 'alert',
        mask_version: 14,
        domain: 'support',
        update: null,
        text: 'Pruning costs support more than a day ago.',
      },
    ],
  }
}

/** What pruning costs each domain over a span of seconds. */
export function gaps(span: Omit<SeriesSpan, 'domain'>): GapsReport {
  const { series: all, starts, ...report } = series(span)
  const domains = [...Map.groupBy(all, ({ domain }) => domain)].map(([domain, masks]) => {
    const gap = starts.map((): number | null => null)
    for (const { periods, gap: ofMask } of masks)
      for (const [index, period] of periods.entries()) gap[period] = ofMask.mean[index] ?? null
    const tokens = masks.flatMap((mask) => mask.prompt_tokens).reduce((sum, each) => sum + each, 0)
    return { domain, tokens, gap }
  })
  return { ...report, starts, domains }
}

function maskSeries(
  domain: string,
  index: number,
  version: number,
  starts: readonly number[],
  from: number,
  to: number,
): MaskSeries {
  const random = randomFrom(index * 31 + version + domain.length)
  const periods = Array.from({ length: to - from }, (_, at) => from + at)
  const base = 1.9 + (domain.length % 5) * 0.12
  const points = periods.map((at) => {
    const isKnown = random() > 0.04 && !(at > 40 && at < 52)
    const dense = base + 0.08 * Math.sin(at / 20) + 0.05 * (random() - 0.5)
    const gap =
      (version === 13 ? 0.045 : 0.024) +
      (domain === 'support' ? 0.03 * (at / starts.length) : 0) +
      0.006 * (random() - 0.5)
    return { isKnown, dense, gap, half: 0.004 + 0.004 * random() }
  })
  const estimate = (mean: (point: (typeof points)[number]) => number, factor = 1) => ({
    mean: points.map((point) => (point.isKnown ? mean(point) : null)),
    lower: points.map((point) => (point.isKnown ? mean(point) - factor * point.half : null)),
    upper: points.map((point) => (point.isKnown ? mean(point) + factor * point.half : null)),
  })
  const counts = (scale: number) => periods.map(() => Math.round(scale * (0.6 + random())))
  return {
    domain,
    mask_version: version,
    periods,
    requests: counts(120 / (index + 1)),
    failed: counts(0.1),
    prompt_tokens: counts(30_000 / (index + 1)),
    completion_tokens: counts(12_000 / (index + 1)),
    first_token_ms: { p50: counts(90), p95: counts(200) },
    scored_requests: counts(20),
    scored_tokens: counts(5_000),
    dense: estimate(({ dense }) => dense, 8),
    pruned: estimate(({ dense, gap }) => dense + gap, 8),
    gap: estimate(({ gap }) => gap),
    not_scored: {
      not_sampled: counts(80),
      too_short: counts(4),
      budget: counts(8),
      evicted: counts(2),
      failed: counts(0),
    },
  }
}

/** The width of periods that gives at most 300 of them. */
const widthOf = (spanS: number) =>
  spanS <= 7_200 ? 60 : spanS <= 90_000 ? 300 : spanS <= 8 * 86_400 ? 3_600 : 86_400

/** Repeatable numbers between 0 and 1. */
function randomFrom(seed: number): () => number {
  let state = seed
  return () => {
    state = (state * 1_664_525 + 1_013_904_223) % 4_294_967_296
    return state / 4_294_967_296
  }
}

import type { Backend, StepPlan } from '@copal/gpu-node/serving/contract/backend.ts'

/** A piece of time in which something ran, by `performance.now()`. */
export interface Span {
  what: string
  fromMs: number
  toMs: number
}

/** Wraps a backend so that it appends a span for every load, step and release that ends. */
export function recordSpans(backend: Backend, spans: Span[]): Backend {
  const recorded = async <T>(what: string, run: () => Promise<T>): Promise<T> => {
    const fromMs = performance.now()
    try {
      return await run()
    } finally {
      spans.push({ what, fromMs, toMs: performance.now() })
    }
  }
  return {
    ...backend,
    load: (source) => recorded('a load', () => backend.load(source)),
    step: (plan) => recorded(describeStep(plan), () => backend.step(plan)),
    release: (weights) => recorded('a release', () => backend.release(weights)),
  }
}

function describeStep({ weights, work }: StepPlan): string {
  const tokens = work.reduce((sum, item) => sum + item.tokens.length, 0)
  return `a step of v${weights.version}, ${tokens} tokens in ${work.length} works`
}

/** Describes what ran within a piece of time, the longest parts first: `31.0 ms: 25.3 of a step of v2, 4 tokens in 4 works`. */
export function describeSpans(spans: readonly Span[], { fromMs, toMs }: Omit<Span, 'what'>): string {
  const parts = spans
    .map((span) => ({ ...span, ms: Math.min(span.toMs, toMs) - Math.max(span.fromMs, fromMs) }))
    .filter(({ ms }) => ms > 0.5)
    .toSorted((a, b) => b.ms - a.ms)
  const listed = parts.map(({ what, ms }) => `${ms.toFixed(1)} of ${what}`).join('; ')
  return `${(toMs - fromMs).toFixed(1)} ms: ${listed || 'nothing of the backend'}`
}

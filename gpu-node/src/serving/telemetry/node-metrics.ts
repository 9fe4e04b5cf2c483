import { PrometheusSerializer } from '@opentelemetry/exporter-prometheus'
import type { Resource } from '@opentelemetry/resources'
import { MeterProvider, MetricReader } from '@opentelemetry/sdk-metrics'
import type { EngineLoad } from '../engine/engine-api.ts'
import type { EngineObserver } from '../engine/engine-observer.ts'

/** The metrics of a node. */
export interface NodeMetrics {
  /** The observer to pass to the engine. */
  readonly observer: EngineObserver
  /** Reads the engine's load and active version at every collection; called once, when the engine exists. */
  trackEngine(engine: { load(): EngineLoad; readonly activeVersion: number | null }): void
  /** Counts a request that was rejected before it reached the engine's queue. */
  rejected(code: string): void
  /** Returns all metrics in the Prometheus text format. */
  prometheus(): Promise<string>
  shutdown(): Promise<void>
}

/** Upper bounds of buckets, in seconds. */
const FIRST_TOKEN_S = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60]
const INTER_TOKEN_S = [0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5]

/** Collects only on request, because the node's own port serves `/metrics`. */
class PullReader extends MetricReader {
  protected override onShutdown(): Promise<void> {
    return Promise.resolve()
  }

  protected override onForceFlush(): Promise<void> {
    return Promise.resolve()
  }
}

/** Creates the instruments, named `copal_node_…`. */
export function createNodeMetrics({ resource }: { resource: Resource }): NodeMetrics {
  const reader = new PullReader()
  const provider = new MeterProvider({ resource, readers: [reader] })
  const serializer = new PrometheusSerializer('copal_node', false, undefined, false, true)
  const meter = provider.getMeter('copal-node')

  const requests = meter.createCounter('requests', { description: 'Requests that ended, by outcome' })
  const tokens = meter.createCounter('tokens', {
    description: 'Tokens of requests that ended: prompt and completion',
  })
  const sharedTokens = meter.createCounter('prompt_tokens_cached', {
    description: 'Prompt tokens of requests that ended which earlier prompts had computed',
  })
  const stepTokens = meter.createCounter('step_tokens', { description: 'Tokens computed, by phase' })
  const steps = meter.createHistogram('step_duration_seconds', {
    description: 'Time of one step of a weight set',
    advice: { explicitBucketBoundaries: INTER_TOKEN_S },
  })
  const queue = meter.createHistogram('queue_duration_seconds', {
    description: 'Time from arrival to the first step',
    advice: { explicitBucketBoundaries: FIRST_TOKEN_S },
  })
  const firstToken = meter.createHistogram('time_to_first_token_seconds', {
    description: 'Time from arrival to the first token',
    advice: { explicitBucketBoundaries: FIRST_TOKEN_S },
  })
  const interToken = meter.createHistogram('inter_token_latency_seconds', {
    description: 'Time between two tokens of a request',
    advice: { explicitBucketBoundaries: INTER_TOKEN_S },
  })

  return {
    observer: {
      step(step) {
        const version = String(step.maskVersion)
        steps.record(step.durationMs / 1000, { mask_version: version })
        stepTokens.add(step.prefillTokens, { mask_version: version, phase: 'prefill' })
        stepTokens.add(step.decodeTokens, { mask_version: version, phase: 'decode' })
        stepTokens.add(step.scoreTokens, { mask_version: version, phase: 'score' })
      },
      token({ sinceMs, first }) {
        if (first) firstToken.record(sinceMs / 1000)
        else interToken.record(sinceMs / 1000)
      },
      ended({ finishReason, promptTokens, cachedTokens, completionTokens, times, error }) {
        requests.add(1, { outcome: finishReason, ...(error ? { code: error.code } : {}) })
        tokens.add(promptTokens, { kind: 'prompt' })
        sharedTokens.add(cachedTokens)
        tokens.add(completionTokens, { kind: 'completion' })
        if (times.startedMs !== null) queue.record((times.startedMs - times.arrivedMs) / 1000)
      },
    },
    trackEngine(engine) {
      const gauge = (name: string, description: string, read: () => number) =>
        meter.createObservableGauge(name, { description }).addCallback((result) => result.observe(read()))
      gauge('requests_running', 'Requests in prefill or decode', () => engine.load().running)
      gauge('requests_waiting', 'Requests that wait for room', () => engine.load().waiting)
      gauge(
        'texts_scoring',
        'Sampled texts that wait for their score or are being scored',
        () => engine.load().scoring,
      )
      gauge('kv_tokens_used', 'Tokens of key/value cache in use', () => engine.load().kvTokensUsed)
      gauge(
        'kv_tokens_cached',
        'Tokens of key/value cache that no request uses and later prompts can share',
        () => engine.load().kvTokensCached,
      )
      gauge('kv_tokens_total', 'Tokens of key/value cache there are', () => engine.load().kvTokensTotal)
      gauge(
        'active_mask_version',
        'Mask version on which new requests start; -1 before the first',
        () => engine.activeVersion ?? -1,
      )
    },
    rejected: (code) => requests.add(1, { outcome: 'refused', code }),
    async prometheus() {
      const { resourceMetrics, errors } = await reader.collect()
      if (errors.length > 0) throw new AggregateError(errors, 'metrics could not be collected')
      return serializer.serialize(resourceMetrics)
    },
    shutdown: () => provider.shutdown(),
  }
}

import type { MetricFamily } from '@copal/shared/telemetry/family.ts'
import { GATEWAY_METRICS } from '@copal/shared/telemetry/gateway-metric-table.ts'
import { createMeter, type Meter } from '@copal/shared/telemetry/instruments.ts'
import type { AcquireResult, AcquireRequest, FailedAttempt } from '../../contracts/acquire.ts'
import type { BreakerState } from './circuit-breaker.ts'

/** Upper bounds of the buckets of waits, seconds. */
const WAIT_S = [0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 60]
/** The values of `copal.node.breaker_state`. */
const BREAKER_VALUES: Readonly<Record<BreakerState, number>> = { closed: 0, half_open: 1, open: 2 }

/** The state that every collection reads. */
export interface DispatchState {
  readonly queueLength: () => number
  readonly breakers: () => readonly { node: string; model: string; state: BreakerState }[]
}

/** Measures how requests get their nodes. Counts start from zero when the object restarts, as Prometheus expects. */
export class DispatchMetrics {
  readonly #meter: Meter = createMeter()
  readonly #leases = this.#meter.counter(GATEWAY_METRICS.dispatchLeases)
  readonly #failures = this.#meter.counter(GATEWAY_METRICS.dispatchFailures)
  readonly #retries = this.#meter.counter(GATEWAY_METRICS.dispatchRetries)
  readonly #waits = this.#meter.histogram(GATEWAY_METRICS.dispatchQueueDuration, WAIT_S)

  constructor(state: DispatchState) {
    this.#meter.observe(GATEWAY_METRICS.dispatchQueueLength, () => [[state.queueLength()]])
    this.#meter.observe(GATEWAY_METRICS.nodeBreakerState, () =>
      state
        .breakers()
        .map(({ node, model, state: breaker }) => [BREAKER_VALUES[breaker], node, model] as const),
    )
  }

  /** Counts an attempt to lease a node, after it has waited. One that got none is counted as rejected elsewhere. */
  acquired(
    request: Pick<AcquireRequest, 'model' | 'failed'>,
    acquired: AcquireResult,
    waitedMs: number,
  ): void {
    if (!acquired.ok) return
    this.#leases.add(1, request.model)
    if (request.failed) this.#retries.add(1, request.model)
    this.#waits.record(waitedMs / 1000, undefined)
  }

  /** Counts an attempt that failed on its node; `model` is undefined once its lease is gone. */
  failed(model: string | undefined, how: FailedAttempt['how']): void {
    this.#failures.add(1, model ?? '(unknown)', how)
  }

  /** Returns the metrics. */
  collect(): MetricFamily[] {
    return this.#meter.collect()
  }
}

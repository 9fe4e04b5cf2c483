import type { WeightSetState } from '@copal/shared/wire/heartbeat.ts'
import type { ScoringOutcome } from '@copal/shared/wire/receipts.ts'
import type { MetricFamily } from '@copal/shared/telemetry/family.ts'
import { createMeter, type MeasuredIn } from '@copal/shared/telemetry/instruments.ts'
import { NODE_METRICS } from '@copal/shared/telemetry/node-metric-table.ts'
import type { GrammarObserver, SwapObserver } from '../contract/observers.ts'
import type { EngineLoad } from '../engine/engine-api.ts'
import type { EngineObserver } from '../engine/engine-observer.ts'
import type { GenerationOutcome } from '../engine/generation-request.ts'
import { observeProcess } from './process-metrics.ts'
import { PROVIDER, type Operation } from './operations.ts'

/** A call whose generation has ended. */
export interface EndedCall {
  operation: Operation
  outcome: Pick<GenerationOutcome, 'times' | 'completionTokens' | 'finishReason' | 'error'>
  /** Outputs of the call that were generated side by side. */
  outputs: number
  /** Its span, if it is sampled. */
  trace: MeasuredIn
}

/** Parts of a node whose state is read at every collection. */
export interface NodeState {
  readonly weightSets: () => readonly WeightSetState[]
  readonly receiptsWaiting: () => number
}

/** The metrics of a node. */
export interface NodeMetrics {
  /** The observer to pass to the engine. */
  readonly observer: EngineObserver
  readonly swaps: SwapObserver
  readonly grammars: GrammarObserver
  readonly jobs: {
    progress(kind: string, fraction: number): void
    ended(kind: string, outcome: string, durationMs: number): void
  }
  /** Reads the engine's load and active version at every collection; called once, when the engine exists. */
  trackEngine(engine: { load(): EngineLoad; readonly activeVersion: number | null }): void
  /** Reads the state of other parts at every collection; called once. */
  trackNode(state: NodeState): void
  /** Counts a call whose generation has ended. */
  ended(call: EndedCall): void
  /** Counts a call that was rejected before it reached the engine's queue. */
  rejected(call: { operation: Operation; code: string; durationMs: number; trace: MeasuredIn }): void
  /** Counts whether a request was scored for drift. */
  scored(outcome: ScoringOutcome): void
  /** Counts a heartbeat. */
  heartbeat(outcome: 'answered' | 'failed'): void
  /** Returns all metrics. */
  collect(): MetricFamily[]
}

/** Upper bounds of buckets in seconds, as the conventions recommend them. */
const REQUEST_S = [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92]
const FIRST_TOKEN_S = [
  0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 30, 60,
]
const OUTPUT_TOKEN_S = [0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5]
const STEP_S = [0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5]
const SWAP_S = [0.001, 0.01, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300]
const JOB_S = [1, 10, 30, 60, 300, 900, 1_800, 3_600, 7_200, 14_400, 43_200]
const BATCH = [1, 2, 4, 8, 16, 32, 64, 128, 256]

/** Creates the metrics of {@link NODE_METRICS}. `model` is the node's own: what clients name is not a label. */
export function createNodeMetrics({ model }: { model: string }): NodeMetrics {
  const meter = createMeter()
  const requestDuration = meter.histogram(NODE_METRICS.requestDuration, REQUEST_S)
  const firstToken = meter.histogram(NODE_METRICS.timeToFirstToken, FIRST_TOKEN_S)
  const perOutputToken = meter.histogram(NODE_METRICS.timePerOutputToken, OUTPUT_TOKEN_S)
  const interToken = meter.histogram(NODE_METRICS.interTokenLatency, STEP_S)
  const queue = meter.histogram(NODE_METRICS.queueDuration, FIRST_TOKEN_S)
  const requests = meter.counter(NODE_METRICS.requests)
  const tokens = meter.counter(NODE_METRICS.tokens)
  const cachedTokens = meter.counter(NODE_METRICS.promptTokensCached)
  const prefixLookups = meter.counter(NODE_METRICS.prefixLookups)
  const steps = meter.histogram(NODE_METRICS.stepDuration, STEP_S)
  const batches = meter.histogram(NODE_METRICS.stepBatchSize, BATCH)
  const stepTokens = meter.counter(NODE_METRICS.stepTokens)
  const accepted = meter.counter(NODE_METRICS.acceptedDrafts)
  const weightLoads = meter.counter(NODE_METRICS.weightLoads)
  const swaps = meter.counter(NODE_METRICS.swaps)
  const swapPhases = meter.histogram(NODE_METRICS.swapDuration, SWAP_S)
  const scoring = meter.counter(NODE_METRICS.scoringOutcomes)
  const grammars = meter.counter(NODE_METRICS.grammarCompiles)
  const grammarTimes = meter.histogram(NODE_METRICS.grammarCompileDuration, FIRST_TOKEN_S)
  const jobs = meter.counter(NODE_METRICS.jobs)
  const jobTimes = meter.histogram(NODE_METRICS.jobDuration, JOB_S)
  const heartbeats = meter.counter(NODE_METRICS.heartbeats)
  const jobProgress = new Map<string, number>()
  // Alerts compare these with an earlier value: a series that began with its first failure would have none.
  for (const code of ['node_failed', 'invalid_output'] as const) requests.add(0, 'error', code)
  weightLoads.add(0, 'failed')
  for (const outcome of ['failed', 'answered'] as const) heartbeats.add(0, outcome)
  meter.observe(NODE_METRICS.jobProgress, () => Array.from(jobProgress, ([kind, value]) => [value, kind]))
  observeProcess(meter)

  return {
    observer: {
      step({ maskVersion, durationMs, sequences, acceptedDrafts, ...computed }) {
        const { prefillTokens, decodeTokens, draftTokens, scoreTokens } = computed
        steps.record(durationMs / 1000, undefined, maskVersion)
        batches.record(sequences, undefined, maskVersion)
        if (prefillTokens > 0) stepTokens.add(prefillTokens, maskVersion, 'prefill')
        if (decodeTokens > 0) stepTokens.add(decodeTokens, maskVersion, 'decode')
        if (draftTokens > 0) stepTokens.add(draftTokens, maskVersion, 'draft')
        if (scoreTokens > 0) stepTokens.add(scoreTokens, maskVersion, 'score')
        if (acceptedDrafts > 0) accepted.add(acceptedDrafts, maskVersion)
      },
      sampled({ sinceMs, first }) {
        if (!first) interToken.record(sinceMs / 1000, undefined)
      },
      ended({ finishReason, promptTokens, cachedTokens: cached, completionTokens, times, error }) {
        requests.add(1, finishReason, error?.code ?? '')
        tokens.add(promptTokens, 'prompt')
        tokens.add(completionTokens, 'completion')
        if (times.startedMs === null) return
        cachedTokens.add(cached)
        prefixLookups.add(1, cached > 0 ? 'hit' : 'miss')
        queue.record((times.startedMs - times.arrivedMs) / 1000, undefined)
      },
    },
    swaps: {
      phase: (name, durationMs) => swapPhases.record(durationMs / 1000, undefined, name),
      loaded: (outcome) => weightLoads.add(1, outcome),
      swapped: () => swaps.add(1),
    },
    grammars: {
      compiled(outcome, durationMs) {
        grammars.add(1, outcome)
        grammarTimes.record(durationMs / 1000, undefined)
      },
    },
    jobs: {
      progress: (kind, fraction) => void jobProgress.set(kind, fraction),
      ended(kind, outcome, durationMs) {
        jobProgress.delete(kind)
        jobs.add(1, kind, outcome)
        jobTimes.record(durationMs / 1000, undefined, kind)
      },
    },
    trackEngine(engine) {
      meter.observe(NODE_METRICS.requestsRunning, () => [[engine.load().running]])
      meter.observe(NODE_METRICS.requestsWaiting, () => [[engine.load().waiting]])
      meter.observe(NODE_METRICS.textsScoring, () => [[engine.load().scoring]])
      meter.observe(NODE_METRICS.kvTokensUsed, () => [[engine.load().kvTokensUsed]])
      meter.observe(NODE_METRICS.kvTokensCached, () => [[engine.load().kvTokensCached]])
      meter.observe(NODE_METRICS.kvTokens, () => [[engine.load().kvTokensTotal]])
      meter.observe(NODE_METRICS.activeMaskVersion, () => [[engine.activeVersion ?? -1]])
    },
    trackNode({ weightSets, receiptsWaiting }) {
      meter.observe(NODE_METRICS.receiptsWaiting, () => [[receiptsWaiting()]])
      meter.observe(NODE_METRICS.weightSets, () =>
        Array.from(
          Map.groupBy(weightSets(), ({ state }) => state),
          ([state, sets]) => [sets.length, state],
        ),
      )
      meter.observe(NODE_METRICS.weightsSize, () =>
        weightSets().flatMap(({ version, bytes }) =>
          bytes === undefined ? [] : [[bytes, version] as const],
        ),
      )
    },
    ended({ operation, outcome: { times, completionTokens, error, finishReason }, outputs, trace }) {
      const { arrivedMs, firstTokenMs, endedMs } = times
      const isError = error !== null && finishReason !== 'cancelled'
      requestDuration.record(
        (endedMs - arrivedMs) / 1000,
        trace,
        operation,
        PROVIDER,
        model,
        isError ? error.code : '',
      )
      if (isError || firstTokenMs === null) return
      firstToken.record((firstTokenMs - arrivedMs) / 1000, trace, operation, PROVIDER, model)
      const following = completionTokens / outputs - 1
      if (following > 0)
        perOutputToken.record((endedMs - firstTokenMs) / 1000 / following, trace, operation, PROVIDER, model)
    },
    rejected({ operation, code, durationMs, trace }) {
      requests.add(1, 'refused', code)
      requestDuration.record(durationMs / 1000, trace, operation, PROVIDER, model, code)
    },
    scored: (outcome) => scoring.add(1, outcome),
    heartbeat: (outcome) => heartbeats.add(1, outcome),
    collect: () => meter.collect(),
  }
}

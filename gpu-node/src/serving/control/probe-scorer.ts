import { PROBE_TEXTS } from '@copal/shared/probe-texts.ts'
import type { ProbeScore } from '@copal/shared/wire/heartbeat.ts'
import type { WeightSet } from '../contract/backend.ts'
import type { Engine } from '../engine/engine-api.ts'
import { MAX_SCORE_TOKENS } from '../engine/engine-policy.ts'
import type { TextCodec } from '../../model/tokenizer/text-codec.ts'
import { monotonicMs } from '../../platform/clock.ts'
import { reasonOf, type Log } from '../../platform/log.ts'

/** Weight sets that are scored; a heartbeat takes no more. */
const MAX_WEIGHT_SETS = 8
/** A set waits at least so many times what its last score took, so that probes leave a slow node's share to traffic. */
const PAUSE_FACTOR = 20
/** Wait before a failed score is repeated. */
const RETRY_MS = 30_000
/** Reported per token for a score that is not finite, which JSON cannot represent; no working weights come near it. */
const NOT_FINITE_NATS = 1_000

/** Scores the probe texts under every loaded weight set, in the share of scoring. */
export interface ProbeScorer {
  /** Scores sets that have no score or an old one. Called when weight sets were loaded or released. */
  check(): void
  /** Returns the newest score under each set, for the heartbeat. */
  scores(): ProbeScore[]
  close(): void
}

/** Parts of a {@link ProbeScorer}. */
export interface ProbeDeps {
  engine: Pick<Engine, 'score' | 'policy'>
  codec: Pick<TextCodec, 'encodeDocument'>
  /** Returns the weight sets that requests can start on, the most important first. */
  weightSets: () => readonly WeightSet[]
  log: Log
  /** Time between two scores of a set, or longer where a score takes long. */
  intervalMs: number
  nowMs?: () => number
}

interface Probe {
  /** Null before the first score, and when the latest try failed. */
  score: { tokens: number; nll: number; atMs: number } | null
  dueMs: number
}

/** Creates a scorer; `check` starts it. */
export function createProbeScorer(deps: ProbeDeps): ProbeScorer {
  const { engine, log, intervalMs } = deps
  const nowMs = deps.nowMs ?? monotonicMs
  const maxTokens = Math.min(MAX_SCORE_TOKENS, engine.policy.contextLength)
  const texts = PROBE_TEXTS.map((text) => deps.codec.encodeDocument(text).slice(0, maxTokens))
  const probes = new Map<WeightSet, Probe>()
  let current: { weights: WeightSet; abort: AbortController } | undefined
  let timer: NodeJS.Timeout | undefined
  let closed = false

  function check(): void {
    if (closed) return
    const sets = deps.weightSets().slice(0, MAX_WEIGHT_SETS)
    for (const weights of probes.keys()) if (!sets.includes(weights)) probes.delete(weights)
    for (const weights of sets) if (!probes.has(weights)) probes.set(weights, { score: null, dueMs: 0 })
    if (current) {
      // A set that is drained does not wait for its probes.
      if (!sets.includes(current.weights)) current.abort.abort()
      return
    }
    clearTimeout(timer)
    const next = sets.toSorted((a, b) => probes.get(a)!.dueMs - probes.get(b)!.dueMs)[0]
    if (!next) return
    const waitMs = probes.get(next)!.dueMs - nowMs()
    if (waitMs <= 0) void score(next)
    else timer = setTimeout(check, waitMs).unref()
  }

  async function score(weights: WeightSet): Promise<void> {
    const probe = probes.get(weights)!
    const abort = new AbortController()
    current = { weights, abort }
    const startedMs = nowMs()
    try {
      let nll = 0
      let tokens = 0
      for (const text of texts) {
        const values = await engine.score({ weights, tokens: text, lane: 'probe', signal: abort.signal })
        for (const value of values) nll += value
        tokens += values.length
      }
      if (!Number.isFinite(nll))
        log.error('the weights of a mask are damaged: the probe texts have no finite loss', {
          version: weights.version,
        })
      const finite = Number.isFinite(nll) ? nll : NOT_FINITE_NATS * tokens
      probe.score = { tokens, nll: finite, atMs: nowMs() }
      probe.dueMs = nowMs() + Math.max(intervalMs, PAUSE_FACTOR * (nowMs() - startedMs))
    } catch (error) {
      probe.dueMs = nowMs() + Math.min(intervalMs, RETRY_MS)
      if (!closed && !abort.signal.aborted)
        log.warn('the probe texts were not scored', { version: weights.version, reason: reasonOf(error) })
    } finally {
      current = undefined
      check()
    }
  }

  return {
    check,
    scores: () =>
      [...probes].flatMap(([{ version }, { score: latest }]) =>
        latest
          ? [
              {
                maskVersion: version,
                tokens: latest.tokens,
                nll: latest.nll,
                measuredMsAgo: Math.max(0, nowMs() - latest.atMs),
              },
            ]
          : [],
      ),
    close() {
      closed = true
      clearTimeout(timer)
      current?.abort.abort()
    },
  }
}

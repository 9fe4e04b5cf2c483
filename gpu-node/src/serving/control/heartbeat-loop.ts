import { toAppError } from '@copal/shared/errors.ts'
import type { Heartbeat, HeartbeatResponse } from '@copal/shared/wire/heartbeat.ts'
import { reasonOf, type Log } from '../../platform/log.ts'
import type { GatewayClient } from './gateway-client.ts'

/** Tells the gateway about this node, and what the gateway answers to the parts it concerns. */
export interface Heart {
  start(): void
  /** Something changed: beat soon instead of at the next turn. */
  poke(): void
  /** Beats once more, at once, and then no more: for the last words of a node that drains. */
  stop(): Promise<void>
}

/** Parts of a {@link Heart}. */
export interface HeartDeps {
  gateway: Pick<GatewayClient, 'heartbeat'>
  /** The state now; called once a beat. */
  snapshot: () => Heartbeat
  /** Takes the answer to `beat`. */
  onAnswer: (answer: HeartbeatResponse, beat: Heartbeat) => void
  log: Log
  intervalMs?: number
  /** Changes within this time share a beat. */
  debounceMs?: number
  /** Wait after the first beat that was not answered; it doubles up to `intervalMs`. */
  retryMs?: number
}

/**
 * Composes the heartbeat: one at a time, every `intervalMs`, sooner when poked. A gateway that does not answer
 * is asked again soon, then at the usual pace, for a node and its gateway often start together; it is logged
 * once when it goes and once when it returns.
 */
export function createHeart(deps: HeartDeps): Heart {
  const intervalMs = deps.intervalMs ?? 2_000
  const debounceMs = deps.debounceMs ?? 25
  const retryMs = deps.retryMs ?? 250
  let timer: NodeJS.Timeout | undefined
  let dueAtMs = Infinity
  let beating: Promise<void> | undefined
  let poked = false
  let started = false
  let failures = 0

  function schedule(delayMs: number): void {
    if (!started) return
    const atMs = Date.now() + delayMs
    if (atMs >= dueAtMs) return
    clearTimeout(timer)
    dueAtMs = atMs
    timer = setTimeout(() => void turn(), delayMs)
  }

  async function turn(): Promise<void> {
    dueAtMs = Infinity
    poked = false
    beating = beat()
    await beating
    beating = undefined
    // A gateway that is away is not asked faster because something changes here.
    const waitMs = failures === 0 ? intervalMs : Math.min(intervalMs, retryMs * 2 ** (failures - 1))
    schedule(poked && failures === 0 ? debounceMs : waitMs)
  }

  async function beat(): Promise<void> {
    const sent = deps.snapshot()
    let answer: HeartbeatResponse
    try {
      answer = await deps.gateway.heartbeat(sent)
    } catch (error) {
      if (failures === 0)
        deps.log.warn('gateway lost; serving goes on', {
          code: toAppError(error).code,
          reason: reasonOf(error),
        })
      failures += 1
      return
    }
    if (failures > 0) deps.log.info('gateway found again')
    failures = 0
    deps.onAnswer(answer, sent)
  }

  return {
    start() {
      started = true
      schedule(0)
    },
    poke() {
      poked = true
      if (!beating && failures === 0) schedule(debounceMs)
    },
    async stop() {
      const wasStarted = started
      started = false
      clearTimeout(timer)
      await beating
      if (wasStarted && failures === 0) await beat()
    },
  }
}

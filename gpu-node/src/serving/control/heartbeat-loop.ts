import { toAppError, type ErrorCode } from '@copal/shared/errors.ts'
import type { Heartbeat, HeartbeatResponse } from '@copal/shared/wire/heartbeat.ts'
import { monotonicMs } from '../../platform/clock.ts'
import { reasonOf, type Log } from '../../platform/log.ts'
import type { GatewayClient } from './gateway-client.ts'

/** Sends heartbeats to the gateway, and passes its replies on. */
export interface HeartbeatLoop {
  /** Sends the first heartbeat, and one every interval from then on. */
  start(dialogue: HeartbeatDialogue): void
  /** Sends a heartbeat soon, because the state changed, instead of at the next interval. */
  sendSoon(): void
  /** Sends a last heartbeat at once, for the final state of a draining node, and stops. */
  stop(): Promise<void>
}

/** The functions that say what a heartbeat reports, and those that act on its reply. */
export interface HeartbeatDialogue {
  /**
   * Returns the current state; called once per heartbeat.
   *
   * @param isLast whether no heartbeat follows, because the node ends
   */
  snapshot(isLast: boolean): Heartbeat
  /** Receives the reply to `heartbeat`. */
  onResponse(response: HeartbeatResponse, heartbeat: Heartbeat): void
}

/** Parts of a {@link HeartbeatLoop}. */
export interface HeartbeatLoopDeps {
  gateway: Pick<GatewayClient, 'heartbeat'>
  log: Log
  /** Called after each heartbeat. */
  onSent?: (outcome: 'answered' | 'failed') => void
  intervalMs?: number
  /** Changes within this time share a heartbeat. */
  debounceMs?: number
  /** Wait after the first failed heartbeat; it doubles up to `intervalMs`. */
  retryMs?: number
}

/** The least and the greatest time limit of a heartbeat. */
const MIN_TIMEOUT_MS = 2_000
const MAX_TIMEOUT_MS = 10_000

/**
 * Creates the heartbeat loop: one heartbeat at a time, every `intervalMs`, sooner after `sendSoon`. An unreachable gateway
 * is retried soon, then at the usual interval, because a node and its gateway often start together. The loss and the
 * return of the gateway are logged once each.
 */
export function createHeartbeatLoop(deps: HeartbeatLoopDeps): HeartbeatLoop {
  const intervalMs = deps.intervalMs ?? 2_000
  const debounceMs = deps.debounceMs ?? 25
  const retryMs = deps.retryMs ?? 250
  // After one lost response the next heartbeat still arrives before the silence, three intervals, that ends requests to a node.
  const leastTimeoutMs = Math.max(MIN_TIMEOUT_MS, 1.5 * intervalMs)
  let timeoutMs = leastTimeoutMs
  let timer: NodeJS.Timeout | undefined
  let dueAtMs = Infinity
  let sending: Promise<void> | undefined
  let sendRequested = false
  /** Set while the loop runs. */
  let dialogue: HeartbeatDialogue | undefined
  let failures = 0
  /** The code of the last failure that was logged. */
  let loggedCode: ErrorCode | undefined

  function schedule(delayMs: number): void {
    if (!dialogue) return
    const atMs = monotonicMs() + delayMs
    if (atMs >= dueAtMs) return
    clearTimeout(timer)
    dueAtMs = atMs
    timer = setTimeout(() => void sendAndSchedule(), delayMs)
  }

  async function sendAndSchedule(): Promise<void> {
    if (!dialogue) return
    dueAtMs = Infinity
    sendRequested = false
    sending = send(dialogue, false)
    await sending
    sending = undefined
    // Changes do not speed up the retries of an unreachable gateway.
    const waitMs = failures === 0 ? intervalMs : Math.min(intervalMs, retryMs * 2 ** (failures - 1))
    schedule(sendRequested && failures === 0 ? debounceMs : waitMs)
  }

  async function send(running: HeartbeatDialogue, isLast: boolean): Promise<void> {
    const heartbeat = running.snapshot(isLast)
    const limitMs = Math.min(MAX_TIMEOUT_MS, timeoutMs)
    const sentAtMs = performance.now()
    let response: HeartbeatResponse
    try {
      response = await deps.gateway.heartbeat(heartbeat, limitMs)
    } catch (error) {
      deps.onSent?.('failed')
      logFailure(error)
      failures += 1
      timeoutMs = 2 * limitMs
      return
    }
    // A gateway that takes long each time keeps the time that it needs.
    timeoutMs = Math.max(leastTimeoutMs, 2 * (performance.now() - sentAtMs))
    if (failures > 0) deps.log.info('gateway found again')
    failures = 0
    loggedCode = undefined
    deps.onSent?.('answered')
    running.onResponse(response, heartbeat)
  }

  /** Logs the first failure, and a gateway that responds again but rejects this node. */
  function logFailure(error: unknown): void {
    const { code, retryable } = toAppError(error)
    if (loggedCode !== undefined && (retryable || code === loggedCode)) return
    loggedCode = code
    const fields = { code, reason: reasonOf(error) }
    if (retryable) deps.log.warn('gateway lost; serving goes on', fields)
    else deps.log.error('the gateway rejects this node and sends no requests; serving goes on', fields)
  }

  return {
    start(started) {
      dialogue = started
      schedule(0)
    },
    sendSoon() {
      sendRequested = true
      if (!sending && failures === 0) schedule(debounceMs)
    },
    async stop() {
      const started = dialogue
      dialogue = undefined
      clearTimeout(timer)
      await sending
      if (started && failures === 0) await send(started, true)
    },
  }
}

import { setTimeout as sleep } from 'node:timers/promises'
import { formatDuration } from '../../../gpu-node/src/platform/quantities.ts'
import { processorTimeMs } from '../processes/process-group.ts'
import { StartError } from '../processes/start-error.ts'
import { lastLines, type Supervised } from '../processes/supervise.ts'
import { isHealthy, untilGatewayHealthy } from './readiness.ts'

/** The watched gateway. */
export interface WatchedGateway extends Pick<Supervised, 'pid' | 'pids' | 'kill'> {
  /** Where it responds. */
  origin: string
  logPath: string
}

/** When a gateway that does not respond counts as hanging. */
export interface WatchLimits {
  /** Time between two checks. */
  watchMs: number
  /** Processor time in {@link WHOLE_FAILURES} checks with which processes wait for each other and not for the processor. */
  idleMs: number
  /** Processor time without a response with which processes compute without end. */
  busyMs: number
  /** Time in which a gateway that was started again must be healthy. Each start gets twice the time of the one before. */
  startMs: number
}

/**
 * A check takes 6.5 s at most, so the processor time of an endless loop is used up in 20 of them. Where connections fail at once, 20
 * take 30 s, in which starved processes may get little.
 */
const LIMITS: WatchLimits = { watchMs: 1500, idleMs: 200, busyMs: 130_000, startMs: 120_000 }
/** Checks without a response after which the gateway is killed, if a process of it has ended. */
const PARTIAL_FAILURES = 3
/** The checks after which it is judged by its processor time, if all of its processes run. */
const WHOLE_FAILURES = 20
/** Starts in a row after which the service ends if none gave a healthy gateway. */
const MAX_STARTS = 3
/** The name of the process that runs the Worker. */
const RUNTIME = 'workerd'

/** Processes of a gateway, and the processor time that they had used. Undefined where the system does not tell. */
interface Processes {
  /** The process that starts the others; undefined while none runs. */
  leader: number | undefined
  pids: readonly number[] | undefined
  usedMs: number | undefined
}

/**
 * Watches a gateway that was ready and kills it when it hangs, so that it is started again. It starts a new workerd by itself when
 * one dies, and survives one that cannot be started, but then serves nothing.
 *
 * A gateway that is only starved, because the machine is busy, keeps its requests: its processes use the little processor time
 * that they get.
 *
 * @param print receives one line each time that it kills the gateway
 * @throws StartError when the gateway was started again several times and was never healthy; the reason of `signal`
 */
export async function watchGateway(
  gateway: WatchedGateway,
  print: (line: string) => void,
  signal: AbortSignal,
  limits = LIMITS,
): Promise<void> {
  for (;;) {
    const state = await untilDown(gateway, signal, limits)
    if (state === 'hangs') {
      print('The gateway does not respond, so it is killed.')
      gateway.kill()
    }
    await untilStartedAgain(gateway, print, signal, limits)
  }
}

/** Settles when the gateway has ended or was started again, or when it does not respond any more and its processes cannot. */
async function untilDown(
  gateway: WatchedGateway,
  signal: AbortSignal,
  { watchMs, idleMs, busyMs }: WatchLimits,
): Promise<'ended' | 'hangs'> {
  const look = (): Processes => {
    const pids = gateway.pids(RUNTIME)
    return { leader: gateway.pid(), pids, usedMs: pids && processorTimeMs(pids) }
  }
  /** When it responded last, and after each {@link WHOLE_FAILURES} checks since. */
  let responded = look()
  let judged = responded
  for (let failures = 0; ;) {
    await sleep(watchMs, undefined, { signal })
    // Read before the check, because a process that dies just after its response must count as dead.
    const now = look()
    if (await isHealthy(gateway.origin)) {
      responded = judged = now
      failures = 0
      continue
    }
    if (now.leader === undefined || now.leader !== responded.leader) return 'ended'
    failures += 1
    if (!isWhole(responded, now)) {
      if (failures >= PARTIAL_FAILURES) return 'hangs'
    } else if (failures % WHOLE_FAILURES === 0) {
      if (usedBetween(judged, now) < idleMs || usedBetween(responded, now) >= busyMs) return 'hangs'
      judged = now
    }
  }
}

/**
 * Waits until a gateway that is started again is healthy, and kills it if it is not in its time.
 *
 * @throws StartError after {@link MAX_STARTS} starts
 */
async function untilStartedAgain(
  gateway: WatchedGateway,
  print: (line: string) => void,
  signal: AbortSignal,
  { startMs }: WatchLimits,
): Promise<void> {
  for (let start = 1; start <= MAX_STARTS; start++) {
    const timeoutMs = startMs * 2 ** (start - 1)
    if (await isHealthyWithin(timeoutMs, gateway.origin, signal)) return
    if (start === MAX_STARTS) break
    print(
      `The gateway was started again and was not healthy within ${formatDuration(timeoutMs)}, so it is killed.`,
    )
    gateway.kill()
  }
  throw new StartError(
    `The gateway was started again ${MAX_STARTS} times and was never healthy. Its log, ${gateway.logPath}, ends:\n${lastLines(gateway.logPath, 8)}`,
  )
}

async function isHealthyWithin(timeoutMs: number, origin: string, signal: AbortSignal): Promise<boolean> {
  const late = new AbortController()
  const timer = setTimeout(() => late.abort(), timeoutMs)
  try {
    await untilGatewayHealthy(origin, AbortSignal.any([signal, late.signal]))
    return true
  } catch (error) {
    signal.throwIfAborted()
    if (!late.signal.aborted) throw error
    return false
  } finally {
    clearTimeout(timer)
  }
}

/** Returns whether all processes still run. New ones in the place of others do not respond either. */
function isWhole(before: Processes, now: Processes): boolean {
  return before.pids?.every((pid) => now.pids?.includes(pid)) ?? false
}

function usedBetween(before: Processes, now: Processes): number {
  return (now.usedMs ?? 0) - (before.usedMs ?? 0)
}

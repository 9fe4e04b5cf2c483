import { setTimeout as sleep } from 'node:timers/promises'
import { processorTimeMs } from '../processes/process-group.ts'
import type { Supervised } from '../processes/supervise.ts'
import { isHealthy, untilGatewayHealthy } from './readiness.ts'

/** When a gateway that does not respond counts as hanging. */
export interface WatchLimits {
  /** Time between two checks. */
  watchMs: number
  /** Processor time in {@link WHOLE_FAILURES} checks with which processes wait for each other and not for the processor. */
  idleMs: number
  /** Processor time without a response with which processes compute without end. */
  busyMs: number
}

/**
 * A check takes 6.5 s at most, so the processor time of an endless loop is used up in 20 of them. Where connections fail at once, 20
 * take 30 s, in which starved processes may get little.
 */
const LIMITS: WatchLimits = { watchMs: 1500, idleMs: 200, busyMs: 130_000 }
/** Checks without a response after which the gateway is killed, if a process of it has ended. */
const PARTIAL_FAILURES = 3
/** The checks after which it is judged by its processor time, if all of its processes run. */
const WHOLE_FAILURES = 20
/** The name of the process that runs the Worker. */
const RUNTIME = 'workerd'

/** Processes of a gateway, and the processor time that they had used. Undefined where the system does not tell. */
interface Processes {
  pids: readonly number[] | undefined
  usedMs: number | undefined
}

/**
 * Watches a gateway that was ready and kills it when it hangs. It starts a new workerd by itself when one dies, and survives one
 * that cannot be started, but then serves nothing.
 *
 * A gateway that is only starved, because the machine is busy, keeps its requests: its processes use the little processor time
 * that they get.
 */
export async function watchGateway(
  origin: string,
  gateway: Pick<Supervised, 'pids' | 'kill'>,
  signal: AbortSignal,
  limits = LIMITS,
): Promise<void> {
  const look = (): Processes => {
    const pids = gateway.pids(RUNTIME)
    return { pids, usedMs: pids && processorTimeMs(pids) }
  }
  for (;;) {
    await untilHung(origin, look, signal, limits)
    gateway.kill()
    await untilGatewayHealthy(origin, signal)
  }
}

/** Settles when the gateway does not respond any more, and its processes cannot. */
async function untilHung(
  origin: string,
  look: () => Processes,
  signal: AbortSignal,
  { watchMs, idleMs, busyMs }: WatchLimits,
): Promise<void> {
  /** When it responded last, and after each {@link WHOLE_FAILURES} checks since. */
  let responded = look()
  let judged = responded
  for (let failures = 0; ;) {
    await sleep(watchMs, undefined, { signal })
    // Read before the check, because a process that dies just after its response must count as dead.
    const now = look()
    if (await isHealthy(origin)) {
      responded = judged = now
      failures = 0
      continue
    }
    failures += 1
    if (!isWhole(responded, now)) {
      if (failures >= PARTIAL_FAILURES) return
    } else if (failures % WHOLE_FAILURES === 0) {
      if (usedBetween(judged, now) < idleMs || usedBetween(responded, now) >= busyMs) return
      judged = now
    }
  }
}

/** Returns whether all processes still run. New ones in the place of others do not respond either. */
function isWhole(before: Processes, now: Processes): boolean {
  return before.pids?.every((pid) => now.pids?.includes(pid)) ?? false
}

function usedBetween(before: Processes, now: Processes): number {
  return (now.usedMs ?? 0) - (before.usedMs ?? 0)
}

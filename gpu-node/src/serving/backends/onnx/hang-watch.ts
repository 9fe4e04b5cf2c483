/** When the process of a weight set counts as hanging. */
export interface HangLimits {
  /** Longest time that a call may run without progress. Time in which the node itself did not run does not count. */
  idleMs: number
  /** Most processor time that a call may use on each of its threads. */
  callMs: number
}

/** Notices that a process hangs in a call. */
export interface HangWatch {
  /** Says that a call was sent, or that one was answered, and how many are not answered. */
  calls(unanswered: number): void
  /** Says how much processor time the process has used since it was started. */
  used(processorMs: number): void
}

/**
 * A step that a busy machine slows down, and a load from a slow disk, use processor time all the same, so that neither is taken for a
 * hang. An endless loop uses it too, so there is a limit that no call needs: a step of 512 tokens of a model with 70 billion weights is
 * 7 · 10¹³ operations, and an hour suffices for them on a single thread at 20 · 10⁹ a second.
 */
const LIMITS: HangLimits = { idleMs: 5 * 60_000, callMs: 60 * 60_000 }
/** Processor time that counts as progress. The reports of a process that only waits take 75 ms in five minutes. */
const MIN_PROGRESS_MS = 500
/** How often a running call is checked within {@link HangLimits.idleMs}. */
const CHECKS_PER_LIMIT = 20

/**
 * Creates the watch of one process. Calls run one at a time, in order.
 *
 * @param threads threads of a call
 * @param onHang called once, with what the process did, for a sentence about it
 */
export function createHangWatch(
  threads: number,
  onHang: (how: string) => void,
  limits: HangLimits = LIMITS,
): HangWatch {
  let processorMs = 0
  /** Processor time at the start of the current call, and at the last progress. */
  let atStart = 0
  let atProgress = 0
  let idleChecks = 0
  let timer: NodeJS.Timeout | undefined

  // Checks are counted, because a clock would also count the time in which the machine slept.
  function check(): void {
    idleChecks += 1
    if (processorMs - atProgress >= MIN_PROGRESS_MS) {
      atProgress = processorMs
      idleChecks = 0
    }
    if (idleChecks >= CHECKS_PER_LIMIT)
      return hang(`it used no processor time for ${limits.idleMs / 1000} s of a call`)
    if (processorMs - atStart > limits.callMs * threads)
      hang(`one call used more than ${limits.callMs / 1000} s of each of ${threads} processors`)
  }

  function hang(how: string): void {
    clearInterval(timer)
    onHang(`was ended, because it hung: ${how}`)
  }

  return {
    calls(unanswered) {
      clearInterval(timer)
      atStart = atProgress = processorMs
      idleChecks = 0
      if (unanswered > 0) timer = setInterval(check, limits.idleMs / CHECKS_PER_LIMIT).unref()
    },
    used(ms) {
      processorMs = ms
    },
  }
}

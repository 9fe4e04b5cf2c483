/** When work of a process counts as hanging. */
export interface HangLimits {
  /** Longest time without progress. Time in which the node itself did not run does not count. */
  idleMs: number
  /** Most processor time that a piece of work may use on each of its threads. */
  workMs: number
}

/** Notices that a process hangs in its work. */
export interface HangWatch {
  /** Says that a piece of work begins, which ends the one before. */
  begin(limits: HangLimits): void
  /** Says that there is no work. */
  end(): void
  /** Says how much processor time the process has used since it was started. */
  used(processorMs: number): void
}

/**
 * Longest time without progress. A step that a busy machine slows down, and a load from a slow disk, use processor time all the same,
 * so that neither is taken for a hang.
 */
export const MAX_IDLE_MS = 5 * 60_000
/** Processor time that counts as progress. The reports of a process that only waits take 75 ms in five minutes. */
const MIN_PROGRESS_MS = 500
/** How often running work is checked within {@link HangLimits.idleMs}. */
const CHECKS_PER_LIMIT = 20

/**
 * Creates the watch of one process.
 *
 * @param threads threads of its work
 * @param onHang called once, with what the process did, for a sentence about it
 */
export function createHangWatch(threads: number, onHang: (how: string) => void): HangWatch {
  let processorMs = 0
  /** Processor time at the start of the current work, and at the last progress. */
  let atStart = 0
  let atProgress = 0
  let idleChecks = 0
  let timer: NodeJS.Timeout | undefined

  // Checks are counted, because a clock would also count the time in which the machine slept.
  function check({ idleMs, workMs }: HangLimits): void {
    idleChecks += 1
    if (processorMs - atProgress >= MIN_PROGRESS_MS) {
      atProgress = processorMs
      idleChecks = 0
    }
    if (idleChecks >= CHECKS_PER_LIMIT) return hang(`it used no processor time for ${seconds(idleMs)}`)
    if (processorMs - atStart > workMs * threads)
      hang(`it used more than ${seconds(workMs)} of each of ${threads} processors without a result`)
  }

  function hang(how: string): void {
    clearInterval(timer)
    onHang(`was ended, because it hung: ${how}`)
  }

  return {
    begin(limits) {
      clearInterval(timer)
      atStart = atProgress = processorMs
      idleChecks = 0
      timer = setInterval(check, limits.idleMs / CHECKS_PER_LIMIT, limits).unref()
    },
    end: () => clearInterval(timer),
    used(ms) {
      processorMs = ms
    },
  }
}

function seconds(ms: number): string {
  return `${Math.round(ms / 1000)} s`
}

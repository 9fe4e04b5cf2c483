/** Parts of a {@link ProcessEnd}. */
export interface ProcessEndDeps {
  /** Stops what runs, within a time. Settles when the process can exit; false where the caller of `exit` does it later. */
  stop(why: string, maxGraceMs: number): Promise<boolean>
  /** Logs a failure. */
  onFailure(reason: string): void
  /** Ends the process. */
  exit(code: number): void
}

/** The end of a process: it is stopped once, and the first reason decides its exit code. */
export interface ProcessEnd {
  /** Returns whether the process is being stopped. */
  isEnding(): boolean
  /** Returns the exit code: 1 after a failure, else 0. */
  exitCode(): number
  /** Stops the process as planned, unless it is being stopped. */
  end(why: string, maxGraceMs: number): Promise<void>
  /**
   * Stops the process after a failure that another process may not have. The exit code makes a supervisor start one. A failure
   * while the process is being stopped changes nothing: a planned stop stays one.
   */
  fail(reason: string): void
}

/**
 * Kills this process by SIGKILL, once its log lines are written. `process.exit` joins the threads of the pool, so it never returns
 * while one of them waits, as for a driver that hangs.
 */
export function killThisProcess(): void {
  process.stderr.write('', () => process.kill(process.pid, 'SIGKILL'))
}

/** Creates the end of a process that still runs. */
export function createProcessEnd(deps: ProcessEndDeps): ProcessEnd {
  let ending = false
  let exitCode = 0

  async function end(why: string, maxGraceMs: number): Promise<void> {
    if (ending) return
    ending = true
    if (await deps.stop(why, maxGraceMs)) deps.exit(exitCode)
  }

  return {
    isEnding: () => ending,
    exitCode: () => exitCode,
    end,
    fail(reason) {
      if (ending) return
      deps.onFailure(reason)
      exitCode = 1
      void end('a failure', 0)
    },
  }
}

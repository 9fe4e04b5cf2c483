import { mkdir, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { toAppError, type ErrorCode } from '@copal/shared/errors.ts'
import {
  jobReport,
  type CalibrateJob,
  type CalibrateResult,
  type EvaluateJob,
  type EvaluateResult,
  type Job,
  type JobReport,
} from '@copal/shared/wire/adaptation-jobs.ts'
import { validate } from '@copal/shared/wire/validate.ts'
import { reasonOf, type Log } from '../../platform/log.ts'
import { readIfThere, writeAtomically } from '../../platform/content-store.ts'

/** What a running job may use. */
export interface JobContext {
  /** Aborted when the gateway no longer wants the job, or the node stops. */
  signal: AbortSignal
  /** `fraction` is 0 to 1; `message` is for people. */
  progress: (fraction: number, message: string) => void
  /**
   * Does a part of the work, and again while its failure may pass: as long as the gateway cannot be reached, some
   * times for anything else.
   */
  attempt<T>(part: () => Promise<T>): Promise<T>
}

/** The work itself. Repeating it gives the same result; parts that may fail for a while are repeated by `attempt`. */
export interface JobWork {
  calibrate(job: CalibrateJob, context: JobContext): Promise<CalibrateResult>
  evaluate(job: EvaluateJob, context: JobContext): Promise<EvaluateResult>
}

/** Runs the jobs that the gateway lists for this node. */
export interface JobRunner {
  /**
   * Takes the list of a heartbeat answer. New jobs queue; a job that is no longer listed is cancelled or,
   * when it had ended, forgotten. `known` are the ids the heartbeat reported: a job that ended or was taken
   * after it was sent is not settled by its answer.
   */
  apply(jobs: readonly Job[], known: readonly string[]): void
  /** Every job not yet settled, for the heartbeat. */
  reports(): JobReport[]
  /** Cancels what runs and waits for it; unfinished jobs start again from the gateway's list. */
  close(): Promise<void>
}

/** Parts of a {@link JobRunner}. */
export interface JobRunnerDeps {
  home: string
  work: JobWork
  log: Log
  /** A job changed state. */
  onChange: () => void
  /** Wait before the first repetition of what failed by something that may pass. */
  retryMs?: number
}

interface Entry {
  job: Job | null
  report: JobReport
  abort: AbortController
}

const MOST_MESSAGE = 512
/** Of work whose process keeps dying, which may take hours each time. */
const MOST_DEATHS = 3
/** Of what else may pass: for some eight minutes. */
const MOST_ATTEMPTS = 20
/** The longest wait, in first waits. */
const MOST_WAITS = 30

/**
 * Composes the runner, one job at a time. Results are kept in `<home>/jobs/<id>.json` until the gateway has
 * settled them, so that a node killed between the work and its report does not work twice.
 */
export async function openJobRunner(deps: JobRunnerDeps): Promise<JobRunner> {
  const dir = join(deps.home, 'jobs')
  const entries = new Map<string, Entry>()
  const pathOf = (id: string) => join(dir, `${encodeURIComponent(id)}.json`)
  let working: Promise<void> | undefined
  let closed = false
  for (const report of await readReports(dir, deps.log)) {
    entries.set(report.id, { job: null, report, abort: new AbortController() })
  }

  /** Starts the next queued job unless one runs. */
  function next(): void {
    if (working || closed) return
    const entry = [...entries.values()].find(({ job, report }) => job && report.state === 'running')
    if (!entry?.job) return
    working = run(entry, entry.job).finally(() => {
      working = undefined
      next()
    })
  }

  async function run(entry: Entry, job: Job): Promise<void> {
    const { signal } = entry.abort
    const context: JobContext = {
      signal,
      progress(fraction, message) {
        if (signal.aborted) return
        entry.report = { ...entry.report, progress: clamp(fraction), message: message.slice(0, MOST_MESSAGE) }
      },
      attempt: (part) => untilItPasses(part, signal, entry),
    }
    const startedMs = Date.now()
    deps.log.info('job started', { id: job.id, kind: job.kind })
    try {
      const result = await perform(job, context)
      signal.throwIfAborted()
      const done = { id: job.id, state: 'done', progress: 1, message: `${job.kind} done`, result }
      // A figure that JSON cannot carry would have the gateway refuse every heartbeat of this node.
      const report = validate(jobReport, done)
      await keep(report)
      // Told when it is kept: settled before, its file would come after it was removed.
      entry.report = report
      deps.log.info('job done', { id: job.id, kind: job.kind, tookMs: Date.now() - startedMs })
    } catch (error) {
      end(entry, job, error)
    }
    entry.job = null
    deps.onChange()
  }

  function perform(job: Job, context: JobContext): Promise<CalibrateResult | EvaluateResult> {
    return job.kind === 'calibrate' ? deps.work.calibrate(job, context) : deps.work.evaluate(job, context)
  }

  async function untilItPasses<T>(part: () => Promise<T>, signal: AbortSignal, entry: Entry): Promise<T> {
    for (let attempt = 0; ; attempt++) {
      try {
        return await part()
      } catch (error) {
        signal.throwIfAborted()
        const { code, retryable } = toAppError(error)
        if (!retryable || attempt + 1 >= mostAttempts(code)) throw error
        const waitMs = (deps.retryMs ?? 1_000) * Math.min(MOST_WAITS, 2 ** attempt)
        deps.log.warn('job waits and tries again', { id: entry.report.id, waitMs, reason: reasonOf(error) })
        entry.report = { ...entry.report, message: `waiting: ${reasonOf(error)}`.slice(0, MOST_MESSAGE) }
        await sleep(waitMs, undefined, { signal })
      }
    }
  }

  function end(entry: Entry, job: Job, error: unknown): void {
    if (entry.abort.signal.aborted) {
      // Not reported: either the gateway dropped it, or this node stops and takes it up again when it returns.
      deps.log.info('job cancelled', { id: job.id, kind: job.kind })
      return
    }
    const { code, message } = toAppError(error)
    entry.report = {
      ...entry.report,
      state: 'failed',
      message: `${job.kind} failed: ${message}`.slice(0, MOST_MESSAGE),
      error: { code, message },
    }
    deps.log.error('job failed', { id: job.id, kind: job.kind, code, reason: reasonOf(error) })
  }

  /** A result that cannot be kept is still reported; after a crash it would be worked out again. */
  async function keep(report: JobReport): Promise<void> {
    try {
      await writeAtomically(pathOf(report.id), async function* () {
        yield new TextEncoder().encode(JSON.stringify(report))
      })
    } catch (error) {
      deps.log.error('a job result cannot be written', { id: report.id, reason: reasonOf(error) })
    }
  }

  function settle(id: string, entry: Entry): void {
    entry.abort.abort(new Error('the gateway no longer wants this job'))
    entries.delete(id)
    void rm(pathOf(id), { force: true }).catch((error: unknown) => {
      deps.log.error('a settled job cannot be removed', { id, reason: reasonOf(error) })
    })
  }

  return {
    apply(jobs, known) {
      if (closed) return
      const listed = new Set(jobs.map(({ id }) => id))
      for (const [id, entry] of entries) if (!listed.has(id) && known.includes(id)) settle(id, entry)
      for (const job of jobs) {
        if (entries.has(job.id)) continue
        const report: JobReport = { id: job.id, state: 'running', progress: 0, message: `${job.kind} queued` }
        entries.set(job.id, { job, report, abort: new AbortController() })
        deps.onChange()
      }
      next()
    },
    reports: () => [...entries.values()].map(({ report }) => report),
    async close() {
      closed = true
      for (const { abort } of entries.values()) abort.abort(new Error('the node stops'))
      await working
    },
  }
}

async function readReports(dir: string, log: Log): Promise<JobReport[]> {
  await mkdir(dir, { recursive: true })
  const reports: JobReport[] = []
  for (const name of await readdir(dir)) {
    if (!name.endsWith('.json')) continue
    const path = join(dir, name)
    const text = await readIfThere(path)
    if (text === undefined) continue
    try {
      reports.push(jobReport.parse(JSON.parse(text)))
    } catch (error) {
      log.warn('a damaged job result is dropped', { path, reason: reasonOf(error) })
      await rm(path, { force: true })
    }
  }
  return reports
}

/** Without end only while there is nobody who could be told of a failure. */
function mostAttempts(code: ErrorCode): number {
  if (code === 'no_node_available') return Number.POSITIVE_INFINITY
  return code === 'node_failed' ? MOST_DEATHS : MOST_ATTEMPTS
}

function clamp(fraction: number): number {
  return Number.isNaN(fraction) ? 0 : Math.min(1, Math.max(0, fraction))
}

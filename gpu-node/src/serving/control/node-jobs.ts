import { readdir, rm } from 'node:fs/promises'
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
import type { JobObserver } from '../contract/observers.ts'
import { readIfThere, writeAtomically } from '../../platform/atomic-file.ts'
import { makeFolder } from '../../platform/make-folder.ts'

/** The interface of a running job to its runner. */
export interface JobContext {
  /** Aborted when the gateway no longer wants the job, or the node stops. */
  signal: AbortSignal
  /** `fraction` is 0 to 1; `message` is for people. */
  progress: (fraction: number, message: string) => void
  /**
   * Runs a part of the work and repeats it after temporary failures: without limit while the gateway cannot be reached, a
   * limited number of times for other failures.
   */
  retry<T>(part: () => Promise<T>): Promise<T>
}

/** The work of jobs. Repeating it gives the same result; `JobContext.retry` repeats parts that fail temporarily. */
export interface JobWork {
  calibrate(job: CalibrateJob, context: JobContext): Promise<CalibrateResult>
  evaluate(job: EvaluateJob, context: JobContext): Promise<EvaluateResult>
}

/** Runs the jobs that the gateway lists for this node. */
export interface JobRunner {
  /**
   * Applies the job list of a heartbeat reply. New jobs are queued. A job that is no longer listed is cancelled, or
   * forgotten if it had ended. `known` are the ids that the heartbeat reported: the reply does not settle jobs that started
   * or ended after the heartbeat was sent.
   */
  apply(jobs: readonly Job[], known: readonly string[]): void
  /** Returns the reports of all jobs that are not settled, for the heartbeat. */
  reports(): JobReport[]
  /** Cancels the running job and waits for it. After a restart, unfinished jobs start again from the gateway's list. */
  close(): Promise<void>
}

/** Parts of a {@link JobRunner}. */
export interface JobRunnerDeps {
  home: string
  work: JobWork
  log: Log
  observer?: JobObserver
  /** Called when a job changed state. */
  onChange: () => void
  /** Wait before the first repetition after a temporary failure. */
  retryMs?: number
}

interface Entry {
  job: Job | null
  report: JobReport
  abort: AbortController
}

const MAX_MESSAGE_CHARACTERS = 512
/** Attempts of work whose process fails, which may take hours each time. */
const MAX_PROCESS_FAILURES = 3
/** Attempts after other temporary failures: about eight minutes. */
const MAX_ATTEMPTS = 20
/** Longest wait between attempts, as a multiple of the first wait. */
const MAX_BACKOFF = 30

/**
 * Creates the job runner, which runs one job at a time. Results are stored in `<home>/jobs/<id>.json` until the gateway
 * has settled them, so that a node killed between the work and its report does not repeat the work.
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
    const observed = deps.observer?.started(job)
    const context: JobContext = {
      signal,
      progress(fraction, message) {
        if (signal.aborted) return
        observed?.progress(clamp(fraction))
        entry.report = {
          ...entry.report,
          progress: clamp(fraction),
          message: message.slice(0, MAX_MESSAGE_CHARACTERS),
        }
      },
      retry: (part) => withRetries(part, signal, entry),
    }
    const startedMs = performance.now()
    deps.log.info('job started', { id: job.id, kind: job.kind })
    try {
      const result = await perform(job, context)
      signal.throwIfAborted()
      const done = { id: job.id, state: 'done', progress: 1, message: `${job.kind} done`, result }
      // The gateway would reject every heartbeat of this node if the report held a number that JSON cannot represent.
      const report = validate(jobReport, done)
      await persist(report)
      // Reported only once it is stored; otherwise its file could be written after the job was settled and removed.
      entry.report = report
      deps.log.info('job done', {
        id: job.id,
        kind: job.kind,
        tookMs: Math.round(performance.now() - startedMs),
      })
      observed?.ended('done')
    } catch (error) {
      recordFailure(entry, job, error)
      if (signal.aborted) observed?.ended('cancelled')
      else observed?.ended('failed', toAppError(error).code)
    }
    entry.job = null
    deps.onChange()
  }

  function perform(job: Job, context: JobContext): Promise<CalibrateResult | EvaluateResult> {
    return job.kind === 'calibrate' ? deps.work.calibrate(job, context) : deps.work.evaluate(job, context)
  }

  async function withRetries<T>(part: () => Promise<T>, signal: AbortSignal, entry: Entry): Promise<T> {
    for (let attempt = 0; ; attempt++) {
      try {
        return await part()
      } catch (error) {
        signal.throwIfAborted()
        const { code, retryable } = toAppError(error)
        if (!retryable || attempt + 1 >= maxAttempts(code)) throw error
        const waitMs = (deps.retryMs ?? 1_000) * Math.min(MAX_BACKOFF, 2 ** attempt)
        deps.log.warn('job failed temporarily and is repeated', {
          id: entry.report.id,
          waitMs,
          reason: reasonOf(error),
        })
        entry.report = {
          ...entry.report,
          message: `waiting: ${reasonOf(error)}`.slice(0, MAX_MESSAGE_CHARACTERS),
        }
        await sleep(waitMs, undefined, { signal })
      }
    }
  }

  function recordFailure(entry: Entry, job: Job, error: unknown): void {
    if (entry.abort.signal.aborted) {
      // Not reported: either the gateway dropped the job, or this node stops and repeats it after its restart.
      deps.log.info('job cancelled', { id: job.id, kind: job.kind })
      return
    }
    const { code, message } = toAppError(error)
    entry.report = {
      ...entry.report,
      state: 'failed',
      message: `${job.kind} failed: ${message}`.slice(0, MAX_MESSAGE_CHARACTERS),
      error: { code, message },
    }
    deps.log.error('job failed', { id: job.id, kind: job.kind, code, reason: reasonOf(error) })
  }

  /** Stores a result. If that fails the result is still reported, but a crash would repeat the work. */
  async function persist(report: JobReport): Promise<void> {
    try {
      await writeAtomically(pathOf(report.id), JSON.stringify(report))
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
  makeFolder(dir)
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

/** Returns the attempts allowed for an error; no limit while the gateway is unreachable, and a failure unreportable. */
function maxAttempts(code: ErrorCode): number {
  if (code === 'no_node_available') return Number.POSITIVE_INFINITY
  return code === 'node_failed' ? MAX_PROCESS_FAILURES : MAX_ATTEMPTS
}

function clamp(fraction: number): number {
  return Number.isNaN(fraction) ? 0 : Math.min(1, Math.max(0, fraction))
}

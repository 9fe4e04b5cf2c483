/** The steps of an update with their times, from its jobs and decisions. */
import type { DecisionEntry } from '@copal/shared/wire/admin-decisions.ts'
import type { UpdateEntry, UpdateJob, UpdateState } from '@copal/shared/wire/admin.ts'
import { secondsLeft } from '../../format/times.ts'

/** A step of an update. */
export interface UpdateStep {
  name: StepName
  label: string
  /**
   * `skipped`: the policy does not ask for it, or it was not reached. `ended`: it ended without a decision, or the policy did
   * not ask for it, which cannot be told apart later.
   */
  state: 'done' | 'running' | 'failed' | 'skipped' | 'ended' | 'ahead'
  endedAtMs: number | undefined
  /** Time that it took or takes, milliseconds; of several candidates together. */
  durationMs: number | undefined
  note: string | undefined
}

/** The steps in their order. */
const STEP_NAMES = ['collect', 'calibrate', 'gate', 'confirm', 'canary', 'promote', 'watch'] as const
/** The name of a step. */
export type StepName = (typeof STEP_NAMES)[number]

const LABELS: Readonly<Record<StepName, string>> = {
  collect: 'Collect texts',
  calibrate: 'Calibrate',
  gate: 'Gate',
  confirm: 'Confirm',
  canary: 'Canary',
  promote: 'Roll out',
  watch: 'Watch',
}

const STEP_OF_STATE: Readonly<Partial<Record<UpdateState, StepName>>> = {
  collecting: 'collect',
  calibrating: 'calibrate',
  evaluating: 'gate',
  confirming: 'confirm',
  canary: 'canary',
  promoting: 'promote',
}

/** A part of the update's time that one step took. */
interface Span {
  step: StepName
  fromMs: number
  toMs: number
}

/**
 * Returns the steps of an update with their times.
 *
 * @param update as the response for a single update, with jobs and decisions
 * @param watching whether its mask is watched now
 */
export function stepsOf(update: UpdateEntry, watching: boolean, nowMs: number): UpdateStep[] {
  const spans = spansOf(update, watching, nowMs)
  const decisions = update.decisions ?? []
  const running = watching ? 'watch' : STEP_OF_STATE[update.state]
  const failed = failedStep(update, spans)
  const end = running ?? failed ?? spans.at(-1)?.step
  const endIndex = end === undefined ? -1 : STEP_NAMES.indexOf(end)
  return STEP_NAMES.map((name, index) => {
    const own = spans.filter(({ step }) => step === name)
    const state =
      name === running
        ? 'running'
        : name === failed
          ? 'failed'
          : own.length > 0
            ? 'done'
            : index > endIndex && running !== undefined
              ? 'ahead'
              : name === 'watch' && end === 'promote' && update.finished_at !== null
                ? 'ended'
                : 'skipped'
    return {
      name,
      label: LABELS[name],
      state,
      endedAtMs: state === 'running' ? undefined : own.at(-1)?.toMs,
      durationMs: own.length > 0 ? own.reduce((sum, { fromMs, toMs }) => sum + toMs - fromMs, 0) : undefined,
      note: noteOf(name, update, decisions),
    }
  })
}

/**
 * Cuts the time of an update into spans. Each candidate is calibrated and then judged by the gate; the decisions tell when a
 * step ended, and the jobs when the next one began.
 */
function spansOf(update: UpdateEntry, watching: boolean, nowMs: number): Span[] {
  const { created_at: createdAt, finished_at: finishedAt } = update
  const endMs = finishedAt === null ? nowMs : Date.parse(finishedAt)
  const jobs = (update.jobs ?? []).map((job) => ({ ...job, createdMs: Date.parse(job.created_at) }))
  const decisions = (update.decisions ?? []).filter(({ kind }) => kind !== 'trigger' && kind !== 'policy')
  const spans: Span[] = []
  let fromMs = Date.parse(createdAt)
  const add = (step: StepName, toMs: number) => {
    spans.push({ step, fromMs, toMs: Math.max(fromMs, toMs) })
    fromMs = Math.max(fromMs, toMs)
  }
  const firstJob = jobs[0]
  if (!firstJob && update.state === 'collecting') add('collect', endMs)
  if (!firstJob) {
    if (spans.length === 0) add('collect', decisions[0] ? Date.parse(decisions[0].created_at) : endMs)
  } else add('collect', firstJob.createdMs)
  // Evaluations of the candidate begin when its mask is registered; those before are of the masks that it is compared with.
  const addCandidate = (untilMs: number) => {
    const evaluation = jobs.find(
      ({ kind, createdMs }) => kind === 'evaluate' && createdMs > fromMs && createdMs <= untilMs,
    )
    if (evaluation) add('calibrate', evaluation.createdMs)
    add(evaluation ? 'gate' : 'calibrate', untilMs)
  }
  for (const { kind, created_at: at } of decisions) {
    const atMs = Date.parse(at)
    if (kind === 'gate') addCandidate(atMs)
    else if (kind === 'confirm') add('confirm', atMs)
    else if (kind === 'canary') add('canary', atMs)
    else if (kind === 'promote') add('promote', atMs)
    else if (kind === 'watch') add('watch', atMs)
    else fromMs = Math.max(fromMs, atMs)
  }
  const open = watching ? 'watch' : STEP_OF_STATE[update.state]
  if (open === 'calibrate' || open === 'gate') addOpenCandidate(open)
  else if (open !== undefined && open !== 'collect') add(open, nowMs)
  else if (isUndecidedEnd(update) && firstJob && decisions.length === 0) addCandidate(endMs)
  return spans

  function addOpenCandidate(step: 'calibrate' | 'gate') {
    if (step === 'calibrate') add('calibrate', nowMs)
    else addCandidate(nowMs)
  }
}

/** It ended without a decision that names the step: it was cancelled, or a job failed. */
function isUndecidedEnd({ state }: UpdateEntry): boolean {
  return state === 'cancelled' || state === 'failed'
}

/** The step in which an update ended without its mask in use. */
function failedStep(update: UpdateEntry, spans: readonly Span[]): StepName | undefined {
  if (update.state === 'rolled_back') {
    const last = update.decisions?.findLast(
      ({ kind, verdict }) => verdict === 'failed' && (kind === 'canary' || kind === 'watch'),
    )
    return last?.kind === 'canary' ? 'canary' : last?.kind === 'watch' ? 'watch' : undefined
  }
  if (update.state !== 'failed' && update.state !== 'cancelled') return undefined
  return spans.at(-1)?.step ?? 'collect'
}

function noteOf(
  name: StepName,
  update: UpdateEntry,
  decisions: readonly DecisionEntry[],
): string | undefined {
  const gates = decisions.filter(({ kind }) => kind === 'gate')
  if (name === 'gate' && gates.length > 0) {
    const last = gates.at(-1)
    const candidate = gates.length > 1 ? `, candidate ${gates.length}` : ''
    if (decisions.some(({ kind }) => kind === 'force')) return 'rejected, forced'
    return last?.verdict === 'passed' ? `passed${candidate}` : `rejected${candidate}`
  }
  if (name === 'calibrate' && update.candidate > 1) return `candidate ${update.candidate}`
  const own = decisions.findLast(({ kind }) => kind === name)
  if (!own) return undefined
  if (own.verdict === 'failed') return name === 'canary' || name === 'watch' ? 'rolled back' : 'failed'
  return undefined
}

/** The job that runs now. */
export function runningJob(update: UpdateEntry): UpdateJob | undefined {
  return update.jobs?.findLast(({ state }) => state === 'running')
}

/** The time that the running job still needs, seconds; `undefined` while that cannot be told. */
export function jobSecondsLeft(update: UpdateEntry, nowMs: number): number | undefined {
  const job = runningJob(update)
  return job?.started_at == null ? undefined : secondsLeft(job.started_at, job.progress, nowMs)
}

/** The trials that an update has or had, in their order, so that their places are there before their scores. */
export function expectedTrials(update: UpdateEntry, watching: boolean): ('canary' | 'watch')[] {
  const has = (kind: DecisionEntry['kind']) =>
    update.decisions?.some((decision) => decision.kind === kind) ?? false
  return [
    ...(update.state === 'canary' || has('canary') ? (['canary'] as const) : []),
    ...(watching || has('watch') ? (['watch'] as const) : []),
  ]
}

/** The steps of an update with their times, from its jobs and decisions. */
import type { DecisionEntry } from '@copal/shared/wire/admin-decisions.ts'
import type { AdaptationPolicy } from '@copal/shared/wire/admin-policy.ts'
import type { NodeEntry, UpdateEntry, UpdateJob, UpdateState } from '@copal/shared/wire/admin.ts'
import { secondsLeft } from '../../format/times.ts'

/** A step of an update. */
export interface UpdateStep {
  name: StepName
  label: string
  /**
   * `skipped`: the policy does not ask for it, or its mask has none. `unreached`: the update ended before. `ended`: it ended
   * without a decision, or the policy did not ask for it, which cannot be told apart later.
   */
  state: 'done' | 'running' | 'failed' | 'cancelled' | 'skipped' | 'unreached' | 'ended' | 'ahead'
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

/** The circumstances of an update that are not in it. */
export interface StepContext {
  /** Whether its mask is watched now. */
  isWatched?: boolean
  /** Steps that it will not have ({@link stepsLeftOut}). */
  leftOut?: ReadonlySet<StepName> | undefined
}

/**
 * Returns the steps of an update with their times.
 *
 * @param update as the response for a single update, with jobs and decisions
 */
export function stepsOf(
  update: UpdateEntry,
  nowMs: number,
  { isWatched: watching = false, leftOut }: StepContext = {},
): UpdateStep[] {
  const spans = spansOf(update, watching, nowMs)
  const running = watching ? 'watch' : STEP_OF_STATE[update.state]
  const failed = failedStep(update, spans)
  const inputs = { update, spans, running, failed, leftOut }
  return STEP_NAMES.map((name) => {
    const own = spans.filter(({ step }) => step === name)
    const state = stateOfStep(name, inputs)
    return {
      name,
      label: LABELS[name],
      state,
      endedAtMs: state === 'running' ? undefined : own.at(-1)?.toMs,
      durationMs: own.length > 0 ? own.reduce((sum, { fromMs, toMs }) => sum + toMs - fromMs, 0) : undefined,
      note: noteOf(name, update),
    }
  })
}

/** What decides the states of an update's steps. */
interface StateInputs {
  update: UpdateEntry
  spans: readonly Span[]
  running: StepName | undefined
  failed: StepName | undefined
  leftOut: ReadonlySet<StepName> | undefined
}

function stateOfStep(
  name: StepName,
  { update, spans, running, failed, leftOut }: StateInputs,
): UpdateStep['state'] {
  if (name === running) return 'running'
  if (name === failed) return update.state === 'cancelled' ? 'cancelled' : 'failed'
  if (spans.some(({ step }) => step === name)) return 'done'
  const end = running ?? failed ?? spans.at(-1)?.step
  const isBehind = end === undefined || STEP_NAMES.indexOf(name) > STEP_NAMES.indexOf(end)
  if (isBehind && running) return leftOut?.has(name) ? 'skipped' : 'ahead'
  if (isBehind && failed) return 'unreached'
  const mayHaveRun = name === 'watch' && end === 'promote' && update.finished_at !== null
  return mayHaveRun && !isUnwatched(update) ? 'ended' : 'skipped'
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
  add('collect', jobs[0]?.createdMs ?? (decisions[0] ? Date.parse(decisions[0].created_at) : endMs))
  // Evaluations of the candidate begin when its mask is registered; those before are of the masks that it is compared with.
  const addCandidate = (untilMs: number) => {
    const evaluation = jobs.find(
      ({ kind, createdMs }) => kind === 'evaluate' && createdMs > fromMs && createdMs <= untilMs,
    )
    const isSelected = !isImported(update)
    if (evaluation && isSelected) add('calibrate', evaluation.createdMs)
    add(isSelected && !evaluation ? 'calibrate' : 'gate', untilMs)
  }
  for (const { kind, created_at: at } of decisions) {
    const atMs = Date.parse(at)
    const step = STEP_NAMES.find((name) => name === kind)
    // The verdict on a mask of a single domain; later decisions of this kind keep or remove such masks.
    const isOwnVerdict = kind === 'own_mask' && spans.length === 1
    if (step === 'gate' || isOwnVerdict) addCandidate(atMs)
    else if (step) add(step, atMs)
    else fromMs = Math.max(fromMs, atMs)
  }
  // A decision has closed the step in which a mask was rejected.
  if (isUndone(update) && decisions.at(-1)?.verdict === 'failed') return spans
  const open = watching ? 'watch' : STEP_OF_STATE[update.ended_in ?? update.state]
  if (open === 'gate') addCandidate(endMs)
  else if (open && open !== 'collect') add(open, watching ? nowMs : endMs)
  // The gateway did not note where earlier updates ended.
  else if (!open && isUndone(update) && jobs.length > 0 && decisions.length === 0) addCandidate(endMs)
  return spans
}

/**
 * Returns the steps that an update will not have: those that the policy does not ask for, the confirmation by a single node, and
 * those that its mask does not have. The gateway decides by the same rules.
 *
 * @param nodes of the fleet; those of other models do not count, nor do those that are silent or draining
 */
export function stepsLeftOut(
  update: UpdateEntry,
  { confirm, canary, watch }: Pick<AdaptationPolicy, 'confirm' | 'canary' | 'watch'>,
  nodes: readonly Pick<NodeEntry, 'model' | 'alive' | 'draining'>[],
): ReadonlySet<StepName> {
  const live = nodes.filter((node) => node.alive && !node.draining && node.model === update.model).length
  const left = new Set<StepName>()
  if (confirm === 1 || (confirm === 'auto' && live < 2) || isImported(update)) left.add('confirm')
  if (!canary.enabled || update.own_domain != null) left.add('canary')
  if (watch.soak_minutes === 0 || isUnwatched(update)) left.add('watch')
  return left
}

/** A mask that follows the dense weights is not watched, nor is one of a single domain or one that an operator forced. */
function isUnwatched(update: UpdateEntry): boolean {
  return update.parent_version === 0 || update.own_domain != null || hasDecision(update, 'force')
}

function hasDecision({ decisions = [] }: UpdateEntry, kind: DecisionEntry['kind']): boolean {
  return decisions.some((decision) => decision.kind === kind)
}

/** An imported mask is there from the beginning: no node selected it. */
function isImported({ jobs, mask_version: version }: UpdateEntry): boolean {
  return version !== null && jobs?.every(({ kind }) => kind === 'evaluate') === true
}

/** It was cancelled, rejected, or a job failed. */
function isUndone({ state }: UpdateEntry): boolean {
  return state === 'cancelled' || state === 'failed'
}

/** The step in which an update ended without its mask in use. */
function failedStep(update: UpdateEntry, spans: readonly Span[]): StepName | undefined {
  if (update.state === 'rolled_back') {
    const last = update.decisions?.findLast(
      ({ kind, verdict }) => verdict === 'failed' && (kind === 'canary' || kind === 'watch'),
    )
    return STEP_NAMES.find((name) => name === last?.kind)
  }
  if (!isUndone(update)) return undefined
  return spans.at(-1)?.step ?? 'collect'
}

function noteOf(name: StepName, update: UpdateEntry): string | undefined {
  const { decisions = [] } = update
  const gates = decisions.filter(({ kind }) => kind === 'gate')
  if (name === 'gate' && gates.length > 0) {
    if (hasDecision(update, 'force')) return 'rejected, forced'
    const candidate = gates.length > 1 ? `, candidate ${gates.length}` : ''
    return `${gates.at(-1)?.verdict === 'passed' ? 'passed' : 'rejected'}${candidate}`
  }
  if (name === 'calibrate' && update.candidate > 1) return `candidate ${update.candidate}`
  if (decisions.findLast(({ kind }) => kind === name)?.verdict !== 'failed') return undefined
  return name === 'canary' || name === 'watch' ? 'rolled back' : 'failed'
}

/** How far the step is that runs. */
export interface StepProgress {
  /** 0 to 1, of all jobs of the step together. */
  progress: number
  /** Time that the step still needs; `undefined` while that cannot be told. */
  secondsLeft: number | undefined
}

/**
 * Returns how far the jobs of the running step are: the candidate and the masks that it is compared with are evaluated one after
 * the other. Jobs that failed do not count: the step goes on without them. The selection of a confirmation is its first half, as
 * an evaluation follows if another mask was selected; the time left is that of the job that runs.
 *
 * @returns `undefined` if no job runs
 */
export function stepProgress(update: UpdateEntry, nowMs: number): StepProgress | undefined {
  const beganMs = spansOf(update, false, nowMs).at(-1)?.fromMs ?? 0
  const ofStep = (update.jobs ?? []).filter(
    ({ state, created_at: at }) => Date.parse(at) >= beganMs && state !== 'failed' && state !== 'cancelled',
  )
  const running = ofStep.filter(({ state }) => state === 'running')
  if (running.length === 0) return undefined
  const isConfirming = update.state === 'confirming'
  const timed = isConfirming ? running : ofStep
  const starts = timed.flatMap(({ started_at: at }) => (at === null ? [] : Date.parse(at)))
  return {
    progress: progressOf(ofStep, isConfirming ? 2 : ofStep.length),
    secondsLeft:
      starts.length === 0
        ? undefined
        : secondsLeft(Math.min(...starts), progressOf(timed, timed.length), nowMs),
  }
}

function progressOf(jobs: readonly UpdateJob[], count: number): number {
  return jobs.reduce((sum, { progress }) => sum + progress, 0) / count
}

/** The trials that an update has or had, in their order, so that their places are there before their scores. */
export function expectedTrials(update: UpdateEntry, watching: boolean): ('canary' | 'watch')[] {
  return [
    ...(update.state === 'canary' || hasDecision(update, 'canary') ? (['canary'] as const) : []),
    ...(watching || hasDecision(update, 'watch') ? (['watch'] as const) : []),
  ]
}

/**
 * A step in three moves: `reserve` what a planned step takes, run it, then `commit` its results or
 * `release` what was reserved. Until `commit` nothing but the reservation has changed.
 */
import { AppError } from '@copal/shared/errors.ts'
import type { SampledToken, SequenceOutput, SequenceWork, StepPlan, StepResult } from '../contract/backend.ts'
import {
  pinOf,
  prefillLength,
  sequenceOf,
  type Request,
  type RequestStatus,
  type Sequence,
} from './engine-request.ts'
import { draftsOf, learnFromDraft } from './drafting.ts'
import type { PlannedWork, PlannedStep } from './planned-step.ts'
import { pagesFor, releasePages, sharePages, takePages } from './page-pool.ts'
import { hasPromptScores, promptScoringOf, storePromptScores } from './prompt-scores.ts'
import { indexFilledPrefixes, cacheFilledPages } from './prefix-reuse.ts'
import { beginScoring } from './scoring-share.ts'
import { scoredTargets } from '../contract/token-scores.ts'
import { leaveStep, pendingDrops, queueDrop, type EngineState } from './engine-state.ts'

const NO_TARGETS = new Int32Array()

/** A planned step whose pages are reserved. */
export interface ReservedStep {
  readonly planned: PlannedStep
  /** The plan for the backend. */
  readonly plan: StepPlan
  /** The sequence of each work of the planned step, in its order. */
  readonly sequences: readonly Sequence[]
  /** State that {@link releaseStep} restores, by request; `pages` is the number that its sequence had. */
  readonly before: ReadonlyMap<Request, { status: RequestStatus; pages: number }>
}

/** Tokens that a step computed, by purpose. */
export interface StepTokens {
  prefillTokens: number
  decodeTokens: number
  draftTokens: number
  scoreTokens: number
}

/** The results of a committed step. */
export interface StepOutcome {
  /** Requests that ran the first step of a sequence, with the number of tokens that were already cached. */
  readonly pinned: readonly { request: Request; cachedTokens: number }[]
  /** Every request that had work in the step and has not ended or restarted meanwhile. */
  readonly progressed: readonly Request[]
  /** The tokens that were sampled, at least one; they are part of the requests' texts. */
  readonly sampled: readonly { request: Request; tokens: readonly SampledToken[] }[]
  /** Scorings that are complete; the caller ends them. */
  readonly scored: readonly Request[]
  /** Embeddings whose sums are complete; the caller ends them. */
  readonly embedded: readonly Request[]
  /** Requests whose own results are not valid; the caller fails them. */
  readonly failed: readonly { request: Request; message: string }[]
}

/** Reserves the pages of a planned step and builds the backend's plan. */
export function reserveStep(state: EngineState, planned: PlannedStep): ReservedStep {
  const { pages } = state
  const before = new Map<Request, { status: RequestStatus; pages: number }>()
  // Before any page is taken: taking one may evict a page that is to be shared.
  for (const { shared } of planned.work) sharePages(pages, shared)
  const sequences = planned.work.map((work) => {
    const { request, to } = work
    const running = sequenceOf(request)
    before.set(request, { status: request.status, pages: running?.pages.length ?? 0 })
    const sequence = running ?? openSequence(state, planned, work)
    const needed = pagesFor(running ? to : request.tokens.length)
    sequence.pages.push(...takePages(pages, needed - sequence.pages.length))
    sequence.inFlight = true
    return sequence
  })
  state.drops.delete(planned.weights)
  const plan: StepPlan = {
    weights: planned.weights,
    work: planned.work.map((work, index) =>
      sequenceWork(work, sequences[index] as Sequence, planned.admissions.includes(work.request)),
    ),
    drop: [...planned.drops],
  }
  return { planned, plan, sequences, before }
}

/**
 * Undoes a reservation after a failed step. The backend may have opened its sequences, so they are queued for dropping.
 *
 * @returns its requests but those that have ended or restarted meanwhile
 */
export function releaseStep(state: EngineState, step: ReservedStep): Request[] {
  const released: Request[] = []
  const { planned, sequences, before } = step
  if (planned.drops.length > 0)
    state.drops.set(planned.weights, [...planned.drops, ...pendingDrops(state, planned.weights)])
  planned.work.forEach(({ request }, index) => {
    const sequence = sequences[index] as Sequence
    const was = before.get(request)
    leaveStep(state, sequence)
    if (sequenceOf(request) !== sequence || !was) return
    released.push(request)
    request.status = was.status
    if (was.status.kind === 'waiting') queueDrop(state, sequence)
    releasePages(state.pages, sequence.pages.splice(was.pages))
  })
  return released
}

/**
 * Applies the results of a step. Results of requests that ended or restarted meanwhile are ignored.
 *
 * @throws AppError `node_failed` before anything is changed when the results do not fit the plan
 */
export function commitStep(state: EngineState, step: ReservedStep, result: StepResult): StepOutcome {
  const { planned, sequences } = step
  checkResult(step, result)
  const pinned: { request: Request; cachedTokens: number }[] = []
  const progressed: Request[] = []
  const scored: Request[] = []
  const embedded: Request[] = []
  const failed: { request: Request; message: string }[] = []
  const sampled: { request: Request; tokens: readonly SampledToken[] }[] = []
  planned.work.forEach((work, index) => {
    const { request } = work
    const sequence = sequences[index] as Sequence
    const output = result.outputs[index] as SequenceOutput
    leaveStep(state, sequence)
    if (sequenceOf(request) !== sequence) return
    progressed.push(request)
    if (step.before.get(request)?.status.kind === 'waiting') {
      pinned.push({ request, cachedTokens: work.from })
      if (request.goal.kind === 'score') beginScoring(state, request.goal, request.tokens.length)
    }
    if (output.kind === 'failed') return void failed.push({ request, message: output.message })
    const tokens = output.kind === 'token' ? [output, ...(output.more ?? [])] : []
    request.tokens.push(...tokens.map(({ token }) => token))
    // Drafts that were not sampled are not part of the text.
    sequence.fed = Math.min(work.to, request.tokens.length - (tokens.length > 0 ? 1 : 0))
    cacheFilledPages(state, request, sequence, work.from, sequence.fed)
    if (request.status.kind === 'prefill') request.turn = ++state.turn
    storePromptScores(request, work.from, output)
    if (output.kind === 'token') {
      if (request.status.kind === 'prefill') indexFilledPrefixes(state, request, sequence)
      request.status = { kind: 'decode', sequence }
      sampled.push({ request, tokens })
      learnFromDraft(work, tokens, state.drafting)
    } else if (output.kind !== 'none' && request.goal.kind !== 'generate') {
      const { goal } = request
      if (goal.kind === 'score') goal.nll.set(output.nll, Math.max(0, work.from + 1 - goal.first))
      if (output.kind === 'hidden_sum' && goal.sum) addHidden(goal.sum, output.sum, work.from === 0)
      if (work.to === prefillLength(request)) (goal.kind === 'score' ? scored : embedded).push(request)
    }
  })
  return { pinned, progressed, sampled, scored, embedded, failed }
}

/** Adds hidden states. A request that prefills from its first token again, after preemption or a restart, starts a new sum. */
function addHidden(sum: Float64Array, part: Float32Array, isFirst: boolean): void {
  if (isFirst) sum.fill(0)
  for (let i = 0; i < sum.length; i++) sum[i] = (sum[i] as number) + (part[i] as number)
}

function openSequence(
  state: EngineState,
  planned: PlannedStep,
  { request, from, shared }: PlannedWork,
): Sequence {
  const sequence: Sequence = {
    id: state.nextSequence++,
    weights: pinOf(request) ?? planned.weights,
    fed: from,
    pages: [...shared],
    scores: request.goal.kind === 'score',
    inFlight: true,
  }
  request.status = { kind: 'prefill', sequence }
  return sequence
}

function sequenceWork(planned: PlannedWork, { id, pages, weights }: Sequence, opens: boolean): SequenceWork {
  const { request, from, to, output } = planned
  const drafts = draftsOf(planned)
  const work: SequenceWork = {
    sequence: id,
    tokens: Int32Array.from([...request.tokens.slice(from, to), ...drafts]),
    position: from,
    output,
  }
  if (drafts.length > 0) work.drafts = drafts.length
  if (weights.paged) work.pages = pages.slice(0, pagesFor(to))
  const { goal } = request
  if (opens && goal.kind === 'generate') work.sampler = goal.sampler
  if (goal.kind === 'generate' && goal.constraint && output === 'token') {
    const masks = goal.constraint.allowedAfter(request.tokens.slice(request.promptTokens), drafts)
    work.allowed = masks.then((all) => all?.[0] ?? null)
    if (drafts.length > 0) work.allowedAfterDrafts = masks.then((all) => all?.slice(1) ?? [])
  }
  if (opens && from > 0) work.cached = Int32Array.from(request.tokens.slice(0, from))
  if (goal.kind === 'score') {
    // Nothing follows the last token.
    const targetAt = (index: number) => (index >= goal.first ? (request.tokens[index] ?? -1) : -1)
    work.targets = Int32Array.from({ length: to - from }, (_, i) => targetAt(from + 1 + i))
  }
  const promptScores = promptScoringOf(request, from, to)
  return promptScores ? { ...work, promptScores } : work
}

function checkResult({ planned, plan }: ReservedStep, { outputs }: StepResult): void {
  const fits =
    outputs.length === planned.work.length &&
    planned.work.every((item, index) => {
      const { output } = item
      const got = outputs[index]
      const work = plan.work[index] as SequenceWork
      if (got?.kind === 'failed') return output === 'none' || output === 'token'
      if (got?.kind !== output) return false
      if (got.kind === 'token' && !followsDrafts(got, draftsOf(item))) return false
      if ('nll' in got && got.nll.length !== scoredTargets({ targets: work.targets ?? NO_TARGETS }))
        return false
      return hasPromptScores(work, got)
    })
  if (!fits)
    throw new AppError('node_failed', 'The backend returned step results that do not match the plan.')
}

/** Whether all tokens but the last one are drafts. */
function followsDrafts(
  { token, more = [] }: Extract<SequenceOutput, { kind: 'token' }>,
  drafts: readonly number[],
): boolean {
  const rightDrafts = [token, ...more.map((next) => next.token)].slice(0, more.length)
  return more.length <= drafts.length && rightDrafts.every((right, index) => right === drafts[index])
}

/**
 * Counts the tokens that a step computed by purpose. A prompt that is prefilled again after a restart counts as prefill,
 * drafts count apart.
 */
export function tokensByKind({ planned }: ReservedStep): StepTokens {
  const tokens = { prefillTokens: 0, decodeTokens: 0, draftTokens: 0, scoreTokens: 0 }
  for (const work of planned.work) {
    const { request, from, to } = work
    const drafts = draftsOf(work).length
    tokens.draftTokens += drafts
    if (request.goal.kind === 'score') tokens.scoreTokens += to - from
    else if (from >= request.promptTokens) tokens.decodeTokens += to - from - drafts
    else tokens.prefillTokens += to - from
  }
  return tokens
}
